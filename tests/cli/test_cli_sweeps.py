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


def run_cells(folder: Path, names: list[str]) -> None:
    """Runs some cells in one command."""
    runs = {name: CELLS[name] for name in names}
    (folder / "f.yaml").write_text(yaml.safe_dump(runs, sort_keys=False))
    command = ["train", "file", "f.yaml", "--storage-path", "r", "--ray-num-cpus", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "rllib_risk", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for name in names:
        check(folder / "r" / name)


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
