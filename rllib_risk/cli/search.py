"""What stands between Tune's searchers and schedulers and our results.

They expect a plain search space, and the metric in every result. Here search spaces may
stand anywhere, and evaluations may be rare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import Searcher

from rllib_risk.cli.catalog import RLLIB_METRIC, default_metric
from rllib_risk.cli.preflight import check_reachable
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.flat_space import (
    fill,
    flatten_point,
    flatten_space,
    searched_part,
)
from rllib_risk.config.schedulers import Component
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.searchers import POINTS, RANDOM, SEARCHERS
from rllib_risk.core.tune_internals import (
    delete_worst_checkpoints,
    latest_checkpoints,
    pbt_checkpoints,
)


def build_search(spec: ExperimentSpec, config: Any) -> tuple[Any, Any]:
    """Makes an experiment's scheduler and searcher.

    Args:
        spec: The experiment.
        config: The ``AlgorithmConfig`` of its first trial, validated.

    Returns:
        Both; None where there is none.

    Raises:
        ConfigError: With the place, if their classes refuse their arguments, or the
            metric that they compare trials by can never come.
    """
    metric = default_metric(spec.algorithm)
    if not config.evaluation_interval:
        metric = RLLIB_METRIC
    made: dict[str, Any] = {}
    for key, component in (
        ("scheduler", spec.scheduler),
        ("search_alg", spec.searcher),
    ):
        if component is None:
            continue
        try:
            if key == "scheduler":
                mode = component.arguments.get("mode", "max")
                built = component.build(metric, "max")
                made[key] = accept_rare_metric(built, mode)
            else:
                made[key] = build_searcher(
                    component, spec.config, metric, spec.max_concurrent_trials
                )
            if component.compares:
                check_reachable(component.arguments.get("metric", metric), config)
        except ConfigError as error:
            # Some of the messages begin with the name already.
            message = str(error).removeprefix(f"{component.name}: ")
            raise spec.located(
                f"{component.name}: {message}", f"{key}_config", key
            ) from error
    return made.get("scheduler"), made.get("search_alg")


def build_searcher(
    component: Component,
    config: Mapping[str, Any],
    metric: str,
    max_concurrent_trials: int | None,
) -> Any:
    """Makes a searcher that knows the search space.

    Args:
        component: The searcher, checked.
        config: The experiment's configuration with search spaces.
        metric: What to compare trials by, unless the searcher's arguments say it.
        max_concurrent_trials: Trials at the same time; None: no limit.

    Returns:
        What ``tune.run`` takes as ``search_alg``.

    Raises:
        ConfigError: If the searcher's class refuses its arguments.
    """
    arguments = dict(component.arguments)
    if component.name == RANDOM:
        if max_concurrent_trials is not None:
            # Tune's own limit passes this searcher by.
            arguments["max_concurrent"] = max_concurrent_trials
        return replace(component, arguments=arguments).build(metric, "max")
    if component.name == "optuna":
        import optuna

        # It announces every study and trial otherwise.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.get(POINTS):
        arguments[POINTS] = [flatten_point(config, p) for p in arguments[POINTS]]
    space = {name: domain.to_tune() for name, domain in flatten_space(config).items()}
    try:
        searcher = replace(component, arguments=arguments).build(metric, "max")
        # Tune itself does this for a search space that it is given as `config`; we hand
        # it ready experiments.
        searcher.set_search_properties(searcher.metric, searcher.mode, space)
    except ConfigError:
        raise
    except Exception as error:  # a searcher's package may have changed in any way
        raise ConfigError(
            f"{component.name}: {type(error).__name__}: {error}. Perhaps its package"
            " has a version that Ray does not know; Ray asks for: pip install"
            f" '{SEARCHERS[component.name].package}'"
        ) from error
    return NestedSearch(searcher, config)


class NestedSearch(Searcher):
    """Puts the values that a searcher suggests where they belong.

    Attributes:
        searcher: Tune's searcher, whose search space is flat. Tune looks for it under
            this name when it saves and restores.
    """

    def __init__(self, searcher: Searcher, config: Mapping[str, Any]) -> None:
        """Wraps a searcher.

        Args:
            searcher: Tune's searcher, which knows the flat search space.
            config: The experiment's configuration with search spaces.
        """
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.searcher = searcher
        self._space = searched_part(config)

    def suggest(self, trial_id: str) -> Any:
        """See Ray; the suggestion has the form of the configuration."""
        suggested = self.searcher.suggest(trial_id)
        if not isinstance(suggested, dict):
            return suggested  # nothing now, or nothing any more
        return fill(self._space, suggested)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """See Ray; a result without the metric tells the searcher nothing."""
        if has_metric(result, self.searcher.metric):
            self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """See Ray."""
        if not has_metric(result or {}, self.searcher.metric):
            result = None
        self.searcher.on_trial_complete(trial_id, result=result, error=error)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """See Ray."""
        return self.searcher.set_max_concurrency(max_concurrent)

    def save(self, checkpoint_path: str) -> None:
        """See Ray."""
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """See Ray."""
        self.searcher.restore(checkpoint_path)

    def get_state(self) -> dict[str, Any]:
        """The search space, which a resumed experiment goes on with."""
        return {"space": self._space}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores :meth:`get_state`."""
        self._space = state["space"]


