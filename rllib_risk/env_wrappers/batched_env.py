"""Vectorised team envs: one call steps several envs.

`BatchedTeamEnv` is the interface for the sampler. The envs `macn`, `car_following`,
`hvac`, `uav`, `smax` and `vmas` have vectorised twins with this interface. For every
other env, `LoopedTeamEnvs` loops over single envs. It also replaces an env that
crashed, a limited number of times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.failures import (
    CRASHES,
    NOT_RETRIED,
    EnvFailures,
    seeds_to_try,
)
from rllib_risk.env_wrappers.watchdog import Watchdog

if TYPE_CHECKING:
    from rllib_risk.data.sizes import TeamSpec
    from rllib_risk.env_wrappers.team_env import TeamEnv

T = TypeVar("T")


def slots_where(flags: np.ndarray) -> list[int]:
    """The slots in which a flag of bool [E] is set; faster than `np.flatnonzero`."""
    return flags.nonzero()[0].tolist()


@dataclass
class BatchedStep:
    """The result of `BatchedTeamEnv.step`, besides the refreshed arrays.

    Attributes:
        rewards: Team rewards, float32 [E]; 0 where inactive or crashed.
        terminateds: Whether an episode has terminated, bool [E].
        truncateds: Whether an episode was cut off, bool [E].
        infos: One dict per env, empty until its episode ends.
        crashed: Error texts by slot. The episode in such a slot is lost: drop it and
            call `reset` for the slot. Its arrays hold the values before the step.
    """

    rewards: np.ndarray
    terminateds: np.ndarray
    truncateds: np.ndarray
    infos: list[dict[str, Any]]
    crashed: dict[int, str] = field(default_factory=dict)

    @classmethod
    def nothing(cls, num_envs: int) -> Self:
        """A step of E envs with zero rewards, no ends and empty infos."""
        return cls(
            rewards=np.zeros(num_envs, np.float32),
            terminateds=np.zeros(num_envs, bool),
            truncateds=np.zeros(num_envs, bool),
            infos=[{} for _ in range(num_envs)],
        )


class BatchedTeamEnv(ABC):
    """E team envs behind one call; slots are the indices 0 .. E - 1.

    The env owns the arrays and refreshes them in place: copy what must be kept.

    Attributes:
        num_envs: Number of envs, E.
        spec: Sizes of the team.
        obs: Observations, [E, N, D], of type `spec.obs_dtype`.
        state: Global states, float32 [E, S].
        action_mask: Legal actions, uint8 [E, N, A].
        order: Slots in the order in which they should get episodes, int64 [E].
        pads_observations: Whether some agents observe fewer than D numbers.
    """

    pads_observations: bool = False

    def __init__(self, num_envs: int, spec: TeamSpec) -> None:
        """Allocates the arrays.

        Args:
            num_envs: Number of envs E, at least 1.
            spec: Sizes of the team.

        Raises:
            EnvConfigError: If num_envs is not positive.
        """
        if num_envs < 1:
            raise EnvConfigError(f"num_envs must be at least 1, not {num_envs}")
        self.num_envs = num_envs
        self.spec = spec
        n = spec.num_agents
        self.obs = np.zeros((num_envs, n, spec.obs_size), spec.obs_dtype)
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
            active: Slots to step, bool [E]; the others do not change.

        Returns:
            Rewards, end flags, infos and crashed slots.
        """

    def expect(self, seeds: np.ndarray) -> None:  # noqa: B027 - optional
        """Announces the seeds of the next episodes, before the first one begins.

        An env may use the seeds to begin many episodes at once. The call changes no
        episode. `reset` may also get other seeds: a lost episode is played again with a
        new seed.

        Args:
            seeds: Seeds in the order in which `reset` will get them, integers [R].
        """

    def close(self) -> None:  # noqa: B027 - optional
        """Frees the resources of the envs."""


