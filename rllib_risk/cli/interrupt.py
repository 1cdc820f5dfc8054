"""Ends a Tune run with a checkpoint of every trial: Ctrl-C, SIGTERM, time budgets.

Tune's own signal handler and time budget stop its loop at once. They save the state of
the experiment, but no checkpoints. Here the first signal makes the scheduler pause each
trial at its next result. Tune saves a paused trial and continues it on ``--resume``. A
trial whose iteration takes too long is killed, so that the command ends in time. It
continues from its last checkpoint. A second signal ends the command at once. The end of
a time budget acts like the first signal, but kills no trial.
"""

from __future__ import annotations

import math
import os
import signal
import time
from types import FrameType
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rllib_risk.cli.output import EXIT_INTERRUPTED, EXIT_TERMINATED, note
from rllib_risk.cli.signals import on_sigterm
from rllib_risk.core import tune_internals

# Stopping Tune and Ray takes 2 to 3 s after this.
GRACE_S = 6.0


class Interrupt(Callback):
    """Tune callback that ends a run after a signal or a time budget.

    Attributes:
        requested: Whether the run must end before its stop criteria are met.
        exit_code: 130 after Ctrl-C; 143 after SIGTERM; 0 after the time budget.
        killed: Ids of the trials that could not save a checkpoint in time.
    """

    def __init__(
        self, time_budget_s: float | None = None, grace_s: float = GRACE_S
    ) -> None:
        """Initializes the callback; :meth:`listen` activates it.

        Args:
            time_budget_s: Seconds after which the run ends; None: no limit.
            grace_s: Seconds after a signal in which trials can finish their iteration
                and save a checkpoint.
        """
        self.requested = False
        self.exit_code = 0
        self.killed: list[str] = []
        self._grace_s = grace_s
        self._time_budget_s = time_budget_s
        self._time_is_up = math.inf
        self._deadline = math.inf
        self._ended = False
        self._handlers: dict[int, Any] = {}

    def listen(self) -> None:
        """Installs the signal handlers and starts the time budget (main thread)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._on_signal)
        if self._time_budget_s is not None:
            self._time_is_up = time.monotonic() + self._time_budget_s

    def stop_listening(self) -> None:
        """Restores the signal handlers from before :meth:`listen`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code:
            if number == signal.SIGTERM:
                on_sigterm(number, frame)
            raise KeyboardInterrupt
        terminated = number == signal.SIGTERM
        self.exit_code = EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
        self.requested = True
        self._deadline = time.monotonic() + self._grace_s
        name = "SIGTERM" if terminated else "Ctrl-C"
        note(
            f"\n{name}: saving checkpoints and stopping (press or send it again to stop"
            " without saving) ..."
        )

    def pause_trials(self, scheduler: TrialScheduler) -> TrialScheduler:
        """Changes a scheduler so that it pauses trials once the run must end.

        Args:
            scheduler: A scheduler of Tune; this instance is changed.

        Returns:
            The same scheduler.
        """
        on_result, choose = scheduler.on_trial_result, scheduler.choose_trial_to_run

        def on_trial_result(controller: Any, trial: Trial, result: dict) -> str:
            decision = on_result(controller, trial, result)
            if self.requested and decision == TrialScheduler.CONTINUE:
                return TrialScheduler.PAUSE
            return decision

        def choose_trial_to_run(controller: Any) -> Trial | None:
            return None if self.requested else choose(controller)

        changed: Any = scheduler
        changed.on_trial_result = on_trial_result
        changed.choose_trial_to_run = choose_trial_to_run
        return scheduler

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Ends Tune's loop when all trials are paused or the time is over."""
        if not self.requested and time.monotonic() > self._time_is_up:
            self.requested = True
            note("The time budget is over: saving checkpoints and stopping ...")
        if not self.requested or self._ended:
            return
        running = [trial for trial in trials if trial.status == Trial.RUNNING]
        if running and time.monotonic() < self._deadline:
            return
        import ray

        for trial in running:
            # A busy actor would hold up Tune's own clean-up for 15 s.
            actor = tune_internals.trial_actor(trial)
            if actor is not None:
                ray.kill(actor)
            self.killed.append(trial.trial_id)
        self._ended = True
        # Tune ends a run on this signal: its handler sets a flag.
        os.kill(os.getpid(), signal.SIGUSR1)

    def get_state(self) -> dict[str, Any] | None:
        """Returns None: this callback has no state to store."""
        return None
