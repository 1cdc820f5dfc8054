"""Prepares restored trials that continue after ``--resume``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rllib_risk.cli.newest_checkpoint import continue_from_newest
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import flatten, trial_label
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.core import tune_internals


class ResumedTrials:
    """Prepares the trials that Tune restores, before any of them starts.

    After SIGKILL, Tune's stored state may be older than the checkpoints on disk. A
    trial continues from its newest undamaged checkpoint.

    Attributes:
        unfinished: Number of restored trials that continue.
    """

    def __init__(self, spec: ExperimentSpec | None = None) -> None:
        """Stores the experiment whose changed settings the trials adopt.

        Args:
            spec: The experiment as the user asks for it now; None: no changes.
        """
        self.unfinished = 0
        self._spec = spec

    def prepare_trials(self, scheduler: TrialScheduler) -> TrialScheduler:
        """Changes a scheduler so that it prepares each added trial.

        Args:
            scheduler: A scheduler of Tune; this instance is changed.

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
            continue_from_newest(trial)

    def _take_over(self, trial: Trial, spec: ExperimentSpec) -> None:
        result = flatten(trial.last_result) if trial.has_reported_at_least_once else {}
        reached = _reached(result, trial.stopping_criterion)
        trial.stopping_criterion = dict(spec.stop)
        trial.max_failures = spec.max_failures
        tune_internals.save_trial_at(
            trial,
            spec.checkpoint_value("checkpoint_frequency"),
            spec.checkpoint_value("checkpoint_at_end"),
        )
        if trial.status != Trial.TERMINATED or not reached:
            return
        if _reached(result, spec.stop):
            return
        if not trial.has_checkpoint():
            note(f"{trial_label(trial)}  ended without a checkpoint, cannot continue")
            return
        trial.set_status(Trial.PENDING)


def _reached(result: Mapping[str, Any], stop: Mapping[str, float]) -> bool:
    return any(result.get(name, float("-inf")) >= value for name, value in stop.items())
