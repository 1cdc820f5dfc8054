"""Searchers and schedulers, and how they treat rare evaluations, without trials."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.train._internal.session import _TrainingResult
from ray.tune import Checkpoint, CheckpointConfig
from ray.tune.search import ConcurrencyLimiter

from rllib_risk.cli.best import best_checkpoint
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.preflight import preflight
from rllib_risk.cli.runner import TopLevelScore
from rllib_risk.cli.search import KeepBest, build_search, build_searcher
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.searchers import parse_searcher
from rllib_risk.config.yaml_reader import parse_yaml

pytest.importorskip("optuna")
METRIC = "evaluation/return_mean"
SPACE = """\
run:
  run: VDN
  env: pettingzoo
  config:
    lr: {loguniform: [1e-4, 1e-2]}
    env_config:
      factory: mpe:env
      kwargs:
        wind: {choice: [{kind: none}, {kind: storm, speed: {uniform: [5, 9]}}]}
    env_variants: [{kwargs: {n: {qrandint: [2, 8, 2]}}}]
"""
POINT = {
    "lr": 1e-3,
    "env_config": {"kwargs": {"wind": {"kind": "storm", "speed": 6}}},
    "env_variants": [{"kwargs": {"n": 4}}],
}


def parsed(text: str) -> Any:
    return parse_document(parse_yaml(text, "f.yaml"), RLlibCatalog())[0]


def optuna(**arguments: Any) -> Any:
    component = parse_searcher("optuna", arguments)
    return build_searcher(component, parsed(SPACE).config, METRIC, None)


def test_optuna_suggests_from_the_space_and_repeats_with_a_seed() -> None:
    def suggestions(seed: int) -> list[dict[str, Any]]:
        searcher, found = optuna(seed=seed), []
        for i in range(12):
            config = searcher.suggest(str(i))
            found.append(config)
            assert 1e-4 <= config["lr"] <= 1e-2
            wind = config["env_config"]["kwargs"]["wind"]
            if wind["kind"] == "storm":
                assert 5 <= wind["speed"] <= 9
            assert config["env_variants"][0]["kwargs"]["n"] in (2, 4, 6, 8)
            # Neither a result before the first evaluation nor NaN stops the search.
            result = {"training_iteration": 1}
            searcher.on_trial_result(str(i), result)
            result |= {METRIC: math.nan if i % 3 else -abs(config["lr"] - 2e-3)}
            searcher.on_trial_complete(str(i), result)
        return found

    found = suggestions(1)
    assert len({config["lr"] for config in found}) == 12
    kinds = [config["env_config"]["kwargs"]["wind"]["kind"] for config in found]
    assert {*kinds} == {"none", "storm"}
    assert suggestions(1) == found and suggestions(2) != found


def test_optuna_begins_with_the_given_points_and_keeps_its_state(
    tmp_path: Path,
) -> None:
    searcher = optuna(points_to_evaluate=[POINT], seed=1)
    assert searcher.suggest("a") == POINT
    searcher.on_trial_complete("a", {METRIC: 1.0, "training_iteration": 1})
    searcher.save(str(tmp_path / "state"))
    other = optuna(seed=2)
    other.restore(str(tmp_path / "state"))
    trials = other.searcher._ot_study.trials
    assert [trial.value for trial in trials] == [1.0]


def test_max_concurrent_trials() -> None:
    limited = ConcurrencyLimiter(optuna(), max_concurrent=1)
    assert limited.suggest("a") is not None and limited.suggest("b") is None
    limited.on_trial_complete("a", {METRIC: 1.0, "training_iteration": 1})
    assert limited.suggest("c") is not None
    # Tune's limiter does not apply to the random searcher.
    component = parse_searcher("random", {"random_state": 1})
    assert build_searcher(component, {}, METRIC, 3).max_concurrent == 3


SCHEDULED = """\
run:
  run: {run}
  env: {env}
  {kind}
  config: {{lr: {{loguniform: [1e-4, 1e-2]}}, {config}}}