def state_size_of(
    source: str, time_limit_is_terminal: bool, own: int, joint_obs: int
) -> int:
    """Checks the adapter's keys that a vectorised twin implements itself.

    Args:
        source: "auto" or "env", "concat_obs", "none"; `state` of `TeamEnv`.
        time_limit_is_terminal: As in `TeamEnv`.
        own: Size of the env's own state.
        joint_obs: Size of all observations together.

    Returns:
        Size of the state from that source.

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

    A step that raises (or returns NaN or infinity) is reported in
    `BatchedStep.crashed`. The env is then closed, and built again at the next reset of
    its slot. A reset that fails is retried. `failures` has the rules for an env that
    fails too often. A wrong configuration or an illegal action is never retried.
    """

    def __init__(
        self,
        make: Callable[[], TeamEnv],
        num_envs: int,
        *,
        max_restarts: int = 3,
        env_name: str = "",
        timeout_s: float | None = None,
        skip_nonfinite: bool = True,
    ) -> None:
        """Builds all envs.

        Args:
            make: Builds one env.
            num_envs: Number of envs E, at least 1.
            max_restarts: Number of failures of one slot in a row that stops the run,
                at least 1.
            env_name: Name of the env in error texts.
            timeout_s: Time limit of a call of an env in seconds; None: no limit. A
                call that takes longer counts as a crash.
            skip_nonfinite: See `EnvFailures`.

        Raises:
            EnvConfigError: If a number is out of range or the env cannot be used.
            EnvFailedError: If an env cannot be built.
        """
        self._make = make
        self._failures = EnvFailures(env_name, num_envs, max_restarts, skip_nonfinite)
        self._watchdog = Watchdog(env_name, timeout_s)
        self._steps = [0] * num_envs  # steps of the running episodes
        self._envs: list[TeamEnv | None] = [None] * num_envs
        try:
            for slot in range(num_envs):
                self._retry(slot, partial(self.env, slot))
            super().__init__(num_envs, self.env(0).spec_team)
        except BaseException:
            self.close()
            raise

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class.

        Raises:
            EnvFailedError: If the env fails too often; see `EnvFailures`.
            NonFiniteError: If it gives NaN that must not be skipped.
        """
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            start = partial(self._start, slot, seeds_to_try(seed))
            obs, _ = self._retry(slot, start, step=0)
            self._steps[slot] = 0
            self._write(slot, obs)

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class.

        Raises:
            EnvFailedError: If the env fails too often; see `EnvFailures`.
            NonFiniteError: If it gives NaN that must not be skipped.
        """
        result = BatchedStep.nothing(self.num_envs)
        for slot in slots_where(active):
            self._steps[slot] += 1
            try:
                obs, reward, terminated, truncated, info = self.env(slot).step(
                    actions[slot]
                )
            except NOT_RETRIED:
                raise
            except CRASHES as error:
                try:
                    result.crashed[slot] = self._failures.failed(
                        [slot], error, self._steps[slot]
                    )
                finally:
                    self._drop(slot)
                continue
            if terminated or truncated:
                self._failures.completed(slot)
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

    def env(self, slot: int) -> TeamEnv:
        """The env of a slot; it is built if it does not exist."""
        env = self._envs[slot]
        if env is None:
            env = self._watchdog.build(slot, self._make)
            self._envs[slot] = env
        return env

    def _start(
        self, slot: int, seeds: Iterator[int]
    ) -> tuple[dict[str, np.ndarray], dict]:
        """Resets the env of a slot; it is built first if it does not exist."""
        return self.env(slot).reset(seed=next(seeds))

    def _retry(self, slot: int, call: Callable[[], T], *, step: int | None = None) -> T:
        return self._failures.retry([slot], call, partial(self._drop, slot), step)

    def _drop(self, slot: int) -> None:
        """Closes and forgets the env of a slot."""
        env, self._envs[slot] = self._envs[slot], None
        if env is not None:
            env.close()  # does not raise; see Watchdog.build
        self._watchdog.end(slot)

    def _write(self, slot: int, obs: dict[str, np.ndarray]) -> None:
        self.obs[slot] = obs["obs"]
        self.state[slot] = obs["state"]
        self.action_mask[slot] = obs["action_mask"]
