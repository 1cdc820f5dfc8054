"""Commands that play an env which fails, ends the process, or is slow."""

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import command
import faulty_envs
import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.cli import status
from rllib_risk.cli.main import run
from rllib_risk.config.schema import ConfigError
from rllib_risk.env_wrappers import failures, notices

pytestmark = pytest.mark.usefixtures("as_it_was")

ENV = "faulty_envs:Faulty"
CRASH = (
    rf"env 'pettingzoo \({ENV}\)' failed \d times in a row and was given up; last"
    r" cause: EnvContractError: the observation of agent 'a' has shape \(5,\)"
    r".*\(step 3 of the episode\)"
)
NAN = (
    rf"env 'pettingzoo \({ENV}\)': NonFiniteError: the observation of agent 'a' holds"
    r" NaN or inf \(step 3 of the episode\)\. Fix the environment, or set on_nonfinite"
)
ENDLESS = rf"env 'pettingzoo \({ENV}\)': an episode has not ended after \d+ steps"
# Kwargs of the env -> the message.
FAILURES = [
    ({"fault": "shape"}, CRASH),
    ({"fault": "infinite"}, NAN),
    ({"length": 10**9}, ENDLESS),
]

HANG = r"EnvFailedError.*2 times in a row.*step\(\) did not return within 3 s.*step 3"
DIED = "its worker process has died"
LOST = rf"lost 2 times in a row.*{ENV}"
CANCELLED = "TaskCancelledError"
ENDLESS_RUN = rf"EnvContractError: {ENDLESS}"
# Fault -> how a training ends without remote runners, and with two of them.
TRAININGS = {
    "hangs": (HANG, HANG),
    "close hangs": ("done", "done"),
    "interrupts": (CANCELLED, CANCELLED),
    "never ends": (ENDLESS_RUN, ENDLESS_RUN),
    "huge": ("done", "done"),
    "ends the process": (DIED, LOST),
}
HINTS = {
    "interrupts": "The environment may have raised KeyboardInterrupt.",
    "ends the process": "The environment may have ended the process",
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes waits after failures; restores the level that ``-v`` sets."""
    monkeypatch.setattr(failures, "BACKOFF_S", 0.0)
    notices.forget()
    logger = logging.getLogger("rllib_risk")
    level = logger.level
    yield
    logger.setLevel(level)


def env_config(**kwargs: object) -> str:
    return json.dumps({"factory": ENV, "kwargs": kwargs})


def recording(out: Path, **kwargs: object) -> list[str]:
    """Arguments of a command that records episodes of a faulty env."""
    return [
        *("record", str(out), "--env", "pettingzoo", "--policy", "random"),
        *("--env-config", env_config(**kwargs), "--episodes", "1"),
    ]


def checking(**kwargs: object) -> list[str]:
    """Arguments of a command that checks a faulty env."""
    return ["check-env", ENV, "--env-config", json.dumps({"kwargs": kwargs})]


@pytest.fixture(scope="module")
def checkpoint(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of a team that was trained in an env without a fault."""
    config = config_class("VDN")()
    config.environment("pettingzoo", env_config=json.loads(env_config()))
    config.training(hidden_size=8, max_episode_steps=30, max_env_restarts=9)
    config.evaluation_duration = 8
    algorithm = config.build_algo()
    folder = str(tmp_path_factory.mktemp("checkpoint"))
    algorithm.save_checkpoint(folder)
    algorithm.stop()
    return folder


@pytest.fixture
def evaluating(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of an evaluation, which uses the Ray of the test session."""
    monkeypatch.setattr(
        "rllib_risk.cli.session.ray_session", lambda *_: contextlib.nullcontext()
    )
    return ["evaluate", checkpoint, "--trust-code", "--env-config"]


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The only error of a command, which is its last line."""
    printed = capsys.readouterr().err
    assert printed.count("\nError: ") == 1 and "Traceback" not in printed
    return printed.splitlines()[-1]


@pytest.mark.parametrize(("kwargs", "message"), FAILURES)
def test_record_names_env_agent_step_and_cause(
    kwargs: dict, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recording(tmp_path / "some" / "set", **kwargs)) == 1
    assert re.match(f"Error: {message}", the_error(capsys))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kwargs", "message"), FAILURES)
def test_evaluate_names_env_agent_step_and_cause(
    kwargs: dict,
    message: str,
    evaluating: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*evaluating, json.dumps({"kwargs": kwargs})]) == 1
    assert re.match(f"Error: {message}", the_error(capsys))


def test_a_grid_names_env_agent_step_and_cause(
    checkpoint: str,
    evaluating: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = tmp_path / "grid.yaml"
    faults = "{kwargs.fault: ['', infinite]}"
    grid.write_text(f"grid: {faults}\nnominal: {{kwargs.fault: ''}}\nepisodes: 2\n")
    arguments = ["evaluate", checkpoint, "--trust-code", "--shift", str(grid)]
    assert run(arguments) == 1
    assert re.match(f"Error: {NAN}", the_error(capsys))


def test_the_traceback_is_printed_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*recording(tmp_path / "set", fault="shape"), "-v"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_by_the_env_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checking(fault="interrupts")) == 130
    assert capsys.readouterr().err == f"Checking {ENV} ...\nInterrupted.\n"
    assert run(recording(tmp_path / "set", fault="interrupts")) == 130
    *_, playing, last = capsys.readouterr().err.splitlines()
    assert playing == f"Playing env 'pettingzoo ({ENV})' ..." and last == "Interrupted."
    assert not list(tmp_path.iterdir())


def test_an_env_that_ends_the_process_is_named_before(tmp_path: Path) -> None:
    shutil.copy(faulty_envs.__file__, tmp_path)
    check = command.start(tmp_path, *checking(fault="ends the process"))
    record = command.start(
        tmp_path, *recording(tmp_path / "set", fault="ends the process")
    )
    assert command.finish(check, 9)[1] == f"Checking {ENV} ...\n"
    last = command.finish(record, 9)[1].splitlines()[-1]
    assert last == f"Playing env 'pettingzoo ({ENV})' ..."
    assert not (tmp_path / "set").exists()


def test_evaluate_counts_the_episodes_that_were_played_again(
    evaluating: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*evaluating, "{}"]) == 0
    assert "num_env_crashes" not in capsys.readouterr().out
    some = {"factory": "faulty_envs:Walk", "kwargs": {"step_crash": 0.05}}
    assert run([*evaluating, json.dumps(some), "--episodes", "30"]) == 0
    shown = re.search(r"^num_env_crashes +(\d+)$", capsys.readouterr().out, re.M)
    assert shown and int(shown[1]) > 0


