"""Every searcher with every scheduler, with frequent, rare and no evaluations."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 4
TIME: dict[str, Any] = {"time_attr": "training_iteration"}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "none": {},
    "asha": {**TIME, "max_t": ITERATIONS, "reduction_factor": 2},
    "hyperband": {**TIME, "max_t": ITERATIONS, "reduction_factor": 2},
    "median_stopping": {**TIME, "grace_period": 1, "min_samples_required": 1},
    "pbt": {
        **TIME,
        "perturbation_interval": 2,
        "quantile_fraction": 0.5,
        "hyperparam_mutations": {"lr": {"loguniform": [1e-4, 1e-2]}},
    },
}
EVALUATIONS = {"every": 1, "second": 2, "never": None}


def cell(searcher: str, scheduler: str, interval: int | None) -> dict[str, Any]:
    """An experiment of two trials, a few steps each."""
    experiment: dict[str, Any] = {
        "run": "VDN",
        "env": "two_step",
        "num_samples": 2,
        "search_alg": searcher,
        "stop": {"training_iteration": ITERATIONS},
        "config": {
            "lr": {"loguniform": [1e-4, 1e-2]},
            "hidden_size": 4,
            "batch_size_episodes": 4,
            "learning_starts_episodes": 4,
            "updates_per_episode": 0.25,
            "num_envs_per_env_runner": 4,
            "min_sample_timesteps_per_iteration": 40,
            "evaluation_interval": interval,
            "grad_clip": None,
            "evaluation_duration": 2,
        },
    }
    if scheduler != "none":
        experiment |= {
            "scheduler": scheduler,
            "scheduler_config": SCHEDULERS[scheduler],
        }
    if scheduler == "pbt":
        experiment["checkpoint_config"] = {"checkpoint_frequency": 1, "num_to_keep": 1}
    return experiment


CELLS = {
    "-".join((searcher, scheduler, evaluation)): cell(searcher, scheduler, interval)
    for searcher, scheduler, (evaluation, interval) in itertools.product(
        ("random", "optuna"), SCHEDULERS, EVALUATIONS.items()
    )
}
# PBT changes the values itself, so it takes no searcher.
REFUSED = [f"optuna-pbt-{evaluation}" for evaluation in EVALUATIONS]
# Both searchers, and a scheduler that stops trials and one that copies them.
FEW = ["optuna-asha-never", "random-pbt-second"]


def test_a_searcher_beside_pbt_is_refused() -> None:
    for name in REFUSED:
        text = yaml.safe_dump({name: CELLS[name]}, sort_keys=False)
        with pytest.raises(ConfigError) as error:
            parse_document(parse_yaml(text, "f.yaml"), RLlibCatalog())
        expected = "f.yaml:5: search_alg: pbt changes the values itself"
        assert str(error.value).startswith(expected)


def test_schedulers_and_searchers_run_with_rare_evaluations(tmp_path: Path) -> None:
    """R32: ASHA with Optuna, and PBT, run from YAML to their ends."""
    run_cells(tmp_path, FEW)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_other_combination_runs(tmp_path: Path) -> None:
    run_cells(tmp_path, [n for n in CELLS if n not in (*FEW, *REFUSED)])


# One experiment of each kind of sweep that users run.
KINDS = """
shared:
  run: VDN
  config:
    hidden_size: 8
    batch_size_episodes: 4
    learning_starts_episodes: 4
    updates_per_episode: 0.25
    num_envs_per_env_runner: 4
    min_sample_timesteps_per_iteration: 40
    evaluation_duration: 2
rare-evaluations:
  env: two_step
  stop: {training_iteration: 4}
  scheduler: asha
  scheduler_config: {time_attr: training_iteration, grace_period: 1, max_t: 4}
  config: {seed: {grid_search: [1, 2]}, evaluation_interval: 2}
optuna:
  env: two_step
  num_samples: 2
  search_alg: optuna
  stop: {training_iteration: 2}
  config: {lr: {loguniform: [1.0e-4, 1.0e-2]}}
