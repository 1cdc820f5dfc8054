"""Counts the failures of an env, describes them, and stops a run after too many.

The rules are the same for all envs, looped or vectorised, local or remote. An episode
that ends with an exception, or holds NaN or infinity, is lost. The run stops in two
cases: one copy fails `max_env_restarts` times in a row, or more than `MAX_LOST_SHARE`
of the recent episodes of all copies are lost.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sysconfig
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvContractError,
    EnvFailedError,
    EnvTimeoutError,
    IllegalActionError,
    NonFiniteError,
)
from rllib_risk.env_wrappers.notices import tell

T = TypeVar("T")

# After k failures, wait k times this many seconds: a simulator may still be starting,
# or a port may still be in use.
BACKOFF_S = 0.1

# Exceptions that count as a failure of the env. SystemExit is one of them, so that it
# does not end this process without a message.
CRASHES = (Exception, SystemExit)

# Mistakes of the user or the caller: a new env would fail in the same way.
NOT_RETRIED = (EnvConfigError, EnvFailedError, IllegalActionError)

# Largest share of lost episodes among the last `RECENT_EPISODES`.
MAX_LOST_SHARE = 0.75
RECENT_EPISODES = 100
# One fault of a shared simulator loses an episode of every copy at once, so many copies
# need a longer history.
_RECENT_PER_COPY = 4

_PACKAGE = str(Path(__file__).resolve().parents[1])
_LIBRARIES = tuple(
    sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")
)


class EnvFailures:
    """Counts the failures of the copies of one env, and raises after too many."""

    def __init__(
        self,
        env_name: str,
        num_envs: int,
        max_restarts: int,
        skip_nonfinite: bool = True,
    ) -> None:
        """Starts without failures.

        Args:
            env_name: Name of the env in texts.
            num_envs: Number of copies.
            max_restarts: Number of failures of one copy in a row that stops the run,
                at least 1.
            skip_nonfinite: Whether NaN or infinity costs the episode; False: it stops
                the run.

        Raises:
            EnvConfigError: If a number is out of range.
        """
        if max_restarts < 1:
            raise EnvConfigError(f"max_restarts must be at least 1, not {max_restarts}")
        if num_envs < 1:
            raise EnvConfigError(f"num_envs must be at least 1, not {num_envs}")
        self._env_name = env_name
        self._max_restarts = max_restarts
        self._skip_nonfinite = skip_nonfinite
        self._in_a_row = [0] * num_envs
        recent = max(RECENT_EPISODES, _RECENT_PER_COPY * num_envs)
        self._lost: deque[bool] = deque(maxlen=recent)

    def completed(self, slot: int) -> None:
        """Records that a copy has played an episode to its end."""
        self._in_a_row[slot] = 0
        self._lost.append(False)

    def failed(
        self, slots: Sequence[int], error: BaseException, step: int | None
    ) -> str:
        """Counts a failure, and logs its cause if that is new.

        NaN and infinity in a step do not count as failures in a row: the user chose to
        skip such episodes.

        Args:
            slots: The copies that failed.
            error: The exception.
            step: Step of the episode; 0: reset; None: while the env was built.

        Returns:
            The cause, one line.

        Raises:
            EnvFailedError: If the env failed too often.
            NonFiniteError: If the env gave NaN or infinity that must not be skipped.
            SystemExit: If a signal asked this process to end while the env ran.
        """
        raise_if_signalled(error)
        cause = describe(error, moment(step))
        if isinstance(error, NonFiniteError) and not self._skip_nonfinite:
            raise NonFiniteError(
                f"env '{self._env_name}': {cause}. Fix the environment, or set"
                " on_nonfinite: skip_episode to drop such episodes."
            ) from error
        place = raised_at(error)
        tell(
            f"crash {self._env_name} {type(error).__name__} {place}",
            f"env '{self._env_name}' failed: {cause}. Repeats of this cause are only "
            "counted.",
            error,
        )
        counts_in_a_row = not (isinstance(error, NonFiniteError) and step)
        for slot in slots:
            self._lost.append(True)
            self._in_a_row[slot] += counts_in_a_row
        worst = max(self._in_a_row[slot] for slot in slots)
        if worst >= self._max_restarts:
            raise EnvFailedError(self._env_name, worst, cause) from error
        lost, recent = sum(self._lost), self._lost.maxlen or 0
        if lost > MAX_LOST_SHARE * recent:
            raise EnvFailedError(self._env_name, lost, cause, recent) from error
        return cause

    def retry(
        self,
        slots: Sequence[int],
        call: Callable[[], T],
        drop: Callable[[], None],
        step: int | None = None,
    ) -> T:
        """Calls `call` until it works or the env has failed too often.

        Args:
            slots: The copies that `call` builds or resets.
            call: Builds or resets the env.
            drop: Closes the env after a failure.
            step: See `failed`.

        Returns:
            The result of `call`.

        Raises:
            EnvFailedError: If the env failed too often.
            NonFiniteError: See `failed`.
        """
        while True:
            try:
                return call()
            except NOT_RETRIED:
                raise
            except CRASHES as error:
                try:
                    self.failed(slots, error, step)
                finally:
                    drop()
                time.sleep(BACKOFF_S * max(self._in_a_row[slot] for slot in slots))


def seeds_to_try(seed: Any) -> Iterator[Any]:
    """Seeds for the attempts of one reset; each seed is tried twice.

    Most faults are gone at the second attempt. If not, the seed itself may be the
    cause, so another one follows. All seeds lie in the range of the first one: training
    and evaluations have ranges of their own, whose sizes are powers of two.

    Args:
        seed: The first seed, an integer or an array of integers.

    Yields:
        An endless sequence of seeds.
    """
    for attempt in itertools.count():
        yield seed ^ (attempt // 2)


def close_env(env: Any, close: Callable[[], None] | None = None) -> None:
    """Closes an env; an error in its close() is logged once and not raised.

    Args:
        env: An object with a method close().
        close: A function to call instead of env.close().
    """
    try:
        (close or env.close)()
    except CRASHES as error:
        raise_if_signalled(error)
        name = type(getattr(env, "unwrapped", env)).__name__
        text = describe(error, "close")
        tell(
            f"close {name}",
            f"close() of {name} failed and is ignored: {text}.",
            error,
        )


def raise_if_signalled(error: BaseException) -> None:
    """Raises an exception again if a signal handler raised it while an env ran.

    A simulator that calls `sys.exit` has crashed. But Ray's handler of SIGTERM also
    calls `sys.exit`, in any code that runs at that moment; that must end the process.

    Args:
        error: The exception that was caught.
    """
    handlers = map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))
    codes = [getattr(handler, "__code__", None) for handler in handlers]
    frames = traceback.walk_tb(error.__traceback__)
    if any(frame.f_code in codes for frame, _ in frames):
        raise error


def describe(error: BaseException, when: str) -> str:
    """Describes an exception of an env in one line: what, when and where.

    Args:
        error: The exception.
        when: When it was raised; see `moment`.

    Returns:
        Text such as
        "OSError: no answer (step 3 of the episode; sim.py, line 9, in step)".
    """
    text = " ".join(str(error).split())
    name = type(error).__name__
    # An error of the adapter names the cause, so its place in our code is left out.
    ours = isinstance(error, EnvContractError)
    ours |= isinstance(error, EnvTimeoutError) and error.__cause__ is None
    place = "" if ours else f"; {raised_at(error)}"
    return f"{name}{': ' if text else ''}{text.rstrip('.')} ({when}{place})"


def moment(step: int | None) -> str:
    """Names a step of an episode; 0: reset; None: while the env was built."""
    if step is None:
        return "while the env was built"
    return f"step {step} of the episode" if step else "reset"


def raised_at(error: BaseException) -> str:
    """Where the env's own code raised an exception.

    Args:
        error: The exception.

    Returns:
        File, line and function of the innermost frame in the user's own files; if there
        is none, of the innermost frame.
    """
    # The cause of a timeout is the interrupt, which was raised where the env's code
    # hung.
    hung = isinstance(error, EnvTimeoutError) and error.__cause__
    frames = traceback.extract_tb((hung or error).__traceback__)
    if not frames:
        return "unknown place"
    own = [f for f in frames if not f.filename.startswith((_PACKAGE, *_LIBRARIES))]
    frame = (own or frames)[-1]
    path = Path(frame.filename)
    with contextlib.suppress(OSError, ValueError):  # not below the working directory
        path = path.relative_to(os.getcwd())
    return f"{path}, line {frame.lineno}, in {frame.name}"
