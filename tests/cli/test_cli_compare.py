"""``rllib compare``: what it refuses, and whole runs in processes of their own."""

import csv
import json
import re
import signal
import subprocess
from pathlib import Path

import command
import pytest
from command import finish
from refusals import refused

from rllib_risk.cli.main import run

OPTIONS = ["compare", "c.yaml", "--out", "results"]
TEXT = """\
env: two_step
stop: {num_env_steps_sampled_lifetime: 400}
seeds: [1, 2]
threshold: 5
config:
  min_sample_timesteps_per_iteration: 200
  num_envs_per_env_runner: 8
  evaluation_duration: 4
  hidden_size: 8
algorithms:
  VDN:
  QMIX-fast: {run: QMIX, config: {lr: 0.01}}
"""
# Fails after 300 env steps: in a trial's first iteration, if its iterations are long.
BURNING = """
from rllib_risk.env_wrappers.games.two_step import TwoStepGame
class Burning(TwoStepGame):
    steps = 0
    def step(self, actions):
        Burning.steps += 1
        if Burning.steps > 300:
            raise RuntimeError("the simulator is on fire")
        return super().step(actions)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Restores what `prepare` changes after the test.
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (
        "TUNE_DISABLE_SIGINT_HANDLER",
        "TUNE_PRINT_ALL_TRIAL_ERRORS",
        "RAY_AIR_NEW_OUTPUT",
        "PYTHONWARNINGS",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    ):
        monkeypatch.setenv(name, "0" if name != "PYTHONWARNINGS" else "default")
    (tmp_path / "c.yaml").write_text(TEXT)
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "hidden_size: 8",
            "hiden_size: 8",
            "c.yaml:9: unknown key 'hiden_size' of VDN",
        ),
        ("lr: 0.01", "lrr: 0.01", "c.yaml:12: unknown key 'lrr' of QMIX"),
        ("two_step", "two_stepp", "c.yaml:1: env: unknown environment 'two_stepp'"),
        ("run: QMIX", "run: QMXI", "c.yaml:12: run: unknown algorithm 'QMXI'"),
        ("run: QMIX", "run: PPO", "c.yaml:9: unknown key 'hidden_size' of PPO"),
        # Only a check of the whole configuration finds these.
        (
            "lr: 0.01",
            "batch_size_episodes: 99",
            "c.yaml:12: learning_starts_episodes (32) must be",
        ),
        ("hidden_size: 8", "env_config: {state: none}", "'qmix' needs a global state"),
    ],
)
def test_files(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    message: str,
) -> None:
    (folder / "c.yaml").write_text(TEXT.replace(old, new))
    printed = refused(["compare", "c.yaml", "--out", "results"], capsys)
    assert message in printed
    if "of VDN" not in printed and "c.yaml:1:" not in printed:
        # The message names the label that is wrong.
        assert "(In 'QMIX-fast'.)" in printed
    # The correct label has not started either.
    assert [path.name for path in folder.iterdir()] == ["c.yaml"]


def test_what_reports_no_common_result_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TEXT.replace("{run: QMIX, config: {lr: 0.01}}", "{run: PPO}")
    text = re.sub(r"config:\n(  .*\n)*", "", text, count=1)
    (folder / "c.yaml").write_text(text)
    message = refused(["compare", "c.yaml", "--out", "results"], capsys)
    assert "PPO reports env_runners/episode_return_mean, but VDN rep" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a file; or --algo and --env"),
        (["--env", "two_step"], "give a file; or --algo and --env"),
        (["none.yaml"], "no such file"),
        (["train.yaml"], "this is a training file"),
        (["c.yaml", "--env", "macn"], "for a comparison without a file"),
        (["c.yaml", "--algo", "QMIX"], "Did you mean 'QMIX-fast'"),
        (["c.yaml", "--seeds", "4-1"], "--seeds: write '0-4'"),
        (["c.yaml", "--seeds", "1,1"], "seeds: 1 is given twice"),
        (["c.yaml", "--stop", '{"retrn": 1}'], "unknown metric"),
        (["c.yaml", "--out", "."], "exists already"),
        (["c.yaml", "--out", "none", "--resume"], "no stopped comparison"),
        (["c.yaml", "--wandb-key", "x"], "--wandb-key needs --wandb-project"),
        (["--env=two_step", "--algo=VDN,RMXI", "--stop={}"], "'stop' is missing"),
        (
            ["--env=two_step", "--algo=VDN,RMXI", '--stop={"time_total_s": 1}'],
            "command line: run: unknown algorithm 'RMXI'. Did you mean 'RMIX'",
        ),
    ],
)
def test_options(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (folder / "train.yaml").write_text("mine:\n  run: VDN\n  env: two_step\n")
    assert message in refused(["compare", *arguments], capsys)


def test_imports_of_the_file_and_of_the_command_are_both_used(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "c.yaml").write_text(f"{TEXT}imports: [no_such_one]\n")
    (folder / "mine.py").write_text("")
    arguments = ["compare", "c.yaml", "--import", "mine"]
    message = "c.yaml:13: imports: cannot import module 'no_such_one'"
    assert message in refused(arguments, capsys)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "--help"]) == 0
    assert "--max-concurrent" in capsys.readouterr().out


def test_train_file_names_this_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(["train", "file", "c.yaml"], capsys)
    assert "Run it with: rllib compare c.yaml" in message


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    return command.start(folder, *arguments, columns=160)


def table(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return {row["label"]: row for row in csv.DictReader(file)}


def last_result(trial: Path) -> dict:
    return json.loads((trial / "result.json").read_text().splitlines()[-1])


def test_two_algorithms_two_seeds(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TEXT)
    printed, _ = finish(start(tmp_path, *OPTIONS))
    results = tmp_path / "results"
    for label in ("VDN", "QMIX-fast"):
        values, levels = [], []
        for seed in (1, 2):
            assert re.search(rf"\[{label} seed {seed}\] +208 steps \| ", printed)
            last = last_result(results / f"{label}_seed_{seed}")
            assert last["seed"] == seed
            values.append(last["evaluation"]["return_mean"])
            levels.append(last["evaluation"]["return_cvar_10"])
        row = table(results)[label]
        assert (row["num_runs"], row["planned"]) == ("2", "2")
        # The interquartile mean of two is their mean.
        assert float(row["final_iqm"]) == pytest.approx(sum(values) / 2)
        assert float(row["cvar"]) == pytest.approx(sum(levels) / 2)
        assert f"| {label} | 2 |" in (results / "table.md").read_text()
        assert re.search(rf"rllib evaluate .*{label}_seed_\d/.*  # {label}", printed)
    assert last_result(results / "QMIX-fast_seed_1")["config"]["lr"] == 0.01
    assert (results / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in ("table.md", "table.csv", "curves.png", "curves.csv", "results.json"):
        assert f"Wrote {results / name}" in printed


def test_resume_after_ctrl_c_runs_the_remaining_trials(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TEXT.replace("lifetime: 400", "lifetime: 1000")
    (folder / "c.yaml").write_text(text.replace("[1, 2]", "[1]"))
    # One trial at a time, so one runs and one waits when Ctrl-C comes.
    options = [*OPTIONS, "--max-concurrent", "1"]
    process = start(folder, *options)
    assert process.stdout is not None
    for line in process.stdout:
        if " steps | " in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = finish(process, code=130)
    assert "--resume" in errors and "Traceback" not in errors
    results = folder / "results"
    assert not (results / "table.csv").exists()
    assert not (results / "QMIX-fast_seed_1").exists()
    message = refused([*options, "--resume", "--seeds", "1-3"], capsys)
    assert "began with other algorithms or seeds" in message
    stop = '{"training_iteration": 9}'
    message = refused([*options, "--resume", "--stop", stop], capsys)
    assert "began with other settings of VDN, QMIX-fast" in message

    finish(start(folder, *options, "--resume"))
    for name in ("VDN_seed_1", "QMIX-fast_seed_1"):
        lines = (results / name / "result.json").read_text().splitlines()
        # An iteration has 208 env steps. The two runs join without gap or repetition.
        iterations = [json.loads(line)["training_iteration"] for line in lines]
        assert iterations == [1, 2, 3, 4, 5], name
    assert [row["num_runs"] for row in table(results).values()] == ["1", "1"]


def test_failed_trials_are_named_and_the_rest_gives_a_table(tmp_path: Path) -> None:
    (tmp_path / "burning.py").write_text(BURNING)
    text = (
        TEXT.replace("two_step", "pettingzoo")
        .replace("lifetime: 400", "lifetime: 200")
        .replace("[1, 2]", "[1]")
        .replace(
            "config:\n", "config:\n  env_config: {factory: 'burning:Burning'}\n", 1
        )
        .replace("{lr: 0.01}", "{min_sample_timesteps_per_iteration: 1000}")
    )
    (tmp_path / "c.yaml").write_text(text)
    printed, errors = finish(start(tmp_path, *OPTIONS), code=1)
    assert "trial QMIX-fast seed 1 failed" in errors
    assert "trial VDN" not in errors
    assert "the simulator is on fire" in errors and "Traceback" not in errors
    rows = table(tmp_path / "results")
    assert (rows["VDN"]["num_runs"], rows["QMIX-fast"]["num_runs"]) == ("1", "0")
    assert re.search(r"QMIX-fast +0 of 1", printed)
