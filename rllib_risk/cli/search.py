"""Adapts Tune's searchers and schedulers to this package's configurations and results.

Searchers and schedulers expect a flat search space and the metric in every result. In
this package a search space may be nested, and only some results have an evaluation.
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
    """Builds an experiment's scheduler and searcher.

    Args:
        spec: The experiment.
        config: The validated ``AlgorithmConfig`` of its first trial.

    Returns:
        Scheduler and searcher; each is None if the experiment names none.

    Raises:
        ConfigError: If a class refuses its arguments, or the run can never report the
            metric that compares trials. The message has the place.
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
            # Some messages already begin with the name.
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
    """Builds a searcher for the search space of a configuration.

    Args:
        component: The checked searcher.
        config: The experiment's configuration with search spaces.
        metric: Metric that compares trials, unless the searcher's arguments name one.
        max_concurrent_trials: Maximum number of trials at the same time; None: no
            limit.

    Returns:
        The ``search_alg`` for ``tune.run``.

    Raises:
        ConfigError: If the searcher's class refuses its arguments.
    """
    arguments = dict(component.arguments)
    if component.name == RANDOM:
        if max_concurrent_trials is not None:
            # Tune does not apply its own limit to this searcher.
            arguments["max_concurrent"] = max_concurrent_trials
        return replace(component, arguments=arguments).build(metric, "max")
    if component.name == "optuna":
        import optuna

        # Otherwise it prints a line for every study and trial.
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    if arguments.get(POINTS):
        arguments[POINTS] = [flatten_point(config, p) for p in arguments[POINTS]]
    space = {name: domain.to_tune() for name, domain in flatten_space(config).items()}
    try:
        searcher = replace(component, arguments=arguments).build(metric, "max")
        # Tune does this only for a search space in `config`, not for `Experiment`s.
        searcher.set_search_properties(searcher.metric, searcher.mode, space)
    except ConfigError:
        raise
    except Exception as error:  # an incompatible package may raise anything
        raise ConfigError(
            f"{component.name}: {type(error).__name__}: {error}. Perhaps the version of"
            " its package does not fit Ray. Ray needs: pip install"
            f" '{SEARCHERS[component.name].package}'"
        ) from error
    return NestedSearch(searcher, config)


class NestedSearch(Searcher):
    """Searcher that nests the flat values which another searcher suggests.

    Attributes:
        searcher: Tune's searcher, whose search space is flat. Tune needs this attribute
            name when it saves and restores.
    """

    def __init__(self, searcher: Searcher, config: Mapping[str, Any]) -> None:
        """Wraps a searcher.

        Args:
            searcher: Tune's searcher for the flat search space.
            config: The experiment's configuration with search spaces.
        """
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.searcher = searcher
        self._space = searched_part(config)

    def suggest(self, trial_id: str) -> Any:
        """Overrides Ray's method; the suggestion has the form of the configuration."""
        suggested = self.searcher.suggest(trial_id)
        if not isinstance(suggested, dict):
            return suggested  # None or FINISHED: no suggestion at the moment or at all
        return fill(self._space, suggested)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Overrides Ray's method; ignores results without the metric."""
        if has_metric(result, self.searcher.metric):
            self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Overrides Ray's method; drops a result without the metric."""
        if not has_metric(result or {}, self.searcher.metric):
            result = None
        self.searcher.on_trial_complete(trial_id, result=result, error=error)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Overrides Ray's method."""
        return self.searcher.set_max_concurrency(max_concurrent)

    def save(self, checkpoint_path: str) -> None:
        """Overrides Ray's method."""
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        """Overrides Ray's method."""
        self.searcher.restore(checkpoint_path)

    def get_state(self) -> dict[str, Any]:
        """Returns the search space, which a resumed experiment continues to use."""
        return {"space": self._space}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state from :meth:`get_state`."""
        self._space = state["space"]


def has_metric(result: Mapping[str, Any], metric: Any) -> bool:
    """Returns whether a flat result contains a finite value of a metric."""
    value = result.get(metric) if isinstance(metric, str) else None
    return isinstance(value, int | float) and math.isfinite(value)


def accept_rare_metric(scheduler: TrialScheduler, mode: str) -> TrialScheduler:
    """Changes a scheduler so that it ignores results without its metric.

    Results before the first evaluation lack the metric. HyperBand cannot ignore them,
    because it ranks trials at fixed times. A trial without the metric ranks last there.

    Args:
        scheduler: A scheduler of Tune; this instance is changed.
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
        # The metric may be NaN, which cannot be compared.
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
    """Tune callback that keeps the best checkpoints of each trial in a population.

    It also keeps checkpoints that other trials may copy. A trial of a population
    continues from the checkpoint of a better trial some time after it was written. By
    then, Tune's own ``num_to_keep`` may have deleted that checkpoint.
    """

    def __init__(self, scheduler: Any, num_to_keep: int) -> None:
        """Initializes the callback.

        Args:
            scheduler: Tune's PBT or PB2 scheduler.
            num_to_keep: Number of checkpoints to keep per trial.
        """
        self._scheduler = scheduler
        self._num_to_keep = num_to_keep

    def on_trial_save(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Deletes checkpoints that no trial needs."""
        needed = pbt_checkpoints(self._scheduler) | latest_checkpoints(trials)
        for each in trials:
            delete_worst_checkpoints(each, self._num_to_keep, needed)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Deletes checkpoints kept for other trials; interrupted trials keep theirs."""
        for trial in trials:
            needed = latest_checkpoints(trials)
            delete_worst_checkpoints(trial, self._num_to_keep, needed)

    def get_state(self) -> dict[str, Any] | None:
        """Returns None: this callback has no state to store."""
        return None
