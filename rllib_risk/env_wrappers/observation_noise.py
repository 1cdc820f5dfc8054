"""Gaussian noise on the agents' observations, such as that of a worse sensor.

State, masks and the env itself do not change. `TeamEnv` and the wrapper of a vectorised
env draw the same numbers from the same seed.

Letters: E slots, k of these slots, N agents, A actions, D observation size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.batched_env import BatchedStep, BatchedTeamEnv
from rllib_risk.env_wrappers.errors import EnvConfigError

# Second word of the seeds. The env itself uses the plain seed of the episode, and the
# noise must not repeat its numbers.
_STREAM = 1
# Steps whose noise is drawn at once, so that most steps need no call per slot.
_BLOCK = 16


class ObservationNoise:
    """Adds noise to the observations of E episodes, each with its own generator."""

    def __init__(
        self,
        std: float | Sequence[float],
        num_envs: int,
        num_agents: int,
        obs_size: int,
    ) -> None:
        """Prepares the generators.

        Args:
            std: Standard deviation, in units of the observation; at least 0. A list has
                one for each of the D numbers.
            num_envs: Number of slots, E.
            num_agents: Number of agents, N.
            obs_size: Observation size, D.

        Raises:
            EnvConfigError: If a number in std is not finite or is below 0, or if a list
                does not hold D numbers.
        """
        self._std = check_std(std)
        if self._std.ndim and self._std.size != obs_size:
            raise EnvConfigError(
                f"env_config.obs_noise_std lists {self._std.size} numbers, but an"
                f" agent observes {obs_size}: give one for each of them, or one"
                " number for all"
            )
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._drawn = np.zeros((num_envs, _BLOCK, num_agents, obs_size), np.float32)
        self._used = np.full(num_envs, _BLOCK)  # used rows of the block

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Begins the noise of new episodes.

        Args:
            slots: Slots of the episodes, integers [k].
            seeds: Seeds of the episodes, integers [k] of at least 0.
        """
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            self._rngs[slot] = np.random.default_rng((seed, _STREAM))
        self._used[slots] = _BLOCK

    def apply(
        self, slots: np.ndarray, obs: np.ndarray, action_mask: np.ndarray
    ) -> np.ndarray:
        """Draws the next noise of some episodes and adds it.

        The zero row of a dead agent stays zero. An agent counts as dead if its row is
        zero and its mask allows only action 0.

        Args:
            slots: Slots of the episodes, integers [k].
            obs: Observations without noise, float32 or (images) uint8 [k, N, D].
            action_mask: uint8 [k, N, A].

        Returns:
            Observations with noise, [k, N, D] of the same type. Pixels are rounded and
            stay between 0 and 255.
        """
        for slot in slots[self._used[slots] == _BLOCK].tolist():
            self._rngs[slot].standard_normal(dtype=np.float32, out=self._drawn[slot])
            self._used[slot] = 0
        noise = self._drawn[slots, self._used[slots]]  # [k, N, D], a copy
        self._used[slots] += 1
        noise *= self._std
        dead = ~obs.any(axis=-1) & ~action_mask[..., 1:].any(axis=-1)  # [k, N]
        noise[dead] = 0.0
        noise += obs
        if obs.dtype == np.uint8:
            return noise.round().clip(0, 255).astype(np.uint8)
        return noise


class NoisyTeamEnvs(BatchedTeamEnv):
    """A wrapper that adds noise to the observations of a batched env.

    All agents must observe D numbers. This class does not know which numbers are
    padding, so padding would get noise.
    """

    def __init__(self, envs: BatchedTeamEnv, std: float | Sequence[float]) -> None:
        """Wraps a batched env.

        Args:
            envs: The env without noise; `close` closes it too.
            std: See `ObservationNoise`.

        Raises:
            EnvConfigError: If std is wrong; see `ObservationNoise`.
        """
        super().__init__(envs.num_envs, envs.spec)
        self._envs = envs
        # The wrapped env owns these arrays and refreshes them in place.
        self.state = envs.state
        self.action_mask = envs.action_mask
        self.order = envs.order
        spec = envs.spec
        self._noise = ObservationNoise(
            std, envs.num_envs, spec.num_agents, spec.obs_size
        )

    def expect(self, seeds: np.ndarray) -> None:
        """See the base class."""
        self._envs.expect(seeds)

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        self._envs.reset(slots, seeds)
        self._noise.reset(slots, seeds)
        self._observe(slots)

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        step = self._envs.step(actions, active)
        moved = active.copy()
        moved[list(step.crashed)] = False
        self._observe(np.flatnonzero(moved))
        return step

    def close(self) -> None:
        """Closes the wrapped env."""
        self._envs.close()

    def _observe(self, slots: np.ndarray) -> None:
        self.obs[slots] = self._noise.apply(
            slots, self._envs.obs[slots], self.action_mask[slots]
        )


def check_std(std: Any) -> np.ndarray:
    """Checks the adapter's key `obs_noise_std`.

    Args:
        std: Value of the key.

    Returns:
        The value, float32 [] or [D].

    Raises:
        EnvConfigError: Unless the value is a finite number of at least 0, or a list of
            such numbers.
    """
    values = std if isinstance(std, list | tuple | np.ndarray) else [std]
    if not len(values) or not all(_is_std(value) for value in values):
        raise EnvConfigError(
            "env_config.obs_noise_std must be a number of at least 0, or a list with"
            f" one such number for each number that an agent observes, not {std!r}"
        )
    return np.array(std, np.float32)


def _is_std(value: Any) -> bool:
    number = isinstance(value, int | float | np.floating)
    return number and not isinstance(value, bool) and 0 <= value < np.inf
