"""Several team envs stepped by one call.

`BatchedTeamEnv` is what the sampler sees. An env with a vectorised twin offers its own
(`macn`, `hvac`, `uav` and `smax` have one); every other env is looped over by
`LoopedTeamEnvs`, which also replaces an env that crashed, a bounded number of times.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvFailedError,
    IllegalActionError,
)
from rllib_risk.env_wrappers.watchdog import Watchdog

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.team_env import TeamEnv, TeamSpec

# Seconds to wait before attempt k + 1 after k failures: a simulator that is just
# starting, or a port that is still taken, needs a moment.
BACKOFF_S = 0.1

# The user's or the caller's mistake: a new env would fail in the same way.
_NOT_RETRIED = (EnvConfigError, EnvFailedError, IllegalActionError)


@dataclass
class BatchedStep:
    """What one call of `BatchedTeamEnv.step` returns besides the arrays.

    Attributes:
        rewards: Team rewards, float32 [E]; 0 where inactive or crashed.
        terminateds: Episodes that reached a true end, bool [E].
        truncateds: Episodes that were cut off, bool [E].
        infos: One dict per env, empty until its episode ends.
        crashed: Slot -> error text. The episode in that slot is lost: throw it away
            and call `reset` on the slot. Its arrays hold the values before the step.
    """

    rewards: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    infos: list[dict[str, Any]]
    crashed: dict[int, str] = field(default_factory=dict)


class BatchedTeamEnv(ABC):
    """E team envs behind one call; slots are the indices 0 .. E - 1.

    The arrays are owned by the env and refreshed in place: copy what must be kept.

    Attributes:
        num_envs: E.
        spec: Sizes of the team.
        obs: Observations, float32 [E, N, D].
        state: Global states, float32 [E, S].
        action_mask: Legal actions, uint8 [E, N, A].
        order: Slots in the order in which episodes are best given to them, int64 [E].
    """

    def __init__(self, num_envs: int, spec: TeamSpec) -> None:
        """Allocates the arrays.

        Args:
            num_envs: E, at least 1.
            spec: Sizes of the team.

        Raises:
            EnvConfigError: If num_envs is not positive.
        """
        if num_envs < 1:
            raise EnvConfigError(f"num_envs must be at least 1, not {num_envs}")
        self.num_envs = num_envs
        self.spec = spec
        n = spec.num_agents
        self.obs = np.zeros((num_envs, n, spec.obs_size), np.float32)
        self.state = np.zeros((num_envs, spec.state_size), np.float32)
        self.action_mask = np.ones((num_envs, n, spec.num_actions), np.uint8)
        self.order = np.arange(num_envs)

    @abstractmethod
    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots.

        Args:
            slots: Distinct slot indices, integers [k].
            seeds: Seed of each new episode, integers [k].
        """

    @abstractmethod
    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot.

        Args:
            actions: Legal action numbers, int64 [E, N]; ignored where inactive.
            active: Slots to step, bool [E]; the others are left alone.

        Returns:
            Rewards, end flags, infos and crashed slots.
        """

    def expect(self, seeds: np.ndarray) -> None:  # noqa: B027 - none need prepare
        """Tells the seeds of the next episodes, before the first of them begins.

        For an env that begins many episodes as fast as one. It changes no episode, and
        `reset` may come with other seeds: a lost episode is played with a new one.

        Args:
            seeds: In the order in which `reset` will ask for them, integers [R].
        """

    def close(self) -> None:  # noqa: B027 - nothing to close is a fine default
        """Frees what the envs hold."""


def state_size_of(
    source: str, time_limit_is_terminal: bool, own: int, joint_obs: int
) -> int:
    """Checks the adapter's keys that a vectorised twin takes itself.

    Args:
        source: "auto" or "env", "concat_obs", "none"; `state` of `TeamEnv`.
        time_limit_is_terminal: As in `TeamEnv`.
        own: Size of the env's own state.
        joint_obs: Size of all observations together.

    Returns:
        Size of the state that is asked for.

    Raises:
        EnvConfigError: If one of the keys is wrong.
    """
    sizes = {"auto": own, "env": own, "concat_obs": joint_obs, "none": 0}
    if source not in sizes:
        raise EnvConfigError(f"state must be one of {list(sizes)}, not {source!r}")
    if not isinstance(time_limit_is_terminal, bool):
        raise EnvConfigError("time_limit_is_terminal must be true or false")
    return sizes[source]


class LoopedTeamEnvs(BatchedTeamEnv):
    """Steps E separate `TeamEnv`s in a loop and replaces those that crash.

    A step that raises (or returns NaN or inf) ends up in `BatchedStep.crashed`, and
    the env is closed and built anew at the next reset of its slot. A failing reset is
    tried again. `max_restarts` failures of a slot in a row, without one completed
    episode between them, raise `EnvFailedError`; so an env that never starts and an env
    that breaks in every episode both stop soon. A wrong configuration or an illegal
    action is never retried.
    """

    def __init__(
        self,
        make: Callable[[], TeamEnv],
        num_envs: int,
        *,
        max_restarts: int = 3,
        env_name: str = "",
        timeout_s: float | None = None,
    ) -> None:
        """Builds all envs.

        Args:
            make: Builds one env.
            num_envs: E, at least 1.
            max_restarts: Failures of one slot in a row that are one too many, at
                least 1.
            env_name: Name of the env in error texts.
            timeout_s: How long a call of an env may take; None: for ever. Longer is a
                crash of that env.

        Raises:
            EnvConfigError: If a number is out of range or the env cannot be used.
            EnvFailedError: If an env cannot be built.
        """
        if max_restarts < 1:
            raise EnvConfigError(f"max_restarts must be at least 1, not {max_restarts}")
        if num_envs < 1:
            raise EnvConfigError(f"num_envs must be at least 1, not {num_envs}")
        self._make = make
        self._max_restarts = max_restarts
        self._env_name = env_name
        self._watchdog = Watchdog(env_name, timeout_s)
        self._failures = [0] * num_envs
        self._envs: list[TeamEnv | None] = [None] * num_envs
        try:
            for slot in range(num_envs):
                self._retry(slot, self._env)
            first = self._env(0)
            super().__init__(num_envs, first.spec_team)
        except BaseException:
            self.close()
            raise

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class.

        Raises:
            EnvFailedError: If a slot fails `max_restarts` times in a row.
        """
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            obs, _ = self._retry(slot, partial(self._start, seed=seed))
            self._write(slot, obs)

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class.

        Raises:
            EnvFailedError: If a slot fails `max_restarts` times in a row.
        """
        result = BatchedStep(
            rewards=np.zeros(self.num_envs, np.float32),
            terminateds=np.zeros(self.num_envs, bool),
            truncateds=np.zeros(self.num_envs, bool),
            infos=[{} for _ in range(self.num_envs)],
        )
        for slot in np.flatnonzero(active).tolist():
            try:
                obs, reward, terminated, truncated, info = self._env(slot).step(
                    actions[slot]
                )
            except _NOT_RETRIED:
                raise
            except Exception as error:  # any other error is the env's own
                result.crashed[slot] = self._failed(slot, error)
                continue
            if terminated or truncated:
                self._failures[slot] = 0
            self._write(slot, obs)
            result.rewards[slot] = reward
            result.terminateds[slot] = terminated
            result.truncateds[slot] = truncated
            result.infos[slot] = info
        return result

    def close(self) -> None:
        """Closes all envs; errors while closing are logged."""
        for slot in range(len(self._envs)):
            self._drop(slot)

    def _env(self, slot: int) -> TeamEnv:
        """The env of a slot, built if there is none."""
        env = self._envs[slot]
        if env is None:
            env = self._watchdog.build(slot, self._make)
            self._envs[slot] = env
        return env

    def _start(self, slot: int, seed: int) -> tuple[dict[str, np.ndarray], dict]:
        """Resets the env of a slot, building it first if there is none."""
        return self._env(slot).reset(seed=seed)

    def _retry(self, slot: int, call: Callable[[int], Any]) -> Any:
        """Calls `call(slot)` until it works or the slot has failed too often."""
        while True:
            try:
                return call(slot)
            except _NOT_RETRIED:
                raise
            except Exception as error:  # any other error is the env's own
                self._failed(slot, error)
                time.sleep(BACKOFF_S * self._failures[slot])

    def _failed(self, slot: int, error: Exception) -> str:
        """Counts a failure and drops the env; raises if it was one too many."""
        cause = f"{type(error).__name__}: {error}"
        self._failures[slot] += 1
        self._drop(slot)
        if self._failures[slot] >= self._max_restarts:
            raise EnvFailedError(self._env_name, self._failures[slot], cause) from error
        return cause

    def _drop(self, slot: int) -> None:
        """Closes and forgets the env of a slot."""
        env, self._envs[slot] = self._envs[slot], None
        if env is not None:
            env.close()  # which raises nothing: see Watchdog.build
        self._watchdog.end(slot)

    def _write(self, slot: int, obs: dict[str, np.ndarray]) -> None:
        self.obs[slot] = obs["obs"]
        self.state[slot] = obs["state"]
        self.action_mask[slot] = obs["action_mask"]
