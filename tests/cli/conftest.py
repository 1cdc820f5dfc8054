"""Fixtures that all tests of the command share."""

import os
import sys
from collections.abc import Iterator

import command
import pytest


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Restores the environment variables and the import path after a test."""
    environ, path = dict(os.environ), list(sys.path)
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path


@pytest.fixture(autouse=True)
def no_command_runs_on() -> Iterator[None]:
    """Kills the commands that a failed test left running."""
    yield
    for process in command.STARTED:
        with process:  # waits, and closes its pipes
            if process.poll() is None:
                process.kill()
    command.STARTED.clear()
