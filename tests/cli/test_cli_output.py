"""Progress lines, causes of errors, interrupts and tracking, without Ray."""

import contextlib
import math
import os
import signal
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rllib_risk.algorithms import VDNConfig
from rllib_risk.cli import main as main_module
from rllib_risk.cli import tracking
from rllib_risk.cli.evaluate import json_safe
from rllib_risk.cli.interrupt import Interrupt
from rllib_risk.cli.option_groups import WandbOptions
from rllib_risk.cli.preflight import first_iteration
from rllib_risk.cli.progress import (
    STEPS,
    ProgressLines,
    Timer,
    duration,
    flatten,
    format_line,
)
from rllib_risk.cli.result_lines import print_table
from rllib_risk.cli.root_cause import root_cause
from rllib_risk.cli.session import _check_address
from rllib_risk.cli.signals import sigterm_held_back
from rllib_risk.config.schema import ConfigError
from rllib_risk.core import progress


def test_duration() -> None:
    assert [duration(s) for s in (0.4, 59.6, 200, 7500)] == [
        "0 s",
        "1 min 0 s",
        "3 min 20 s",
        "2 h 5 min",
    ]


def result(steps: int, seconds: float, iteration: int, restored: int = 0) -> dict:
    return {
        STEPS: steps,
        "time_total_s": seconds,
        "training_iteration": iteration,
        "iterations_since_restore": iteration - restored,
    }


def test_time_left_of_a_new_trial() -> None:
    episodes = "num_episodes_lifetime"
    timer, stop = Timer(), {STEPS: 10_000, "training_iteration": 5, episodes: 60}
    timer.update(result(1000, 10, 1) | {episodes: 10}, stop)
    # 100 steps/s leave 90 s for the steps. 10 s per iteration leave 40 s for the
    # iterations. There is one episode per second.
    assert timer.per_s(STEPS) == 100
    assert timer.seconds_left(stop) == 40
    assert timer.seconds_left({episodes: 60}) == 50
    assert timer.seconds_left({"evaluation/return_mean": 3}) is None


def test_time_left_of_a_resumed_trial_ignores_the_time_before() -> None:
    timer, stop = Timer(), {STEPS: 10_000}
    timer.update(result(5000, 1000, 6, restored=5), stop)
    assert timer.seconds_left(stop) is None
    timer.update(result(6000, 1010, 7, restored=5), stop)
    # 1000 steps in 10 s since the restart: 4000 steps take 40 s.
    assert timer.seconds_left(stop) == 40


def test_the_line_of_a_team() -> None:
    flat = flatten(
        {
            **result(20_000, 10, 1),
            "env_steps_per_s": 1234.5,
            "epsilon": 0.62,
            "evaluation": {
                "return_mean": -12.34,
                "return_cvar_10": -50,
                "success_rate": 0.456,
            },
        }
    )
    timer = Timer()
    timer.update(flat, {STEPS: 40_000})
    line = format_line(flat, timer, {STEPS: 40_000}, "[00001 lr=0.1]")
    assert " ".join(line.split()) == (
        "[00001 lr=0.1] 20,000 steps | 1234 steps/s | return -12.34"
        " | CVaR 10% -50.00 | success 46% | epsilon 0.62 | left 10 s"
    )
    flat["num_env_crashes_lifetime"] = 3
    assert format_line(flat, timer, {}).endswith("epsilon 0.62 | 3 lost | left -")
    flat["evaluation/success_rate"] = math.nan
    assert "success -" in " ".join(format_line(flat, timer, {}).split())


def test_the_line_of_rllibs_own_algorithms() -> None:
    flat = flatten(
        {
            **result(4000, 2, 1),
            "env_runners": {"episode_return_mean": 21.5, "episode_len_mean": 21.5},
        }
    )
    timer = Timer()
    timer.update(flat, {})
    assert " ".join(format_line(flat, timer, {}).split()) == (
        "4,000 steps | 2000 steps/s | return 21.50 | length 22 | left -"
    )


