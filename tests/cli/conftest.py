"""What all tests of the command share."""

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Nothing that the command sets for its process outlives a test."""
    environ, path = dict(os.environ), list(sys.path)
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
