"""Errors that environments and their adapters raise.

Two kinds matter to a caller: what the user must change in the configuration
(`EnvConfigError`) and what went wrong while the env ran (the others). The first is
never retried; see `LoopedTeamEnvs` for how the second is.
"""

from __future__ import annotations


class EnvConfigError(ValueError):
    """The env or its `env_config` cannot be used as written; the text names the fix."""


class EnvContractError(RuntimeError):
    """A running env broke its own contract (no legal action, wrong size, ...)."""


class NonFiniteError(EnvContractError):
    """An observation, a state or a reward holds NaN or infinity."""


class EnvFailedError(RuntimeError):
    """An env failed so many times in a row that it was given up."""

    def __init__(self, env_name: str, attempts: int, cause: str) -> None:
        """Keeps the three facts a reader of the log needs.

        Args:
            env_name: Name of the env, as in the user's configuration.
            attempts: Failures in a row, the last one included.
            cause: Type and text of the last failure.
        """
        super().__init__(env_name, attempts, cause)
        self.env_name = env_name
        self.attempts = attempts
        self.cause = cause

    def __str__(self) -> str:
        """One line: env, attempts, root cause."""
        return (
            f"env '{self.env_name}' failed {self.attempts} times in a row and was "
            f"given up; last cause: {self.cause}"
        )


class EnvTimeoutError(RuntimeError):
    """A call of an env took longer than `env_timeout_s`."""

    def __init__(self, env_name: str, call: str, seconds: float) -> None:
        """Keeps what a reader of the log needs.

        Args:
            env_name: Name of the env, as in the user's configuration.
            call: Name of the function that was called.
            seconds: How long it was waited for.
        """
        super().__init__(env_name, call, seconds)
        self.env_name = env_name
        self.call = call
        self.seconds = seconds

    def __str__(self) -> str:
        """One line: env, call, seconds."""
        # The time that close() gets is no key.
        key = "" if self.call == "close" else " (env_timeout_s)"
        return (
            f"env '{self.env_name}': {self.call}() did not return within"
            f" {self.seconds:g} s{key}"
        )


class IllegalActionError(ValueError):
    """The caller chose an action that the action mask forbids."""
