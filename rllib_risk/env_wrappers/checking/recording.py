"""Records the calls of an env while the adapter plays it, to explain errors."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvContractError,
    EnvTimeoutError,
)
from rllib_risk.env_wrappers.failures import describe
from rllib_risk.env_wrappers.parallel_env import in_short

_LISTENED = ("reset", "step", "state", "observation_space", "action_space")


class EnvRecording:
    """Records the calls between an adapter and its env; it wraps the env's methods.

    Attributes:
        episode: Number of resets so far.
        step: Steps since the last reset.
        seconds: Time spent in the listener, in seconds.
    """

    def __init__(
        self, env: Any, listener: Callable[[str, tuple[Any, ...], Any], None]
    ) -> None:
        """Wraps the methods of the env.

        Args:
            env: A PettingZoo ParallelEnv.
            listener: Called after each call of the env that did not raise, with the
                method's name, its positional arguments and its result.
        """
        self.episode = 0
        self.step = 0
        self.seconds = 0.0
        self._listener = listener
        self._last: tuple[str, Any] | None = None
        self._raised: list[tuple[str, BaseException]] = []
        for name in _LISTENED:
            method = getattr(env, name, None)
            if callable(method):
                with contextlib.suppress(AttributeError):  # a class with __slots__
                    setattr(env, name, self._heard(name, method))

    def _heard(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a method of the env so that the listener gets its results."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "reset":
                self.episode, self.step = self.episode + 1, 0
            elif name == "step":
                self.step += 1
            try:
                result = method(*args, **kwargs)
            except BaseException as error:
                self._raised.append((name, error))
                raise
            if name in ("reset", "step", "state"):
                self._last = name, result
            begun = time.perf_counter()
            self._listener(name, args, result)
            self.seconds += time.perf_counter() - begun
            return result

        return call

    def explain(self, error: BaseException) -> str:
        """Explains whether the env, the configuration or the adapter caused an error.

        Args:
            error: The exception that the adapter raised.

        Returns:
            One line.
        """
        if isinstance(error, EnvConfigError):
            return str(error)
        if isinstance(error, EnvTimeoutError):
            return describe(error, self._when())
        for name, raised in self._raised:
            if raised is error or raised is error.__cause__:
                hint = " (called with options=None)" if name == "reset" else ""
                what = describe(raised, self._when())
                return f"{name}() of the env{hint} raised {what}"
        if isinstance(error, EnvContractError):
            return f"the env breaks a rule of the adapter in {self._when()}: {error}"
        after = ""
        if self._last is not None:
            name, result = self._last
            after = f" on what {name}() of the env returned, {in_short(result)}"
        return f"the adapter itself failed{after}: {describe(error, self._when())}"

    def _when(self) -> str:
        """The present step and episode, for error texts."""
        if self.step:
            return f"step {self.step} of episode {self.episode}"
        return f"the reset of episode {self.episode}" if self.episode else "the set-up"
