"""A wrapper that applies the rules of `failures` to a vectorised env."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    LoopedTeamEnvs,
    slots_where,
)
from rllib_risk.env_wrappers.errors import NonFiniteError
from rllib_risk.env_wrappers.failures import (
    CRASHES,
    NOT_RETRIED,
    EnvFailures,
    close_env,
    seeds_to_try,
)


def guarded(
    make: Callable[[], BatchedTeamEnv],
    num_envs: int,
    *,
    max_restarts: int,
    env_name: str,
    skip_nonfinite: bool = True,
) -> BatchedTeamEnv:
    """Builds a vectorised env that is replaced when it fails.

    Args:
        make: Builds the env.
        num_envs: Number of copies E.
        max_restarts: See `EnvFailures`.
        env_name: Name of the env in texts.
        skip_nonfinite: See `EnvFailures`.

    Returns:
        The env in a `GuardedTwin`. A `LoopedTeamEnvs` is returned as it is, since it
        already replaces envs that fail.

    Raises:
        EnvConfigError: If the env cannot be used.
        EnvFailedError: If it cannot be built.
    """
    failures = EnvFailures(env_name, num_envs, max_restarts, skip_nonfinite)
    envs = failures.retry([0], make, lambda: None)
    if isinstance(envs, LoopedTeamEnvs):
        return envs
    return GuardedTwin(make, envs, failures)


class GuardedTwin(BatchedTeamEnv):
    """A vectorised env that is replaced when it raises.

    After an exception in `step`, the running episodes of all slots are lost, since they
    share one object. NaN or infinity loses only the episode of its slot.

    Attributes:
        twin: The vectorised env.
    """

    def __init__(
        self,
        make: Callable[[], BatchedTeamEnv],
        twin: BatchedTeamEnv,
        failures: EnvFailures,
    ) -> None:
        """Wraps a vectorised env.

        Args:
            make: Builds a new vectorised env.
            twin: The first vectorised env; `close` closes it.
            failures: Counts the failures.
        """
        super().__init__(twin.num_envs, twin.spec)
        self.twin = twin
        # The first twin owns these arrays and refreshes them in place; see _refresh.
        self.obs, self.state = twin.obs, twin.state
        self.action_mask, self.order = twin.action_mask, twin.order
        self._make = make
        self._failures = failures
        self._broken = False
        self._begun = np.zeros(self.num_envs, bool)  # slots with a running episode
        self._steps = np.zeros(self.num_envs, np.int64)

    def expect(self, seeds: np.ndarray) -> None:
        """See the base class."""
        self.twin.expect(seeds)

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class.

        Raises:
            EnvFailedError: If the env fails too often; see `EnvFailures`.
            NonFiniteError: If it gives NaN that must not be skipped.
        """
        start = partial(self._start, slots, seeds_to_try(seeds))
        self._failures.retry(slots.tolist(), start, self._drop, step=0)
        self._begun[slots] = True
        self._steps[slots] = 0
        self._refresh()

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class.

        Raises:
            EnvFailedError: If the env fails too often; see `EnvFailures`.
            NonFiniteError: If it gives NaN that must not be skipped.
        """
        playing = active & self._begun
        self._steps += playing
        try:
            step = self.twin.step(actions, playing)
        except NOT_RETRIED:
            raise
        except CRASHES as error:
            step = BatchedStep.nothing(self.num_envs)
            slots = slots_where(playing)
            try:
                cause = self._failed(slots, error)
            finally:
                self._drop()
            step.crashed = dict.fromkeys(slots_where(active), cause)
            return step
        self._refresh()
        # A failed reset of other slots has replaced the twin, so these episodes are
        # lost.
        for slot in slots_where(active & ~playing):
            step.crashed[slot] = "lost with another episode of the vectorised env"
        self._lose_nonfinite(step, playing)
        for slot in slots_where(step.terminateds | step.truncateds):
            if slot not in step.crashed:
                self._failures.completed(slot)
        return step

    def close(self) -> None:
        """Closes the env."""
        close_env(self.twin)

    def _start(self, slots: np.ndarray, seeds: Iterator[np.ndarray]) -> None:
        if self._broken:
            self.twin = self._make()
            self._broken = False
        self.twin.reset(slots, next(seeds))

    def _failed(self, slots: Sequence[int], error: BaseException) -> str:
        return self._failures.failed(slots, error, int(self._steps[slots].max()))

    def _drop(self) -> None:
        """Closes the twin; the next reset builds a new one."""
        self._begun[:] = False
        if not self._broken:
            self._broken = True
            close_env(self.twin)

    def _refresh(self) -> None:
        """Copies the arrays of the present twin, unless it is the first one."""
        if self.twin.obs is not self.obs:
            self.obs[:] = self.twin.obs
            self.state[:] = self.twin.state
            self.action_mask[:] = self.twin.action_mask

    def _lose_nonfinite(self, step: BatchedStep, playing: np.ndarray) -> None:
        """Marks slots with NaN or infinity as crashed."""
        # The sums are finite only if all numbers are finite.
        if np.isfinite(self.obs.sum() + self.state.sum() + step.rewards.sum()):
            return
        for slot in slots_where(playing):
            parts = {
                "observations": self.obs[slot],
                "state": self.state[slot],
                "reward": step.rewards[slot],
            }
            bad = [name for name, value in parts.items() if not _finite(value)]
            if bad:
                error = NonFiniteError(f"the {bad[0]} of copy {slot} hold NaN or inf")
                step.crashed[slot] = self._failed([slot], error)


def _finite(value: np.ndarray) -> bool:
    return bool(np.isfinite(value).all())
