"""The time that a command may take."""

from __future__ import annotations

import time


class TimeBudget:
    """Counts the seconds since a command began."""

    def __init__(self, seconds: float | None) -> None:
        """Starts to count.

        Args:
            seconds: Seconds for the whole command; None: no limit.
        """
        self._end = None if seconds is None else time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether the command has used its time."""
        return self._end is not None and time.monotonic() >= self._end

    def for_experiment(self, own: float | None) -> float | None:
        """Returns the seconds that an experiment has; None: no limit.

        Args:
            own: Its ``time_budget_s``.
        """
        if self._end is None:
            return own
        left = max(0.0, self._end - time.monotonic())
        return left if own is None else min(own, left)