"""


@pytest.mark.parametrize("kind", ["scheduler: asha", "search_alg: optuna"])
@pytest.mark.parametrize(
    ("env", "metric", "config", "message"),
    [
        (
            "two_step",
            ", {kind}_config: {{metric: evaluation/return_mean}}",
            "evaluation_interval: null",
            "can never report evaluation/return_mean: there are no evaluations",
        ),
        (
            "risky_bandit",
            ", {kind}_config: {{metric: evaluation/success_rate}}",
            "hidden_size: 8",
            "success_rate: the env does not report 'is_success'",
        ),
        ("two_step", ", {kind}_config: {{metric: evaluation/success_rate}}", "", ""),
        # The default metric is one that the run reports.
        ("two_step", "", "evaluation_interval: null", ""),
    ],
)
def test_a_metric_that_is_never_reported_is_refused(
    kind: str, env: str, metric: str, config: str, message: str
) -> None:
    key = kind.split(":")[0]
    lines = kind + metric.format(kind=key).replace(", ", "\n  ")
    text = SCHEDULED.format(run="VDN", env=env, kind=lines, config=config)
    spec = parsed(text)
    if message:
        with pytest.raises(ConfigError, match=rf"^f.yaml:5: .*{message}"):
            build_search(spec, preflight(spec).config)
    else:
        made = next(part for part in build_search(spec, preflight(spec).config) if part)
        default = "env_runners/episode_return_mean"
        assert made.metric == ("evaluation/success_rate" if metric else default)


def test_arguments_that_do_not_go_together_are_refused_at_their_line() -> None:
    kind = "scheduler: asha\n  scheduler_config: {max_t: 2, grace_period: 5}"
    spec = parsed(SCHEDULED.format(run="VDN", env="two_step", kind=kind, config=""))
    with pytest.raises(ConfigError, match=r"^f.yaml:5: asha: grace_period must be <="):
        build_search(spec, preflight(spec).config)


def test_pbt_may_not_mutate_into_what_is_refused() -> None:
    kind = "scheduler: pbt\n  scheduler_config: {hyperparam_mutations: {alpha: [0.5]}}"
    spec = parsed(SCHEDULED.format(run="VDN", env="two_step", kind=kind, config=""))
    with pytest.raises(ConfigError, match="alpha: has no effect"):
        preflight(spec)


# Checkpoints


def a_trial(folder: Path, score: str | None = None) -> Any:
    config = CheckpointConfig(checkpoint_score_attribute=score)
    manager = _CheckpointManager(config)
    return SimpleNamespace(
        run_metadata=SimpleNamespace(checkpoint_manager=manager),
        folder=folder,
        is_finished=lambda: False,
        checkpoint=None,
    )


def save(trial: Any, number: int, metrics: dict[str, Any]) -> Checkpoint:
    folder = trial.folder / f"checkpoint_{number}"
    folder.mkdir(parents=True)
    trial.checkpoint = Checkpoint.from_directory(str(folder))
    manager = trial.run_metadata.checkpoint_manager
    manager.register_checkpoint(_TrainingResult(trial.checkpoint, metrics))
    return trial.checkpoint


def test_a_checkpoint_that_another_trial_goes_on_from_is_kept(tmp_path: Path) -> None:
    donor, other = a_trial(tmp_path / "a", "score"), a_trial(tmp_path / "b", "score")
    state = SimpleNamespace(last_checkpoint=None)
    scheduler = SimpleNamespace(_trial_state={"donor": state})
    keep, trials = KeepBest(scheduler, 1), [donor, other]

    def saved(number: int, score: float) -> Checkpoint:
        checkpoint = save(donor, number, {"score": score})
        keep.on_trial_save(0, trials, donor)
        return checkpoint

    def left() -> list[str]:
        return sorted(path.name[-1] for path in (tmp_path / "a").iterdir())

    state.last_checkpoint = saved(0, 1.0)
    saved(1, 9.0)
    saved(2, 3.0)
    # The best, the newest and the one that PBT may copy to another trial.
    assert left() == ["0", "1", "2"]
    other.checkpoint, state.last_checkpoint = state.last_checkpoint, None
    saved(3, 4.0)
    # The other trial has yet to start from checkpoint 0.
    assert left() == ["0", "1", "3"]
    other.checkpoint = None
    keep.on_experiment_end(trials)
    assert left() == ["1", "3"]


def test_a_checkpoint_is_not_credited_with_an_older_evaluation(tmp_path: Path) -> None:
    trial = a_trial(tmp_path)
    # The first result has its own evaluation, the second repeats an older, better one.
    for number, (value, age) in enumerate([(5.0, 0), (9.0, 2)]):
        result = {"evaluation": {"return_mean": value, "age_iterations": age}}
        TopLevelScore(METRIC)().on_train_result(algorithm=None, result=result)
        assert result[METRIC] == 5.0 if age == 0 else math.isnan(result[METRIC])
        save(trial, number, result)
    best = best_checkpoint([trial], METRIC, "max")
    assert best is not None and best[0] == 5.0
    assert best[1].path.endswith("checkpoint_0")
