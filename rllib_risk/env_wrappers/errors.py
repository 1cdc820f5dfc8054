"""Errors that environments and their adapters raise.

A caller distinguishes two kinds. `EnvConfigError` means that the user must change the
configuration; it is never retried. An `EnvError` occurs while the env runs; see
`failures` for how it is retried.
"""

from __future__ import annotations


class EnvConfigError(ValueError):
    """The env or its `env_config` cannot be used; the text names the fix."""


class EnvError(RuntimeError):
    """A running env failed; the text says what happened."""


class EnvContractError(EnvError):
    """A running env broke a rule of the adapter (no legal action, wrong size, ...)."""


class NonFiniteError(EnvContractError):
    """An observation, a state or a reward holds NaN or infinity."""


class EnvFailedError(EnvError):
    """An env failed too often, so the run stops using it."""

    def __init__(
        self, env_name: str, attempts: int, cause: str, of_last: int = 0
    ) -> None:
        """Stores the facts for the error text.

        Args:
            env_name: Name of the env, as in the user's configuration.
            attempts: Failures in a row, or lost episodes among the last `of_last`.
            cause: Type, text and place of the last failure; see `failures.describe`.
            of_last: Number of recent episodes among which `attempts` were lost; 0: the
                failures came in a row.
        """
        super().__init__(env_name, attempts, cause, of_last)
        self.env_name = env_name
        self.attempts = attempts
        self.cause = cause
        self.of_last = of_last

    def __str__(self) -> str:
        """One line: env, attempts, root cause, what to do."""
        if self.of_last:
            count = f"lost {self.attempts} of its last {self.of_last} episodes"
            advice = "Fix the environment."
        else:
            count = f"failed {self.attempts} times in a row"
            advice = (
                "Fix the environment, or raise max_env_restarts if it fails only "
                "sometimes."
            )
        return (
            f"env '{self.env_name}' {count} and was given up; last cause: "
            f"{self.cause}. {advice}"
        )


class EnvTimeoutError(EnvError):
    """A call of an env took longer than `env_timeout_s`."""

    def __init__(self, env_name: str, call: str, seconds: float) -> None:
        """Stores the facts for the error text.

        Args:
            env_name: Name of the env, as in the user's configuration.
            call: Name of the function that was called.
            seconds: Time limit of the call in seconds.
        """
        super().__init__(env_name, call, seconds)
        self.env_name = env_name
        self.call = call
        self.seconds = seconds

    def __str__(self) -> str:
        """One line: env, call, seconds."""
        # The user cannot set the time limit of close().
        key = "" if self.call == "close" else " (env_timeout_s)"
        return (
            f"env '{self.env_name}': {self.call}() did not return within"
            f" {self.seconds:g} s{key}"
        )


class IllegalActionError(ValueError):
    """The caller chose an action that the action mask forbids."""
