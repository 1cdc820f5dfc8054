"""Ends a call of an environment that takes too long, and the processes it started.

A simulator can hang: a socket gets no answer, a deadlock, an endless loop. Python does
not end such a call by itself. Here a thread, one per process, looks at the running
calls. If a call is overdue, the thread

1. ends the processes that this environment has started, so that sockets return;
2. raises an exception in the thread of the call; see `interrupts`;
3. ends this process with exit code :data:`EXIT_STUCK` and a message, if the call has
   still not returned some seconds later. It is then in C code that cannot be
   interrupted.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

from rllib_risk.env_wrappers.child_processes import adopt_orphans
from rllib_risk.env_wrappers.env_processes import EnvProcesses, leave_alone
from rllib_risk.env_wrappers.errors import EnvTimeoutError
from rllib_risk.env_wrappers.failures import close_env
from rllib_risk.env_wrappers.interrupts import (
    Overdue,
    forget_interrupt,
    install_handler,
    interrupt,
)

# Default of `env_timeout_s`.
ENV_TIMEOUT_S = 600.0
# The exit code of a process that was ended because a call could not be interrupted.
EXIT_STUCK = 75
# Time that an overdue call has to return before its process is ended.
GRACE_S = 5.0
# Time limit of close(), so that the end of a run does not wait for it.
CLOSE_S = 10.0
# Time limit of close() after an overdue call, or after another close() that hung. After
# the second close() that hung, no other one is called.
_CLOSE_OVERDUE_S = 2.0
# Longest time between two checks of the running calls; shortest between two interrupts.
_TICK_S = 1.0
# Looking for new processes takes about 100 microseconds, and starting a process takes
# 500. After a successful call, look only if the call took at least this time.
_SEARCH_AFTER_S = {"build": 0.0, "reset": 0.0002}
_SEARCH_AFTER_STEP_S = 0.02
# After a pause of this length between two calls, look for the processes of others.
_PAUSE_S = 0.02

T = TypeVar("T")


class _Function(NamedTuple):
    """A function of an environment, and how long it may take."""

    slot: int
    name: str
    limit_s: float
    grace_s: float
    search_after_s: float


# A call that has not returned: function, thread, start. A plain tuple for speed: every
# step makes one.
_Call = tuple[_Function, int, float]


class Watchdog:
    """Watches the calls of some environments; only one call runs at a time.

    Attributes:
        env_name: Name of the environments in error texts.
        timeout_s: Time limit of a call in seconds; None: no limit.
    """

    # When the last call of any environment of this process ended.
    _last_end: ClassVar[float] = math.inf

    def __init__(self, env_name: str, timeout_s: float | None) -> None:
        """Starts to watch.

        Args:
            env_name: Name of the environments in error texts.
            timeout_s: Time limit of a call in seconds; None: no limit.
        """
        self.env_name = env_name
        self.timeout_s = timeout_s
        self._running: _Call | None = None
        self._overdue: _Call | None = None
        self._interrupted_at = 0.0
        # The call that runs, and its running time. Time in which this process was
        # stopped does not count.
        self._seen: _Call | None = None
        self._age = 0.0
        # When each environment was built, and the processes that it has started since.
        self._built: dict[int, float] = {}
        self._processes: dict[int, EnvProcesses] = {}
        adopt_orphans()
        _watcher.add(self)

    def build(self, slot: int, make: Callable[[], T]) -> T:
        """Builds an environment, and watches all its calls.

        Args:
            slot: Number of the environment; :meth:`end` takes it.
            make: Builds the environment.

        Returns:
            The environment. Errors of its ``close`` are logged, not raised.

        Raises:
            EnvTimeoutError: If it takes longer than ``timeout_s``.
        """
        self._built[slot] = time.monotonic()
        _watcher.hung_closes = 0
        env = self.call(slot, "build", make)
        for name in ("reset", "step", "render"):
            if not hasattr(env, name):
                continue
            what = self._function(slot, name)
            setattr(env, name, partial(self._call, what, getattr(env, name)))
        env.close = partial(self._close, slot, env, env.close)
        return env

    def call(self, slot: int, name: str, function: Any, *args: Any, **kw: Any) -> Any:
        """Calls a function of an environment, and watches the call.

        Args:
            slot: Number of the environment.
            name: Name of the function.
            function: The function.
            *args: Its arguments.
            **kw: Its keyword arguments.

        Returns:
            The result of the function.

        Raises:
            EnvTimeoutError: If it takes longer than ``timeout_s``.
        """
        return self._call(self._function(slot, name), function, *args, **kw)

    def bounded(
        self, name: str, limit_s: float, function: Callable[..., T], *args: Any
    ) -> T:
        """Calls an optional function with its own time limit.

        Args:
            name: What the function does, for error texts.
            limit_s: Time limit in seconds. The process ends only if the function cannot
                be interrupted for another ``timeout_s`` seconds.
            function: The function.
            *args: Its arguments.

        Returns:
            The result of the function.

        Raises:
            EnvTimeoutError: If it takes longer than ``limit_s``.
        """
        patience = self.timeout_s or math.inf
        whole = _Function(0, name, limit_s, patience, math.inf)
        return self._call(whole, function, *args)

    def end(self, slot: int) -> None:
        """Ends all processes that an environment has started and that still run.

        Args:
            slot: Number of the environment.
        """
        processes = self._processes.pop(slot, None)
        if processes is not None:
            processes.end()
        self._overdue = None

    def _function(self, slot: int, name: str) -> _Function:
        limit = self.timeout_s or math.inf
        search_after = _SEARCH_AFTER_S.get(name, _SEARCH_AFTER_STEP_S)
        return _Function(slot, name, limit, GRACE_S, search_after)

    def _call(self, what: _Function, function: Any, *args: Any, **kw: Any) -> Any:
        start = time.monotonic()
        if start - Watchdog._last_end > _PAUSE_S:
            _leave_others_alone()
        call = (what, threading.get_ident(), start)
        outer = self._running
        self._running = call
        try:
            try:
                result = function(*args, **kw)
            finally:
                self._running = outer
                Watchdog._last_end = time.monotonic()
        except BaseException as error:
            self._running = outer  # the interrupt may have come one line above
            self._look_for_processes(what.slot, self._built.get(what.slot, start))
            if self._overdue is call and isinstance(error, (Exception, Overdue)):
                raise self._error(call) from error
            raise
        if self._overdue is call:
            # The call returned, but its processes have already been ended.
            self._look_for_processes(what.slot, self._built.get(what.slot, start))
            raise self._error(call)
        if Watchdog._last_end - start >= what.search_after_s:
            self._look_for_processes(what.slot, start)
        return result

    def _close(self, slot: int, env: Any, close: Callable[[], None]) -> None:
        """Closes an environment; errors are logged, not raised."""
        limit = self._close_limit(slot)
        what = self._function(slot, "close")._replace(limit_s=limit)
        try:
            if limit > 0:
                close_env(env, partial(self._call_close, what, close))
        finally:
            self.end(slot)

    def _close_limit(self, slot: int) -> float:
        """Returns the time limit of a close() in seconds; 0: it is not called."""
        if self.timeout_s is None:
            return math.inf
        if _watcher.hung_closes > 1:
            return 0.0
        late = self._overdue is not None and self._overdue[0].slot == slot
        short = late or _watcher.hung_closes
        return min(self.timeout_s, _CLOSE_OVERDUE_S if short else CLOSE_S)

    def _call_close(self, what: _Function, close: Callable[[], None]) -> None:
        try:
            self._call(what, close)
        except EnvTimeoutError:
            _watcher.hung_closes += 1
            raise

    def _error(self, call: _Call) -> EnvTimeoutError:
        what, thread, _ = call
        forget_interrupt(thread)
        return EnvTimeoutError(self.env_name, what.name, what.limit_s)

    def _look_for_processes(self, slot: int, since: float) -> None:
        """Records the processes that an environment has started."""
        self._processes.setdefault(slot, EnvProcesses()).find(since)

    # The watcher's thread calls the following methods.

    def check(self, seconds: float) -> None:
        """Interrupts the running call if it is overdue.

        Args:
            seconds: Time since the last check.
        """
        call = self._running
        if call is not self._seen:
            self._seen, self._age = call, 0.0
        if call is None:
            return
        self._age += seconds
        what, thread, start = call
        if self._age < what.limit_s:
            if self._age >= what.search_after_s:
                # This process may be killed during a long call.
                self._look_for_processes(what.slot, start)
            return
        if self._overdue is not call:
            self._overdue, self._interrupted_at = call, -math.inf
            own = self._processes.setdefault(what.slot, EnvProcesses())
            own.find(start)
            own.end()
            self._age = what.limit_s
        if self._running is not call:
            return
        if self._age >= what.limit_s + what.grace_s:
            self._give_up(call)
        if self._age >= self._interrupted_at + _TICK_S:
            self._interrupted_at = self._age
            interrupt(thread, partial(self._is_in, call))

    def _is_in(self, call: _Call) -> bool:
        """Whether this is the running call."""
        return self._running is call

    def is_idle(self) -> bool:
        """Whether no call is running."""
        return self._running is None

    def _give_up(self, call: _Call) -> None:
        """Ends this process, because its call cannot be interrupted."""
        text = (
            f"{self._error(call)}. The call cannot be interrupted (it is in C code), so"
            f" process {os.getpid()} ends with exit code {EXIT_STUCK}."
        )
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)
        for tell in on_give_up:
            with contextlib.suppress(Exception):
                tell(text)
        for watchdog in _watcher.watchdogs():
            for slot in list(watchdog._processes):
                watchdog.end(slot)
        os._exit(EXIT_STUCK)


# Functions that are called with the message before this process ends.
on_give_up: list[Callable[[str], None]] = []


class _Watcher:
    """The thread that looks at all running calls of this process.

    Attributes:
        hung_closes: Number of calls of close() that hung since an environment was
            built. If one hangs, the others probably hang too.
    """

    def __init__(self) -> None:
        self._watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()
        self.hung_closes = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, watchdog: Watchdog) -> None:
        """Adds a watchdog, and starts the thread if it does not run."""
        install_handler()
        with self._lock:
            self._watchdogs.add(watchdog)
            # A forked process has this object, but not its thread.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="env-watchdog", daemon=True
                )
                self._thread.start()

    def watchdogs(self) -> list[Watchdog]:
        """The watchdogs in use."""
        with self._lock:
            return list(self._watchdogs)

    def _run(self) -> None:
        tick, last = 0.05, time.monotonic()
        while True:
            time.sleep(tick)
            now = time.monotonic()
            # A longer time means that this process was stopped, for example by Ctrl-Z.
            seconds, last = min(now - last, 2 * tick), now
            watchdogs = self.watchdogs()
            for watchdog in watchdogs:
                watchdog.check(seconds)
            limits = [
                watchdog.timeout_s
                for watchdog in watchdogs
                if watchdog.timeout_s is not None
            ]
            tick = max(min([_TICK_S, *(limit / 10 for limit in limits)]), 0.02)
            del watchdogs


_watcher = _Watcher()


def _leave_others_alone() -> None:
    """Records that what started since the last call belongs to no environment."""
    # A call in another thread may start processes at the moment.
    if all(watchdog.is_idle() for watchdog in _watcher.watchdogs()):
        leave_alone(Watchdog._last_end)