def test_status_lines_of_commands_that_play(
    tmp_path: Path,
    evaluating: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status, "STATUS_S", 0.01)
    slow = {"sleep_s": 0.005}
    for arguments in (
        [*checking(length=20, **slow)],
        [*recording(tmp_path / "set", **slow)],
        [*evaluating, json.dumps({"kwargs": slow})],
    ):
        assert run(arguments) == 0
        said = capsys.readouterr().err
        # The counts are those of the process, which has played in other tests.
        line = r"^still running.*played [\d,]+ episodes \| [1-9][\d,]* env steps"
        assert re.search(line, said, re.M), said


@pytest.mark.parametrize(
    ("slow", "arguments"),
    [
        ("rllib_risk.data.dataset.Dataset.__init__", "dataset check {0}"),
        (
            "rllib_risk.data.importing.importer.import_files",
            "dataset import {0}/new {0} --map {0}/map.yaml",
        ),
        (
            "rllib_risk.data.importing.inference.infer_map",
            "dataset import --infer {0} --map {0}/new.yaml",
        ),
        ("rllib_risk.cli.off_policy.run_off_policy", "evaluate {0} --dataset {0}"),
    ],
)
def test_status_lines_of_commands_that_read(
    slow: str,
    arguments: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(*args: object, **more: object) -> None:
        time.sleep(0.4)
        raise ConfigError("done.")

    monkeypatch.setattr(status, "STATUS_S", 0.1)
    monkeypatch.setattr(slow, work)
    assert run(arguments.format(tmp_path).split()) == 2
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith(" ...") and second.startswith("still running, 0 s after")


FIRST_LINES = """
import sys
from rllib_risk.cli import output
from rllib_risk.cli.main import run

class Stop(BaseException):
    pass

def stop(text, **more):
    slow = {"ray", "torch", "pyarrow", "pandas"} & set(sys.modules)
    print(text, slow)
    raise Stop

output.err.print = output.out.print = stop
for line in sys.stdin:
    try:
        run(line.split())
    except Stop:
        pass
"""


def test_the_first_line_comes_before_the_slow_imports(tmp_path: Path) -> None:
    commands = [
        "check-env macn",
        "record OUT --env macn --policy random",
        "evaluate CHECKPOINT",
        "evaluate CHECKPOINT --shift grid.yaml",
        "evaluate CHECKPOINT --dataset DATA",
        "dataset check DATA",
        "dataset import OUT log.csv --map map.yaml",
        "dataset import --infer log.csv",
    ]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LINES],
        input="\n".join(commands),
        env={**os.environ, "PYTHONPATH": str(command.ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(commands), done.stderr
    assert all(line.endswith(" ... set()") for line in lines), lines


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("runners", [0, 2])
def test_a_training_ends_with_its_cause_or_trains(tmp_path: Path, runners: int) -> None:
    """R15: one message for each fault, from the command. R16: hangs are faults too."""
    shutil.copy(faulty_envs.__file__, tmp_path)
    runs = {name.replace(" ", "-"): training(name, runners) for name in TRAININGS}
    (tmp_path / "f.yaml").write_text(json.dumps(runs))
    options = ("--storage-path", "out", "--ray-num-cpus", "4")
    process = command.start(tmp_path, "train", "file", "f.yaml", *options)
    printed, errors = command.finish(process, 1)
    assert "Traceback" not in errors
    _, ends = printed.split("How the experiments ended:\n")
    lines = ends.splitlines()
    for (fault, texts), line in zip(TRAININGS.items(), lines, strict=True):
        text = texts[runners > 0]
        expected = text if text == "done" else f"failed: .*{text}"
        assert re.match(rf"  {fault.replace(' ', '-')} +{expected}", line), line
        if runners == 0:
            assert HINTS.get(fault, "") in errors


def training(fault: str, runners: int) -> dict[str, object]:
    """An experiment of two short iterations in an env with a fault."""
    return {
        "run": "VDN",
        "env": "pettingzoo",
        "stop": {"training_iteration": 2},
        "config": {
            "seed": 1,
            "hidden_size": 8,
            "batch_size_episodes": 4,
            "learning_starts_episodes": 4,
            "num_env_runners": runners,
            "num_envs_per_env_runner": 2,
            "min_sample_timesteps_per_iteration": 20,
            "evaluation_duration": 2,
            "max_episode_steps": 50,
            "max_env_restarts": 2,
            "env_timeout_s": 3,
            "env_config": json.loads(env_config(fault=fault)),
        },
    }
