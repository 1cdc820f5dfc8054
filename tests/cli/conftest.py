"""What all tests of the command share."""

import os
import sys
from collections.abc import Iterator

import command
import pytest


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Nothing that the command sets for its process outlives a test."""
    environ, path = dict(os.environ), list(sys.path)
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path


@pytest.fixture(autouse=True)
def no_command_runs_on() -> Iterator[None]:
    """A command whose test failed before its end does not outlive the test."""
    yield
    for process in command.STARTED:
        with process:  # waits, and closes its pipes
            if process.poll() is None:
                process.kill()
    command.STARTED.clear()
