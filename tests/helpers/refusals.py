"""Runs commands that must be refused before anything starts."""

import pytest
import ray

from rllib_risk.cli.main import run


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must be refused; returns its message."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    # Lines about what the command is about to do come before the error.
    *begun, error = captured.err.splitlines(keepends=True)
    assert all(line.endswith(" ...\n") for line in begun)
    assert error.startswith("Error: ") and error.endswith("\n")
    assert not ray.is_initialized()
    return error
