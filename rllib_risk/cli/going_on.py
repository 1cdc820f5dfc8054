"""Which restored trials go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rllib_risk.cli.newest_checkpoint import go_on_from_newest
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import flatten, trial_label
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.core import tune_internals


class GoingOn:
    """Prepares the trials that Tune restores, before any of them starts.

    After SIGKILL Tune remembers what it last wrote down, which may be older than the
    checkpoints on disk. A trial goes on from the newest whole one.

    Attributes:
        unfinished: How many restored trials go on.
    """

    def __init__(self, spec: ExperimentSpec | None = None) -> None:
        """Keeps what trials take over.

        Args:
            spec: The experiment as it is asked for now; None: nothing was changed.
        """
        self.unfinished = 0
        self._spec = spec

    def prepare_trials(self, scheduler: TrialScheduler) -> TrialScheduler:
        """Makes a scheduler prepare each trial that is added.

        Args:
            scheduler: Any of Tune's; its instance is changed.

        Returns:
            The same scheduler.
        """
        on_add = scheduler.on_trial_add

        def on_trial_add(controller: Any, trial: Trial) -> None:
            self._prepare(trial)
            on_add(controller, trial)

        changed: Any = scheduler
        changed.on_trial_add = on_trial_add
        return scheduler

    def _prepare(self, trial: Trial) -> None:
        if self._spec is not None:
            self._take_over(trial, self._spec)
        if not trial.is_finished():
            self.unfinished += 1
            go_on_from_newest(trial)

    def _take_over(self, trial: Trial, spec: ExperimentSpec) -> None:
        result = flatten(trial.last_result) if trial.has_reported_at_least_once else {}
        reached = _reached(result, trial.stopping_criterion)
        trial.stopping_criterion = dict(spec.stop)
        trial.max_failures = spec.max_failures
        tune_internals.save_trial_at(
            trial,
            spec.checkpoint.get("checkpoint_frequency", 0),
            spec.checkpoint.get("checkpoint_at_end", True),
        )
        if trial.status != Trial.TERMINATED or not reached:
            return
        if _reached(result, spec.stop):
            return
        if not trial.has_checkpoint():
            note(f"{trial_label(trial)}  ended without a checkpoint and cannot go on")
            return
        trial.set_status(Trial.PENDING)


def _reached(result: Mapping[str, Any], stop: Mapping[str, float]) -> bool:
    return any(result.get(name, float("-inf")) >= value for name, value in stop.items())