def test_root_cause() -> None:
    text = """Failure # 1 (occurred at ...)
Traceback (most recent call last):
  File "x.py", line 1, in f
ray.exceptions.RayTaskError(EnvFailedError): ray::VDN.train() (pid=1)
  File "y.py", line 2, in g
    raise EnvFailedError("env 'x' failed")
rllib_risk.env_wrappers.errors.EnvFailedError: env 'x' failed
  with a second line
"""
    assert root_cause(text) == (
        "rllib_risk.env_wrappers.errors.EnvFailedError: env 'x' failed\n"
        "    with a second line"
    )
    assert root_cause("") == "unknown cause"
    # Tune's error contains another traceback, with pages of text below it.
    error = "TuneError: " + text.replace("second", "long " * 99) + "  more\n" * 1000
    assert root_cause(error).startswith("rllib_risk.env_wrappers.errors.EnvFail")
    assert len(root_cause(error)) < 600
    # An exception without traceback, whose message has lines with colons.
    assert root_cause("ValueError: no\nknown: a, b") == "ValueError: no\n  known: a, b"


def test_ctrl_c_pauses_trials_and_then_ends_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt = Interrupt(grace_s=1000)
    scheduler = interrupt.pause_trials(FIFOScheduler())
    trial = types.SimpleNamespace(status=Trial.RUNNING, trial_id="t")
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))

    assert scheduler.on_trial_result(None, trial, {}) == TrialScheduler.CONTINUE
    interrupt.on_step_end(0, [trial])
    assert not sent

    interrupt._on_signal(signal.SIGINT, None)
    assert interrupt.requested
    # Pausing writes the trial's checkpoint, and the trial must not start again.
    assert scheduler.on_trial_result(None, trial, {}) == TrialScheduler.PAUSE
    assert scheduler.choose_trial_to_run(None) is None
    interrupt.on_step_end(1, [trial])
    assert not sent
    trial.status = Trial.PAUSED
    interrupt.on_step_end(2, [trial])
    assert sent == [(os.getpid(), signal.SIGUSR1)]
    assert interrupt.killed == []
    assert interrupt.exit_code == 130
    with pytest.raises(KeyboardInterrupt):
        interrupt._on_signal(signal.SIGINT, None)


def test_a_time_budget_waits_for_the_trials_and_a_signal_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt = Interrupt(time_budget_s=0.0, grace_s=0)
    state = types.SimpleNamespace(ray_actor=None)
    trial = types.SimpleNamespace(
        status=Trial.RUNNING, trial_id="t", temporary_state=state
    )
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    scheduler = interrupt.pause_trials(FIFOScheduler())
    interrupt.listen()
    interrupt.on_step_end(1, [trial])
    assert scheduler.on_trial_result(None, trial, {}) == TrialScheduler.PAUSE
    assert (interrupt.exit_code, sent) == (0, [])
    interrupt._on_signal(signal.SIGTERM, None)
    interrupt.on_step_end(2, [trial])
    assert (interrupt.exit_code, interrupt.killed) == (143, ["t"])
    assert sent == [(os.getpid(), signal.SIGUSR1)]


@pytest.mark.parametrize("raised", [False, True])
def test_sigterm_waits_until_ray_has_started_and_keeps_its_handler(
    raised: bool,
) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    ours = signal.getsignal(signal.SIGTERM)
    try:
        with contextlib.suppress(ConnectionError), sigterm_held_back():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
            os.kill(os.getpid(), signal.SIGTERM)
            assert came == []
            if raised:
                raise ConnectionError
        assert came == ([] if raised else [signal.SIGTERM])
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stop_criterion_that_no_result_holds_is_named_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop = {"evaluation/wins": 3.0, "evaluation/return_mean": 9.0, STEPS: 99.0}
    lines = ProgressLines(stop, evaluates=True)
    trial = types.SimpleNamespace(
        trial_id="t", custom_trial_name=None, evaluated_params={}, config={}
    )
    lines.on_trial_result(1, [trial], trial, result(10, 1, 1))
    assert "Warning" not in capsys.readouterr().err
    for iteration in (2, 3):
        evaluation = {"evaluation": {"return_mean": 1.0, "losses": 2.0}}
        info = result(10, 1, iteration) | evaluation
        lines.on_trial_result(1, [trial], trial, info)
    message = " ".join(capsys.readouterr().err.split())
    assert message.count("Warning: stop: no result contains evaluation/wins") == 1
    assert message.count("Warning") == 1
    assert "evaluation/losses, evaluation/return_mean" in message


