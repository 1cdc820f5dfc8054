"""Trials that request more resources than Ray has never wait silently forever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rllib_risk.cli.main import run

TRAIN = """
small:
  run: QMIX
  env: two_step
  stop: {num_env_steps_sampled_lifetime: 40}
  config:
    seed: 0
    min_sample_timesteps_per_iteration: 20
    evaluation_duration: 2
"""
COMPARE = """
env: two_step
seeds: [0]
stop: {num_env_steps_sampled_lifetime: 40}
config: {min_sample_timesteps_per_iteration: 20, evaluation_duration: 2}
algorithms: {VDN: null}
"""
PPO = """
poles:
  run: PPO
  env: CartPole-v1
  stop: {training_iteration: 1}
  config: {num_env_runners: 2}
"""
PYTHON = """
from rllib_risk.algorithms.qmix import QMIXConfig

config = QMIXConfig().environment("two_step").env_runners(num_env_runners=3)
stop = {"num_env_steps_sampled_lifetime": 40}
"""


def command(name: str, file: Path, folder: Path) -> list[str]:
    place = {"train": ["file"], "compare": []}[name]
    storage = {"train": "--storage-path", "compare": "--out"}[name]
    return [name, *place, str(file), storage, str(folder), "--ray-num-cpus", "2"]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        # the second trial of two
        (TRAIN + "    num_env_runners: {grid_search: [0, 4]}\n", "5 CPUs"),
        (TRAIN + "  resources_per_trial: {cpu: 3}\n", "3 CPUs"),
        (PYTHON, "4 CPUs"),
        (PPO, "3 CPUs"),
        (COMPARE.replace("config: {", "config: {num_env_runners: 2, "), "3 CPUs"),
    ],
)
def test_a_trial_that_can_never_start_is_refused(tmp_path, capsys, text, asked):
    file = tmp_path / ("small.py" if text == PYTHON else "small.yaml")
    file.write_text(text)
    name = "compare" if "algorithms" in text and text != PYTHON else "train"
    assert run(command(name, file, tmp_path / "out")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"a trial requests {asked}, but Ray has only 2 on this" in message
    assert "num_env_runners" in message
    assert f"--ray-num-cpus {asked[0]}" in message


def test_a_file_for_a_gpu_trains_without_one(tmp_path, capsys):
    file = tmp_path / "small.yaml"
    text = COMPARE.replace("config: {", "config: {num_gpus: 1, ")
    file.write_text(text.replace("{VDN: null}", "{VDN: null, QMIX: null}"))
    assert run(command("compare", file, tmp_path / "out")) == 0
    line = "VDN, QMIX: this machine has no GPU, so num_gpus is 0."
    assert capsys.readouterr().err.count(line) == 1
    trials = list((tmp_path / "out").rglob("params.json"))
    assert len(trials) == 2
    assert all(json.loads(trial.read_text())["num_gpus"] == 0 for trial in trials)


def test_gpus_given_to_ray_are_requested_by_trials(tmp_path, capsys):
    file = tmp_path / "small.yaml"
    file.write_text(TRAIN + "    num_gpus: 2\n")
    few = [*command("train", file, tmp_path / "out"), "--ray-num-gpus", "1"]
    assert run(few) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "a trial requests 2 GPUs, but Ray has only 1" in message


def test_a_gpu_that_is_not_there_cannot_be_shared(tmp_path, capsys):
    file = tmp_path / "small.yaml"
    file.write_text(TRAIN + "  resources_per_trial: {cpu: 1, gpu: 1}\n")
    assert run(command("train", file, tmp_path / "out")) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert message.endswith("has only 0 on this machine. Request fewer.")
