"""Checkpoints that commands find in folders, and the best one of a run."""

import contextlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rllib_risk.cli import best, checkpoints, session
from rllib_risk.cli.main import run
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.checkpoint import write_checkpoint


def result(iteration: int, mean: float, age: int = 0, cvar: float = 0.0) -> dict:
    evaluation = {"return_mean": mean, "return_cvar_10": cvar, "age_iterations": age}
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": 100 * iteration,
        "evaluation": evaluation,
    }


def write_trial(folder: Path, results: list[dict], saved: list[int]) -> Path:
    """A trial as Tune writes it, with checkpoints of some iterations."""
    folder.mkdir(parents=True)
    lines = "\n".join(json.dumps(row) for row in results)
    (folder / "result.json").write_text(f'{lines}\n{{"cut sho')
    for number, iteration in enumerate(saved):
        target = folder / f"checkpoint_{number:06d}"
        target.mkdir()
        write_checkpoint(
            target,
            config={"config": {"env": "macn", "env_config": {"width": 7}}},
            tensors={"w": torch.zeros(1)},
            optimizers=[],
            replay={"r": np.zeros(1)},
            state={"iteration": iteration},
        )
    return folder


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    root = tmp_path / "run"
    write_trial(root / "a", [result(1, 5.0), result(2, 3.0, cvar=2.0)], [1, 2])
    # Iteration 4 repeats the evaluation of iteration 3, which has no checkpoint.
    write_trial(root / "b", [result(3, 9.0), result(4, 9.0, age=1)], [4])
    return root


def found(folder: Path) -> str:
    path = checkpoints.find_checkpoint(folder)
    return f"{path.parent.name}/{path.name}"


def test_the_best_checkpoint_of_a_folder_is_found(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(experiment) == "a/checkpoint_000000"
    assert (
        "a/checkpoint_000000 (evaluation/return_mean 5.00)" in capsys.readouterr().err
    )
    assert found(experiment / "b") == "b/checkpoint_000000"
    assert "the last checkpoint; no checkpoint has a" in capsys.readouterr().err
    # The path of a checkpoint is returned unchanged, even if the checkpoint is damaged.
    damaged = experiment / "a" / "checkpoint_000000"
    (damaged / "state.json").write_text("{}")
    assert checkpoints.find_checkpoint(damaged) == damaged
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.safetensors", "does not match its checksum.* It is the best checkpoi"),
        # Its score is unknown.
        ("state.json", "does not match its checksum.* It may be the best checkpoint"),
        ("manifest.json", "was cut short.* It may be the best checkpoint"),
    ],
)
def test_a_damaged_best_checkpoint_is_refused(
    experiment: Path, name: str, text: str
) -> None:
    """Another checkpoint is another model; the message names one to choose."""
    best = experiment / "a" / "checkpoint_000000"
    if name == "manifest.json":
        (best / name).unlink()
    else:
        (best / name).write_text("{}")
    with pytest.raises(ConfigError, match=text) as error:
        checkpoints.find_checkpoint(experiment)
    assert str(best) in str(error.value)
    assert str(experiment / "a" / "checkpoint_000001") in str(error.value)
    # Damage to another one does not matter.
    assert found(experiment / "b") == "b/checkpoint_000000"


def test_a_damaged_checkpoint_that_is_not_the_best_does_not_matter(
    experiment: Path,
) -> None:
    (experiment / "a" / "checkpoint_000001" / "policy.safetensors").write_text("")
    assert found(experiment) == "a/checkpoint_000000"


def test_the_newest_of_checkpoints_without_scores_is_taken_or_refused(
    experiment: Path,
) -> None:
    for trial in ("a", "b"):
        (experiment / trial / "result.json").write_text("")
    assert found(experiment) == "b/checkpoint_000000"
    (experiment / "b" / "checkpoint_000000" / "replay.safetensors").write_text("")
    with pytest.raises(
        ConfigError, match=r"last checkpoint.*such as .*a/checkpoint_000001\.$"
    ):
        checkpoints.find_checkpoint(experiment)
    with pytest.raises(ConfigError, match="All other checkpoints in this folder"):
        checkpoints.find_checkpoint(experiment / "b")


