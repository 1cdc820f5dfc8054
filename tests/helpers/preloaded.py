"""Scripts in processes that begin with the heavy packages imported.

Importing them takes most of the time of a short script. Each script still has a process
of its own, so that its modules, registered names and random state do not reach others.
"""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

# Its server imports the packages once, and forks a process for each script.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["rllib_risk.algorithms", "rllib_risk.cli.main"])


def run_script(folder: Path, script: Path) -> str:
    """Runs a script in a folder, whose modules it finds; returns what it printed."""
    output = script.with_suffix(".out")
    process = FORKS.Process(target=_run, args=(folder, script, output))
    process.start()
    process.join(500)
    if process.is_alive():
        process.kill()
        process.join()
    printed = output.read_text()
    assert process.exitcode == 0, printed
    return printed


def _run(folder: Path, script: Path, output: Path) -> None:
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [str(script)]
    runpy.run_path(str(script), run_name="__main__")
    sys.stdout.flush()