def test_a_silent_trial_gets_status_lines(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(progress.FOLDER, str(tmp_path))
    clock = [1000.0]
    time = types.SimpleNamespace(monotonic=lambda: clock[0])
    monkeypatch.setattr("rllib_risk.cli.progress.time", time)
    lines = ProgressLines({}, evaluates=True, status_s=30)
    trials = [
        types.SimpleNamespace(
            trial_id=name,
            custom_trial_name=name,
            evaluated_params={},
            config={},
            status=Trial.RUNNING,
        )
        for name in "ab"
    ]

    def status() -> str:
        clock[0] += 31
        lines.on_step_end(1, trials)
        return " ".join(capsys.readouterr().out.split())

    lines.on_step_end(1, trials)
    assert capsys.readouterr().out == ""  # they have only just begun
    begun = "31 s after the last line: starting"
    assert status() == (
        f"2 trials still running, {begun} | 0 episodes | 0 env steps | 0 updates"
    )
    # Of trials that wait, only those count that no running trial holds up.
    trials[1].status = Trial.PENDING
    assert status().startswith("still running")
    trials[0].status = Trial.PENDING
    lines.on_step_end(1, trials)
    capsys.readouterr()
    assert status().startswith("2 trials still running")
    trials[0].status = Trial.RUNNING
    lines.on_step_end(1, trials)
    # The status shows what the trial itself wrote, also before its first result.
    writer = progress.ProgressWriter("a", every_s=0)
    writer.write(lambda: progress.Progress("sampling", 5, 1234, 7, 2))
    trials[1].status = Trial.TERMINATED
    assert "sampling | 5 episodes | 1,234 env steps | 7 updates | 2 lost" in status()
    # A result without an evaluation prints no line.
    lines.on_trial_result(1, trials, trials[0], result(10, 1, 1))
    assert "1,234 env steps" in status()
    lines.on_trial_result(
        1, trials, trials[0], result(10, 1, 1) | {"evaluation": {"return_mean": 1.0}}
    )
    capsys.readouterr()
    lines.on_step_end(1, trials)
    assert capsys.readouterr().out == ""
    # On a machine without the folder, the trial writes nothing and does not fail.
    monkeypatch.setenv(progress.FOLDER, str(tmp_path / "elsewhere"))
    progress.ProgressWriter("a").write(
        lambda: progress.Progress("learning", 1, 1, 1, 0)
    )
    assert "training | 0 episodes | 10 env steps" in status()


def test_a_trial_that_takes_too_long_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt = Interrupt(grace_s=0)
    state = types.SimpleNamespace(ray_actor=None)
    trial = types.SimpleNamespace(
        status=Trial.RUNNING, trial_id="t", temporary_state=state
    )
    monkeypatch.setattr(os, "kill", lambda *args: None)
    interrupt._on_signal(signal.SIGINT, None)
    interrupt.on_step_end(1, [trial])
    assert interrupt.killed == ["t"]


class FakeRun:
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.steps: list[int] = []
        self.exit_code: int | None = None
        self.summary: dict[str, float] = {}
        self.config: dict[str, Any] = {}

    def log(self, values: dict, step: int) -> None:
        self.steps.append(step)
        self.values = values

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def wandb_runs(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """Replaces W&B and collects the runs that are started."""
    runs: list[FakeRun] = []

    def init(**arguments: Any) -> FakeRun:
        runs.append(FakeRun(**arguments))
        return runs[-1]

    module = types.SimpleNamespace(
        __spec__=types.SimpleNamespace(),
        init=init,
        Settings=lambda **values: types.SimpleNamespace(
            base_url="https://none.invalid", **values
        ),
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setattr(tracking, "_has_login", lambda host: False)
    return runs


def test_wandb_steps_are_env_steps_and_never_repeat(
    wandb_runs: list[FakeRun], tmp_path: Path
) -> None:
    """R31: steps do not repeat after SIGKILL and --resume either."""
    trial = types.SimpleNamespace(
        trial_id="a_00000", local_path=str(tmp_path / "t"), config={"lr": 1, "f": len}
    )
    callback = tracking.WandbRuns(WandbOptions("project"), "group", str(tmp_path))
    for steps, value in ((100, 2.0), (200, 1.0)):
        info = {STEPS: steps, "evaluation": {"return_mean": value, "bad": math.nan}}
        callback.on_trial_result(1, [trial], trial, {**info, "config": {"lr": 1}})
    (run,) = wandb_runs
    assert run.arguments["mode"] == "offline"
    assert run.arguments["id"] == "a_00000"
    assert run.steps == [100, 200]
    assert run.values == {STEPS: 200.0, "evaluation/return_mean": 1.0}
    assert run.summary["best/evaluation/return_mean"] == 2.0
    assert run.summary["best/evaluation/return_mean_step"] == 100
    callback.on_trial_error(1, [trial], trial)
    assert run.exit_code == 1

    # A resumed experiment repeats the steps since its last checkpoint. After SIGKILL,
    # Tune has not even stored the state of this callback.
    resumed = tracking.WandbRuns(WandbOptions("project"), "group", str(tmp_path))
    for steps in (200, 300):
        # The evaluation is repeated from an earlier result.
        old = {"return_mean": 9.0, "age_iterations": 1}
        resumed.on_trial_result(1, [trial], trial, {STEPS: steps, "evaluation": old})
    resumed.on_experiment_end([trial])
    assert wandb_runs[1].arguments["id"] == "a_00000"
    assert wandb_runs[1].steps == [300]
    assert wandb_runs[1].values == {STEPS: 300.0}
    assert wandb_runs[1].summary["best/evaluation/return_mean"] == 2.0
    assert wandb_runs[1].exit_code == 0


def test_wandb_without_a_network_is_offline(
    wandb_runs: list[FakeRun], capsys: pytest.CaptureFixture[str]
) -> None:
    """R31: the server cannot be reached."""
    assert tracking.choose_mode(WandbOptions("p", key="k" * 40)) == "offline"
    message = capsys.readouterr().err
    assert "none.invalid cannot be reached" in message
    assert "kkk" not in message


def test_wandb_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """R31: the option is refused before the start; without it nothing needs W&B."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="package wandb is not installed"):
        WandbOptions("project")
    assert WandbOptions().project is None


@pytest.mark.parametrize("form", [["--wandb-key", "SECRET"], ["--wandb-key=SECRET"]])
def test_the_wandb_key_leaves_the_command_line(
    monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, args: started.append(args))
    monkeypatch.setenv("WANDB_API_KEY", "")
    command = ["rllib", "train", "file", "x.yaml", *form, "--seed", "1"]
    monkeypatch.setattr(sys, "argv", command)
    main_module._hide_key()
    kept = ["-m", "rllib_risk", "train", "file", "x.yaml", "--seed", "1"]
    assert started == [[sys.executable, *kept]]
    assert os.environ["WANDB_API_KEY"] == "SECRET"


def test_json_has_no_nan() -> None:
    import numpy as np

    value = {"a": math.nan, "b": [np.float32(0.5), np.arange(2)], "c": math.inf}
    assert json_safe(value) == {"a": None, "b": [0.5, [0, 1]], "c": None}


@pytest.mark.parametrize(("level", "shown"), [(1.0, False), (0.5, True)])
def test_evaluation_omits_uninformative_rows(
    level: float, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = {"risk_level_mean": level, "risk_level_agent_0": level}
    unknown = {"return_std": math.nan, "episode_limit": 1.0}
    print_table({"episodes": 4, "return_mean": 2.5, **levels, **unknown})
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["episodes", "return_mean", *(levels if shown else ())]


def test_an_evaluation_prints_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    # Mean 1 and standard error 1 of two returns: see test_interval_of_a_mean_by_hand.
    result = {"return_mean": 1.0, "return_std": math.sqrt(2), "return_cvar_10": 0.0}
    print_table({**result, "returns": [0.0, 2.0]})
    lines = [line.partition("95 % interval ") for line in _printed(capsys)]
    assert [line[2] for line in lines] == [
        "[-11.7062, 13.7062]",
        "",
        "[0.0000, 2.0000]",
    ]
    # One episode has no interval, and RLlib's own algorithms report no deviation.
    print_table({**result, "returns": [1.0]})
    print_table({"return_mean": 1.0, "returns": [0.0, 2.0]})
    assert "interval" not in "".join(_printed(capsys))


def _printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_stop_within_the_first_iteration_is_announced() -> None:
    config = VDNConfig()
    assert first_iteration({STEPS: 10_000}, config) == ""
    assert first_iteration({"training_iteration": 1}, config) == ""
    line = first_iteration({STEPS: 2_000}, config)
    assert "2,000 env steps" in line and "after 10,000 env steps" in line


def test_a_cluster_that_does_not_answer_is_one_message() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # nothing listens there
        for name in (address, f"ray://{address}"):
            with pytest.raises(ConfigError, match=f"--ray-address: .*'{name}'"):
                _check_address(name)
        free.listen()
        _check_address(address)
    _check_address("auto")
