"""Runs the command `rllib` or Python in a new process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Processes of the current test. tests/cli/conftest.py ends those that outlive it.
STARTED: list[subprocess.Popen] = []


def start(folder: Path, *arguments: str, columns: int = 100) -> subprocess.Popen:
    """Starts ``rllib`` in a folder; its output is read by `finish`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env.update(WANDB_API_KEY="", COLUMNS=str(columns), STARTED_IN=str(folder))
    env.pop("PYTHONWARNINGS", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "rllib_risk", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    return process


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Reads the output up to a line with this text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.communicate())


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """Waits for the command and checks its exit code; returns its stdout and stderr."""
    printed, errors = process.communicate(timeout=500)
    assert process.returncode == code, printed + errors
    return printed, errors


def run_python(folder: Path, *arguments: str) -> str:
    """Runs Python in a folder that is on its module path; returns what it printed."""
    environ = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