def has_metric(result: Mapping[str, Any], metric: Any) -> bool:
    """Returns whether a flat result holds a metric as a number."""
    value = result.get(metric) if isinstance(metric, str) else None
    return isinstance(value, int | float) and math.isfinite(value)


def accept_rare_metric(scheduler: TrialScheduler, mode: str) -> TrialScheduler:
    """Makes a scheduler ignore results without its metric.

    Before the first evaluation there is none. HyperBand ranks trials at fixed times,
    whatever they reported: one without the metric is the worst.

    Args:
        scheduler: Any of Tune's; its instance is changed.
        mode: ``max`` or ``min``.

    Returns:
        The same scheduler.
    """
    metric = scheduler.metric
    worst = -math.inf if mode == "max" else math.inf
    if metric is None:
        return scheduler
    on_result, on_complete = scheduler.on_trial_result, scheduler.on_trial_complete

    def readable(result: dict[str, Any]) -> dict[str, Any]:
        if has_metric(result, metric):
            return result
        if isinstance(scheduler, HyperBandScheduler):
            return {**result, metric: worst}
        # It may be NaN, by which nothing can be ordered.
        return {key: value for key, value in result.items() if key != metric}

    def on_trial_result(controller: Any, trial: Trial, result: dict) -> str:
        return on_result(controller, trial, readable(result))

    def on_trial_complete(controller: Any, trial: Trial, result: dict) -> None:
        result = readable(result)
        if metric in result or not isinstance(scheduler, MedianStoppingRule):
            on_complete(controller, trial, result)

    changed: Any = scheduler
    changed.on_trial_result = on_trial_result
    changed.on_trial_complete = on_trial_complete
    return scheduler


class KeepBest(Callback):
    """Keeps the best checkpoints of each trial, and those that others may copy.

    In a population a trial goes on from the checkpoint of a better one, a while after
    that was written. Tune's ``num_to_keep`` knows nothing of it and may have deleted it
    by then.
    """

    def __init__(self, scheduler: Any, num_to_keep: int) -> None:
        """Keeps what it needs.

        Args:
            scheduler: Tune's PBT or PB2.
            num_to_keep: How many checkpoints of each trial to keep.
        """
        self._scheduler = scheduler
        self._num_to_keep = num_to_keep

    def on_trial_save(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Deletes what nothing needs any more."""
        needed = pbt_checkpoints(self._scheduler) | latest_checkpoints(trials)
        for each in trials:
            delete_worst_checkpoints(each, self._num_to_keep, needed)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Deletes what was kept for others; what is interrupted may go on."""
        for trial in trials:
            needed = latest_checkpoints(trials)
            delete_worst_checkpoints(trial, self._num_to_keep, needed)

    def get_state(self) -> dict[str, Any] | None:
        """Nothing of this belongs into the experiment's state."""
        return None
