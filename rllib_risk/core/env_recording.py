"""Listens to an env while the adapter plays it, and tells whose error an error is."""

from __future__ import annotations

import functools
import itertools
import sysconfig
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError

_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = tuple(
    sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")
)

_LISTENED = ("reset", "step", "state", "observation_space", "action_space", "close")
# PettingZoo's API.
_SIGNATURES = {
    "reset": "reset(seed=None, options=None)",
    "step": "step(actions)",
    "state": "state()",
    "close": "close()",
}
_RESULTS = {
    "reset": "reset() must return the pair (observations, infos)",
    "step": "step() must return (observations, rewards, terminations, truncations,"
    " infos)",
    "state": "state() must return an array of numbers",
}


class EnvRecording:
    """Hears what passes between an env and its adapter; the env stays the same object.

    Attributes:
        episode: Number of resets so far.
        step: Steps since the last reset.
        seconds: Time spent in `listener`.
    """

    def __init__(
        self, env: Any, listener: Callable[[str, tuple[Any, ...], Any], None]
    ) -> None:
        """Begins to listen.

        Args:
            env: A PettingZoo ParallelEnv.
            listener: Called after each call of the env that did not raise, with the
                method's name, its positional arguments and its result.
        """
        self.episode = 0
        self.step = 0
        self.seconds = 0.0
        self._listener = listener
        self._last: tuple[str, Any] = ("", None)
        self._raised: list[tuple[str, BaseException]] = []
        for name in _LISTENED:
            method = getattr(env, name, None)
            if callable(method):
                setattr(env, name, self._heard(name, method))

    def _heard(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the env that tells the listener what it returned."""

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
            if name in _RESULTS:
                self._last = name, result
            begun = time.perf_counter()
            self._listener(name, args, result)
            self.seconds += time.perf_counter() - begun
            return result

        return call

    def explain(self, error: BaseException) -> str:
        """Says what an error is and whose: the env's, the configuration's or ours.

        Args:
            error: What the adapter raised.
        """
        if isinstance(error, EnvConfigError):
            return str(error)
        for name, raised in self._raised:
            if raised is error or raised is error.__cause__:
                return self._explain_env(name, raised)
        if isinstance(error, EnvContractError):
            return f"the env breaks a rule of the adapter{self._when()}: {error}"
        name, result = self._last
        if not name:
            return f"the adapter itself failed: {describe(error)}"
        return (
            f"the adapter cannot use what {name}() of the env returned{self._when()}:"
            f" {_shown(result)}. {_RESULTS[name]} ({describe(error)})"
        )

    def _explain_env(self, name: str, error: BaseException) -> str:
        """An error that the env itself raised."""
        entered = traceback.extract_tb(error.__traceback__)[-1].filename != __file__
        if isinstance(error, TypeError) and not entered:
            return (
                f"{name}() of the env cannot be called as in PettingZoo's API: {error}."
                f" Give it the parameters of {_SIGNATURES.get(name, f'{name}(agent)')}"
            )
        when = self._when() if name in ("reset", "step") else ""
        hint = " (called with options=None)" if name == "reset" else ""
        return f"{name}() of the env{hint} raised {describe(error)}{when}: mend the env"

    def _when(self) -> str:
        """Where in the play this is."""
        if self.step:
            return f" in step {self.step} of episode {self.episode}"
        return f" at the start of episode {self.episode}" if self.episode else ""


def describe(error: BaseException) -> str:
    """Type, text and place of an error.

    Args:
        error: An exception that was caught.

    Returns:
        Such as "KeyError: 'x' (my_env.py, line 12, in step)"; the place is the
        innermost one outside of installed packages, if there is one.
    """
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    # Ours lead to the env; the env's own follow, and those of what it calls.
    inner = list(
        itertools.dropwhile(lambda frame: frame.filename.startswith(_PACKAGE), frames)
    )
    own = [frame for frame in inner if not frame.filename.startswith(_LIBRARIES)]
    for candidates in (own, inner, frames):
        if candidates:
            frame = candidates[-1]
            return f"{text} ({frame.filename}, line {frame.lineno}, in {frame.name})"
    return text


def _shown(result: Any) -> str:
    """A short text for what an env returned."""
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}, {_cut(repr(result))}"
    return f"a {type(result).__name__}, {_cut(repr(result))}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else text[:97] + "..."