choice-in-kwargs:
  env: pettingzoo
  num_samples: 3
  stop: {training_iteration: 1}
  config:
    env_config: {factory: "faulty_envs:Walk", kwargs: {length: {choice: [3, 5]}}}
grid-in-kwargs:
  env: pettingzoo
  stop: {training_iteration: 1}
  config:
    env_config: {factory: "faulty_envs:Walk", kwargs: {length: {grid_search: [3, 5]}}}
relative-file:
  env: pettingzoo
  stop: {training_iteration: 1}
  config:
    num_env_runners: 1
    env_config: {factory: "trait_envs:Relative", kwargs: {path: data/table.txt}}
pbt:
  env: two_step
  num_samples: 2
  stop: {training_iteration: 4}
  scheduler: pbt
  scheduler_config:
    time_attr: training_iteration
    perturbation_interval: 1
    quantile_fraction: 0.5
    hyperparam_mutations:
      lr: {loguniform: [1.0e-4, 1.0e-2]}
      gamma: {uniform: [0.8, 0.99]}
  checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 2}
never-stops:
  env: pettingzoo
  stop: {evaluation/success_rate: 0.9}
  config: {env_config: {factory: "trait_envs:Plain"}}
no-evaluation:
  env: two_step
  stop: {training_iteration: 1}
  config: {evaluation_interval: null, grad_clip: null}
crash-loop:
  env: pettingzoo
  stop: {training_iteration: 3}
  config:
    env_config: {factory: "faulty_envs:Faulty", kwargs: {fault: raises without text}}
"""
# Name -> exit code and message; the others train.
REFUSALS = {
    "never-stops": (2, "can never be met: the env does not report 'is_success'"),
    "crash-loop": (1, "failed 3 times in a row and was given up; last cause: Runtime"),
}
NAMES = [name for name in yaml.safe_load(KINDS) if name != "shared"]
LIMIT_S = 60


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_sweep_trains_or_says_why_not(name: str, tmp_path: Path) -> None:
    kinds = yaml.safe_load(KINDS)
    one = {"shared": kinds["shared"], name: kinds[name]}
    (tmp_path / "f.yaml").write_text(yaml.safe_dump(one, sort_keys=False))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.txt").write_text("1.0")
    code, message = REFUSALS.get(name, (0, ""))
    done = rllib(tmp_path, LIMIT_S, "4")
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr
    assert code == 0 or done.stderr.count("\nError: ") == 1


def run_cells(folder: Path, names: list[str]) -> None:
    """Runs some cells in one command."""
    runs = {name: CELLS[name] for name in names}
    (folder / "f.yaml").write_text(yaml.safe_dump(runs, sort_keys=False))
    done = rllib(folder, 1100, "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for name in names:
        check(folder / "r" / name)


def rllib(folder: Path, timeout_s: float, cpus: str) -> subprocess.CompletedProcess:
    """Trains the experiments of f.yaml in a folder."""
    options = ["--storage-path", "r", "--ray-num-cpus", cpus]
    paths = os.pathsep.join((str(ROOT), os.environ["PYTHONPATH"]))
    return subprocess.run(
        [sys.executable, "-m", "rllib_risk", "train", "file", "f.yaml", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def check(experiment: Path) -> None:
    """Both trials have results, different values and the requested evaluations."""
    rates = set()
    for trial in experiment.glob("VDN_*"):
        text = (trial / "result.json").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        rates.add(json.loads((trial / "params.json").read_text())["lr"])
        for row in rows:
            iteration = row["training_iteration"]
            age = row.get("evaluation", {}).get("age_iterations")
            if "never" in experiment.name:
                assert age is None
            elif "every" in experiment.name:
                assert age == 0
            else:
                assert age == (None if iteration == 1 else iteration % 2)
    assert len(rates) == 2 and all(1e-4 <= rate <= 1e-2 for rate in rates)
