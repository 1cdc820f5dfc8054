"""Time limit of a command."""

from __future__ import annotations

import time


class TimeBudget:
    """Time limit of a command, shared by its experiments."""

    def __init__(self, seconds: float | None) -> None:
        """Starts the clock.

        Args:
            seconds: Time limit of the whole command in seconds; None: no limit.
        """
        self._end = None if seconds is None else time.monotonic() + seconds

    def is_over(self) -> bool:
        """Returns whether the time limit has been reached."""
        return self._end is not None and time.monotonic() >= self._end

    def for_experiment(self, own: float | None) -> float | None:
        """Returns the time limit of an experiment in seconds; None: no limit.

        Args:
            own: The experiment's own ``time_budget_s``.
        """
        if self._end is None:
            return own
        left = max(0.0, self._end - time.monotonic())
        return left if own is None else min(own, left)