def test_without_evaluations_estimates_rank_checkpoints(
    tmp_path: Path,
) -> None:
    rows = [result(number, 0.0) for number in (1, 2, 3)]
    for row, mean in zip(rows, (-3.0, -1.0, -2.0), strict=True):
        del row["evaluation"]
        row["off_policy"] = {"return_mean": mean}
    write_trial(tmp_path / "run" / "a", rows, [1, 2, 3])
    assert found(tmp_path / "run") == "a/checkpoint_000001"


def test_env_option_is_refused_for_checkpoints_with_an_env(experiment: Path) -> None:
    ours = experiment / "a" / "checkpoint_000000"
    with (
        pytest.raises(ConfigError, match=r"was trained in 'macn', .* Leave --env out"),
        checkpoints.opened(ours, trust_code=False, env="uav"),
    ):
        pass


def test_the_experiments_own_score_decides(experiment: Path) -> None:
    metric = "evaluation/return_cvar_10"
    checkpoint = {"checkpoint_score_attribute": metric}
    record = {"name": "x", "checkpoint_config": checkpoint}
    (experiment / "experiment.json").write_text(json.dumps(record))
    assert found(experiment) == "a/checkpoint_000001"
    assert found(experiment / "a") == "a/checkpoint_000001"
    # A comparison stores the score in `comparison.json`.
    (experiment / "experiment.json").unlink()
    details = {"QMIX": {"checkpoint": {**checkpoint, "checkpoint_score_order": "min"}}}
    (experiment / "comparison.json").write_text(json.dumps({"details": details}))
    assert found(experiment) == "a/checkpoint_000000"


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a checkpoint, and it contains no"):
        checkpoints.find_checkpoint(tmp_path)


def test_rllibs_checkpoints_are_told_from_ours(experiment: Path) -> None:
    ours = experiment / "a" / "checkpoint_000000"
    assert (ours / "rllib_checkpoint.json").is_file()
    assert not checkpoints.is_foreign(ours)
    (ours / "manifest.json").unlink()  # cut short
    assert not checkpoints.is_foreign(ours)
    theirs = experiment / "ppo" / "checkpoint_000000"
    theirs.mkdir(parents=True)
    (theirs / "rllib_checkpoint.json").write_text('{"checkpoint_version": "2.1"}')
    assert checkpoints.is_foreign(theirs)
    assert found(experiment / "ppo") == "ppo/checkpoint_000000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{"widht": 9}', "--env-config: unknown key 'widht' of env_config. Did you"),
        ('{"width": "wide"}', "--env-config: env_config.width: must be a whole number"),
        ('{"nose.std": 1}', "--env-config: unknown key 'nose.std'"),
        ("[1]", "--env-config: must be a JSON object"),
    ],
)
def test_env_config_is_checked(
    experiment: Path,
    options: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The refusal comes before anything needs Ray.
    monkeypatch.setattr(session, "ray_session", lambda *_: contextlib.nullcontext())
    folder = str(experiment / "a" / "checkpoint_000000")
    assert run(["evaluate", folder, "--env-config", options]) == 2
    assert message in capsys.readouterr().err
    command = ["evaluate", folder, "--env-config", options, "--shift", "x.yaml"]
    assert run(command) == 2
    assert "cannot be combined with --shift" in capsys.readouterr().err


def trial_of(folder: Path, saved: list[dict[str, Any]]) -> Any:
    kept = [
        SimpleNamespace(metrics=metrics, checkpoint=SimpleNamespace(path=f"/c{i}"))
        for i, metrics in enumerate(saved)
    ]
    manager = SimpleNamespace(best_checkpoint_results=kept)
    return SimpleNamespace(
        run_metadata=SimpleNamespace(checkpoint_manager=manager),
        storage=SimpleNamespace(trial_fs_path=str(folder)),
    )


def test_only_a_checkpoints_own_evaluation_counts(experiment: Path) -> None:
    metric = "evaluation/return_mean"
    a = trial_of(experiment / "a", [result(1, 5.0), result(2, 3.0)])
    b = trial_of(experiment / "b", [result(4, 9.0, age=1)])
    score, checkpoint, trial = best.best_checkpoint([a, b], metric, "max")
    assert (score, checkpoint.path, trial) == (5.0, "/c0", a)
    assert best.best_checkpoint([b], metric, "max")[0] == -math.inf
    assert best.best_checkpoint([a], metric, "min")[0] == -3.0
    assert best.better_result([a], metric, "max", 5.0) is None
    text = best.better_result([a, b], metric, "max", 5.0)
    assert text is not None
    assert "was 9.00 after 300 env steps" in text and "checkpoint_frequency: 1" in text
