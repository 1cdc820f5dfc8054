"""Measures the time of each part of a process's work."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

# Parts of the work of a trial's own process. An update consists of FORWARD (forward
# passes and losses), BACKWARD, OPTIMIZER and LEARNERS (waiting for other learners).
STARTING = "starting"
ACTING = "acting"
ENVIRONMENT = "environment"
WAITING = "waiting"
REPLAY = "replay"
FORWARD = "forward"
BACKWARD = "backward"
OPTIMIZER = "optimizer"
LEARNERS = "learners"
EVALUATION = "evaluation"
CHECKPOINTS = "checkpoints"
REST = "rest"
# Parts of the work of a remote env runner; ACTING and ENVIRONMENT are the others.
IDLE = "idle"


class Stopwatch:
    """Assigns every moment to one part of the work.

    The seconds of all parts therefore add up to the time since the start. A part within
    another one interrupts it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Starts with the part ``starting``.

        Args:
            clock: Returns the time in seconds.
        """
        self._clock = clock
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._part, self._since = STARTING, clock()

    def switch(self, part: str) -> str:
        """Begins a part, which ends with the next call.

        Args:
            part: Name of the part.

        Returns:
            The part that ends.
        """
        now, before = self._clock(), self._part
        self._seconds[before] += now - self._since
        self._part, self._since = part, now
        return before

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Assigns the time within a block to a part.

        Args:
            name: Name of the part. After the block, the part before it goes on.

        Yields:
            Nothing.
        """
        before = self.switch(name)
        try:
            yield
        finally:
            self.switch(before)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each part since the start or the last :meth:`take`."""
        self.switch(self._part)
        return dict(self._seconds)

    def take(self) -> dict[str, float]:
        """Returns the seconds of each part, and starts again from 0."""
        seconds = self.seconds()
        self._seconds.clear()
        return seconds
