"""Car following: two cars drive to a target, near each other and not too fast.

Source: the car-following game (MACF) of RiskQ: S. Shen et al., "RiskQ: Risk-sensitive
Multi-Agent Reinforcement Learning Value Factorization" (NeurIPS 2023). The rules and
constants are those of the authors' code.

Both cars start at position 0 with speed 0. Their target is position 2.5. A step is
0.1 s. In it each car has one of 21 accelerations, -1 + 2 a / 21. Speeds may become
negative; they do not exceed `top_speed`. After the cars have moved,

    reward = -1 - |x_0 - 2.5| - |x_1 - 2.5|
             + 5 for each car that comes within 0.01 of the target for the first time
             + 1 if the cars are at most `following_range` apart
             + `crash_reward` for each car that crashes
             + 10 once both cars have arrived, which ends the episode.

A car that drives at speed v crashes with probability `crash_rate` (v - `speed_limit`);
the episode goes on. From the step after its arrival, a car stays at the target with
speed 0. The episode also ends after `episode_steps`, by termination.

The largest acceleration is 19 / 21 = 0.905, not 1, in the authors' code and here. The
authors' code draws a random number only for a car above the speed limit. Here reset
draws one number per car and step, so that the seed decides all crashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.arguments import number, positive
from rllib_risk.env_wrappers.car_following.road import (
    NUM_ACTIONS,
    NUM_CARS,
    STEP_S,
    Cars,
    Outcome,
    Road,
)
from rllib_risk.env_wrappers.errors import EnvConfigError

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.batched_env import BatchedTeamEnv
    from rllib_risk.env_wrappers.scripted import ScriptedPolicy

AGENTS = tuple(f"car_{i}" for i in range(NUM_CARS))


class CarFollowing(ParallelEnv):
    """Two cars on one road.

    Actions: Discrete(21), the acceleration -1 + 2 a / 21. Observation: (x_0, v_0, x_1,
    v_1), in this order for both cars, with zeros for the other car if it is more than
    `following_range` away; float32 [4]. State: the same without zeros.

    The info of the last step holds `num_crashes`, `num_speeding_steps` (steps above the
    speed limit, forwards or backwards, summed over both cars), `num_arrived` (0 to 2)
    and `is_success` (both have arrived).

    Attributes:
        road: The rules and constants of the game.
        episode_limit: Steps after which an episode ends.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "car_following", "render_modes": []}
    render_mode = None

    def __init__(
        self,
        speed_limit: float = 1.0,
        top_speed: float = 1.8,
        crash_rate: float = 0.4,
        crash_reward: float = -1.0,
        following_range: float = 0.3,
        round_top_speed_time: bool = True,
        episode_steps: int = 200,
    ) -> None:
        """Checks every argument.

        Args:
            speed_limit: Speed above which a car may crash, greater than 0.
            top_speed: Largest speed of a car, greater than 0.
            crash_rate: Probability of a crash in a step per unit of speed above the
                limit, at least 0.
            crash_reward: Reward of a crash.
            following_range: Distance up to which the cars see each other and get the
                reward for being near, at least 0.
            round_top_speed_time: Whether to round the time until a car reaches the top
                speed within a step to 0.01 s, as in the authors' code.
            episode_steps: Steps after which an episode ends.

        Raises:
            EnvConfigError: If an argument is out of its range.
        """
        numbers = {
            "speed_limit": speed_limit,
            "top_speed": top_speed,
            "crash_rate": crash_rate,
            "crash_reward": crash_reward,
            "following_range": following_range,
        }
        checked = {key: number(key, value) for key, value in numbers.items()}
        for key in ("speed_limit", "top_speed"):
            if checked[key] <= 0:
                raise EnvConfigError(f"{key} must be greater than 0")
        for key in ("crash_rate", "following_range"):
            if checked[key] < 0:
                raise EnvConfigError(f"{key} must be at least 0")
        if not isinstance(round_top_speed_time, bool):
            raise EnvConfigError(
                f"round_top_speed_time must be true or false, not"
                f" {round_top_speed_time!r}"
            )
        self.road = Road(**checked, round_top_speed_time=round_top_speed_time)
        self.episode_limit = positive("episode_steps", episode_steps)
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        seconds = episode_steps * STEP_S
        low = np.array([-0.5 * seconds**2, -seconds] * NUM_CARS, np.float32)
        high = np.array([self.road.top_speed * seconds, self.road.top_speed] * NUM_CARS)
        self.state_space = spaces.Box(low, high.astype(np.float32), dtype=np.float32)
        self.observation_spaces = dict.fromkeys(AGENTS, self.state_space)
        self.action_spaces: dict[str, spaces.Discrete] = {
            agent: spaces.Discrete(NUM_ACTIONS) for agent in AGENTS
        }
        self._rng = np.random.default_rng()
        self._uniforms = np.zeros((episode_steps, NUM_CARS))
        self._cars = Cars.at_start(1)
        self._totals = Totals(1)
        self._steps = 0

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of one car's observations, float32 [4]."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of one car's actions: indices of the accelerations."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Puts both cars on the start.

        Args:
            seed: Seed of the crashes; None: the generator continues.
            options: Not used.

        Returns:
            Observations and empty infos of both cars.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._uniforms = draw_uniforms(self._rng, self.episode_limit)
        self._cars = Cars.at_start(1)
        self._totals = Totals(1)
        self._steps = 0
        self.agents = list(AGENTS)
        return self._observations(), {agent: {} for agent in AGENTS}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, np.ndarray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Drives for one step.

        Args:
            actions: Index of an acceleration for each car.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            RuntimeError: If the episode has ended.
            ValueError: If an action does not exist.
        """
        if not self.agents:
            raise RuntimeError("the episode has ended: call reset() first")
        for agent in AGENTS:
            if not 0 <= actions[agent] < NUM_ACTIONS:
                raise ValueError(f"{agent} has no action {actions[agent]}")
        chosen = np.array([[int(actions[agent]) for agent in AGENTS]])
        uniforms = self._uniforms[None, self._steps]
        self._cars, outcome = self.road.step(self._cars, chosen, uniforms)
        self._totals.add(outcome)
        self._steps += 1
        ended = bool(outcome.together[0]) or self._steps >= self.episode_limit
        info: dict[str, Any] = {}
        if ended:
            info = self._totals.of_episode(self._cars, 0)
            self.agents = []
        return (
            self._observations(),
            dict.fromkeys(AGENTS, float(outcome.rewards[0])),
            dict.fromkeys(AGENTS, ended),
            dict.fromkeys(AGENTS, False),
            {agent: dict(info) for agent in AGENTS},
        )

    def state(self) -> np.ndarray:
        """Positions and speeds, float32 [4]."""
        return self.road.states(self._cars)[0]

    def render(self) -> None:
        """Returns None; there are no pictures of this game."""

    def close(self) -> None:
        """Does nothing; the env holds no resources."""

    @staticmethod
    def batched(num_envs: int, **env_config: Any) -> BatchedTeamEnv:
        """The vectorised twin: `num_envs` copies that step in one call.

        Args:
            num_envs: Number of copies.
            **env_config: Arguments of this class, and `state` and
                `time_limit_is_terminal` as in `TeamEnv`.

        Returns:
            A `BatchedCarFollowing`.
        """
        from rllib_risk.env_wrappers.car_following.batched import BatchedCarFollowing

        return BatchedCarFollowing(num_envs, **env_config)

    @staticmethod
    def reference_policies(**env_config: Any) -> dict[str, ScriptedPolicy]:
        """Scripted policies: safe and fast.

        Args:
            **env_config: Arguments of this class.

        Returns:
            The policies by name.
        """
        from rllib_risk.env_wrappers.car_following.policies import scripted_policies

        return scripted_policies(CarFollowing(**env_config).road)

    def _observations(self) -> dict[str, np.ndarray]:
        return dict(zip(AGENTS, self.road.views(self._cars)[0], strict=True))


class Totals:
    """Crashes and speeding of the running episodes of E copies."""

    def __init__(self, num_envs: int) -> None:
        """Starts all counts at zero."""
        self._crashes = np.zeros(num_envs, np.int64)
        self._speeding = np.zeros(num_envs, np.int64)

    def clear(self, slots: np.ndarray) -> None:
        """Sets the counts of some copies to zero."""
        self._crashes[slots] = self._speeding[slots] = 0

    def add(self, outcome: Outcome) -> None:
        """Counts a step of all copies."""
        self._crashes += outcome.crashes
        self._speeding += outcome.speeding

    def of_episode(self, cars: Cars, slot: int) -> dict[str, Any]:
        """The info at the end of an episode."""
        arrived = int(cars.arrived[slot].sum())
        return {
            "is_success": arrived == NUM_CARS,
            "num_arrived": arrived,
            "num_crashes": int(self._crashes[slot]),
            "num_speeding_steps": int(self._speeding[slot]),
        }


def draw_uniforms(rng: np.random.Generator, episode_steps: int) -> np.ndarray:
    """Uniform numbers that decide crashes, float64 [episode_steps, N]."""
    return rng.random((episode_steps, NUM_CARS))
