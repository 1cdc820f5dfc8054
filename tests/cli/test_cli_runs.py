"""Whole runs of the command, each in a process of its own."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
VDN = """
vdn-two-step:
  run: VDN
  env: two_step
  stop: {num_env_steps_sampled_lifetime: 400}
  config:
    min_sample_timesteps_per_iteration: 200
    num_envs_per_env_runner: 8
    evaluation_duration: 4
    hidden_size: 8
    seed: {grid_search: [1, 2]}
"""
PPO = """
cartpole-ppo:
  env: CartPole-v1
  run: PPO
  stop: {training_iteration: 1}
  config:
    framework: torch
    num_workers: 0
    train_batch_size: 200
    minibatch_size: 50
    num_epochs: 1
    lr: 3e-4
    model: {fcnet_hiddens: [8], vf_share_layers: true}
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    env.update(WANDB_API_KEY="", COLUMNS="100")
    env.pop("PYTHONWARNINGS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "rllib_risk", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == code, printed + errors
    return printed, errors


def test_rllibs_own_algorithms_run_from_old_files(tmp_path: Path) -> None:
    (tmp_path / "ppo.yaml").write_text(PPO)
    printed, _ = finish(
        start(tmp_path, "train", "file", "ppo.yaml", "--storage-path", "results")
    )
    assert re.search(r"200 steps \| .*return +[0-9.]+ \| length", printed)
    trial = next((tmp_path / "results/cartpole-ppo").glob("PPO_*"))
    # The loggers that Tune's users expect.
    assert next(trial.glob("events.out.tfevents.*")).stat().st_size > 0
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])
    assert last["training_iteration"] == 1
    with (trial / "progress.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    assert f"rllib evaluate {trial}/checkpoint_000000 --algo PPO" in printed


def test_train_then_evaluate(tmp_path: Path) -> None:
    (tmp_path / "vdn.yaml").write_text(VDN)
    options = ["--seed", "3", "--storage-path", "r", "--wandb-project", "p"]
    printed, errors = finish(start(tmp_path, "train", "file", "vdn.yaml", *options))
    lines = [line for line in printed.splitlines() if " steps | " in line]
    # --seed replaces the search space over seeds: one trial, two evaluations.
    assert len(lines) == 2 and "epsilon" in lines[0] and "CVaR 10%" in lines[0]
    assert "no key" in errors
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    assert list((tmp_path / "r/vdn-two-step/wandb").glob("offline-run-*"))
    last = json.loads((trial / "result.json").read_text().splitlines()[-1])
    assert last["seed"] == 3

    command = re.search(r"Evaluate it with: rllib (evaluate .*)", printed)
    assert command is not None
    printed, _ = finish(start(tmp_path, *command.group(1).split(), "--json"))
    result = json.loads(printed)  # one JSON object and nothing else
    # The last logged evaluation is repeated exactly.
    for key in ("episodes", "return_mean", "return_cvar_10", "success_rate"):
        assert result[key] == last["evaluation"][key], key
    assert len(result["returns"]) == 4

    checkpoint = Path(command.group(1).split()[1])
    state = checkpoint / "state.json"
    state.write_text(state.read_text()[:-10])
    printed, errors = finish(start(tmp_path, "evaluate", str(checkpoint)), code=2)
    assert "does not match its checksum" in errors and "Traceback" not in errors


def test_the_best_checkpoints_are_kept_and_not_the_newest(tmp_path: Path) -> None:
    # A nested result that rises with every iteration, and less is better: the first
    # checkpoint is the best one. Tune keeps the latest beside it.
    keep = {
        "checkpoint_frequency": 1,
        "num_to_keep": 1,
        "checkpoint_score_attribute": "counters/num_env_steps_sampled",
        "checkpoint_score_order": "min",
    }
    text = VDN.replace("sampled_lifetime: 400", "sampled_lifetime: 800")
    text += f"  checkpoint_config: {json.dumps(keep)}\n"
    (tmp_path / "vdn.yaml").write_text(text)
    options = ["--seed", "3", "--storage-path", "r"]
    printed, _ = finish(start(tmp_path, "train", "file", "vdn.yaml", *options))
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    assert len((trial / "result.json").read_text().splitlines()) == 4
    kept = sorted(folder.name for folder in trial.glob("checkpoint_*"))
    assert kept == ["checkpoint_000000", "checkpoint_000003"]
    assert re.search(r"Evaluate it with: .*checkpoint_000000", printed)
    # The configuration stays readable.
    assert "TopLevelScore('counters/" in (trial / "params.json").read_text()


def test_ctrl_c_saves_and_resume_continues(tmp_path: Path) -> None:
    long = VDN.replace("lifetime: 400", "lifetime: 100000000")
    (tmp_path / "long.yaml").write_text(long)
    options = ["train", "file", "long.yaml", "--storage-path", "r", "--seed", "0"]
    process = start(tmp_path, *options)
    assert process.stdout is not None
    for line in process.stdout:
        if " steps | " in line:
            break
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = finish(process, code=130)
    assert time.monotonic() - begin < 10
    assert "--resume" in errors and "Traceback" not in errors
    (trial,) = (tmp_path / "r/vdn-two-step").glob("VDN_*")
    assert (trial / "checkpoint_000000/manifest.json").is_file()
    before = len((trial / "result.json").read_text().splitlines())

    process = start(tmp_path, *options, "--resume")
    assert process.stdout is not None
    for line in process.stdout:
        if " steps | " in line:
            break
    process.send_signal(signal.SIGINT)
    finish(process, code=130)
    iterations = [
        json.loads(line)["training_iteration"]
        for line in (trial / "result.json").read_text().splitlines()
    ]
    assert len(iterations) > before
    # No gap and no repetition where the two runs meet.
    assert iterations == list(range(1, len(iterations) + 1))


def test_a_failed_trial_names_its_cause(tmp_path: Path) -> None:
    (tmp_path / "burning.py").write_text(
        """
from rllib_risk.env_wrappers.two_step import TwoStepGame
class Burning(TwoStepGame):
    steps = 0
    def step(self, actions):
        Burning.steps += 1
        if Burning.steps > 20:
            raise RuntimeError("the simulator is on fire")
        return super().step(actions)
"""
    )
    env = "pettingzoo\n  max_failures: 0"
    text = VDN.replace("two_step\n", f"{env}\n", 1).replace(
        "config:\n", "config:\n    env_config: {factory: 'burning:Burning'}\n"
    )
    (tmp_path / "fire.yaml").write_text(text.replace("vdn-two-step", "fire"))
    options = ["--storage-path", "r", "--seed", "0"]
    process = start(tmp_path, "train", "file", "fire.yaml", *options)
    _, errors = finish(process, code=1)
    assert "the simulator is on fire" in errors and "Traceback" not in errors
    log = re.search(r"full text: (.*error\.txt)", errors)
    assert log is not None and Path(log.group(1)).is_file()
