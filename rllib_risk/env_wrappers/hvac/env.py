"""Heating and cooling of a building, one agent per zone, one team reward.

Source: the multi-agent `BuildingEnv` of SustainGym 0.1.7 (Yeh et al., 2023) as the
paper on robust value factorisation uses it (Qu et al., ICLR 2026, "Distributionally
Robust Cooperative Multi-Agent Reinforcement Learning via Robust Value Factorization").
The numbers are the same, without SustainGym's dependencies. The interface differs where
SustainGym's would mislead a learner:

* Each agent observes its zone temperature and four shared features: outdoor and ground
  temperature, sun in [0, 1], heat of a person in kW. SustainGym gives every agent all
  temperatures; the paper selects the same five features. They lie inside the declared
  space.
* The reward is one copy of the team reward. The paper sums six copies, and
  `normalised_return` accounts for that.
* A day ends by truncation. Nothing terminates.
* Every agent's action space has its own random generator.

The reward is minus (comfort cost + energy cost), so it is never positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.arguments import number, positive
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import check_name, load_building
from rllib_risk.env_wrappers.hvac.dynamics import (
    NUM_SHARED,
    Dynamics,
    NativeDynamics,
    normalised,
    power_levels,
)
from rllib_risk.env_wrappers.hvac.scenario import (
    EpisodeStart,
    HvacScenario,
    check_day,
    draw_start,
    end_of_episode_info,
)

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.batched_env import BatchedTeamEnv
    from rllib_risk.env_wrappers.scripted import ScriptedPolicy

__all__ = ["HVAC", "HvacScenario", "normalised", "power_levels"]

BACKENDS = ("native", "sustaingym")


class HVAC(ParallelEnv):
    """Keeps all zones of a building at the target temperature for a day.

    Actions: Discrete(bins), from full cooling through no power to (almost) full
    heating; see `power_levels`. Infos of every step: `comfort_cost` and `energy_cost`,
    both at least 0; the reward is minus their sum. In the last step these two are the
    totals of the episode. The last info also has `day`, `normalised_return`,
    `mean_abs_deviation` (mean distance from the target in degrees Celsius over zones
    and steps) and, if there are several cities, `city_index`. `normalised_return` is
    the paper's score: 1 is perfect, and it can be below 0. It is meant for days of 288
    steps and buildings of six zones.

    Attributes:
        scenario: Building, cities and days.
        episode_limit: Steps of an episode.
        levels: Power of every action, float32 [bins].
        observation_names: Names of the numbers of an observation.
        action_names: Names of the actions.
    """

    observation_names: ClassVar[Sequence[str]] = (
        "zone temperature",
        "outdoor temperature",
        "ground temperature",
        "sun",
        "heat of a person",
    )
    metadata: ClassVar[dict[str, Any]] = {
        "name": "hvac",
        "render_modes": ["rgb_array"],
    }

    def __init__(
        self,
        city: str | Sequence[str] = "tucson",
        day_range: Sequence[int] = (0, 200),
        day_split: str = "all",
        building: str = "OfficeSmall",
        power_scale: float = 1.0,
        solar_scale: float = 1.0,
        ground_scale: float = 1.0,
        sensor_sigma: float = 0.0,
        bins: int = 200,
        normalise: bool = False,
        target: float = 22.0,
        episode_steps: int = 288,
        backend: str = "native",
        render_mode: str | None = None,
    ) -> None:
        """Loads the building and the weather and checks every argument.

        Args:
            city: See `HvacScenario`.
            day_range: See `HvacScenario`.
            day_split: See `HvacScenario`.
            building: See `HvacScenario`.
            power_scale: See `HvacScenario`.
            solar_scale: See `HvacScenario`.
            ground_scale: See `HvacScenario`.
            sensor_sigma: See `HvacScenario`.
            bins: Number of actions of each agent; SustainGym and the paper have 200.
            normalise: Whether observations and state hold temperatures as
                (T - 22) / 10.
            target: Target and start temperature of all zones in degrees Celsius.
            episode_steps: Steps of five minutes in an episode; 288 are a day.
            backend: "native", or "sustaingym": SustainGym's own physics, which needs
                that package.
            render_mode: "rgb_array" or None.

        Raises:
            EnvConfigError: If an argument is out of its range.
        """
        self.scenario = HvacScenario(
            city,
            day_range,
            day_split,
            building,
            power_scale,
            solar_scale,
            ground_scale,
            sensor_sigma,
        )
        check_name("backend", backend, BACKENDS)
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise EnvConfigError(
                f"render_mode must be 'rgb_array' or None, not {render_mode!r}"
            )
        if not isinstance(normalise, bool):
            raise EnvConfigError(f"normalise must be true or false, not {normalise!r}")
        self.levels = power_levels(bins)
        self.action_names = [f"power {level:+.3f}" for level in self.levels]
        self.normalise = normalise
        self.target = number("target", target)
        self.episode_limit = positive("episode_steps", episode_steps)
        self.backend = backend
        self.render_mode = render_mode
        self._dynamics = _make_dynamics(backend, self.scenario, self.target)

        n = len(self._dynamics.zones)
        self.possible_agents = [f"zone_{i}" for i in range(n)]
        self.agents: list[str] = []
        # Temperatures have no bounds: actuators do not stop at any temperature.
        high = np.full(n + NUM_SHARED, np.inf, np.float32)
        low = -high
        low[-2], high[-2] = 0.0, 1.0  # the sun
        self.observation_spaces = {
            agent: spaces.Box(low[n - 1 :], high[n - 1 :], dtype=np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces: dict[str, spaces.Discrete] = {
            agent: spaces.Discrete(bins) for agent in self.possible_agents
        }
        self.state_space = spaces.Box(low, high, dtype=np.float32)
        self._rng = np.random.default_rng()
        self._start = EpisodeStart(0, 0, np.zeros((0, n)))
        self._steps = 0
        self._temperatures = np.full(n, self.target, np.float32)
        self._shared = np.zeros(NUM_SHARED)
        self._totals = np.zeros(3)  # comfort cost, energy cost, mean absolute deviation
        self._history: list[tuple[np.ndarray, float, np.ndarray]] = []

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of one agent's observations, float32 [5]."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of one agent's actions: indices of the levels of power."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Starts a day with all zones at the target.

        Args:
            seed: Seed of the day, the city and the sensors' noise; None: the generator
                continues.
            options: {"day": d} plays day d, 0 .. 364, even if the scenario excludes it.

        Returns:
            Observations and empty infos of all agents.

        Raises:
            EnvConfigError: If the day does not exist.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._start = draw_start(
            self._rng, self.scenario, self.episode_limit, len(self.possible_agents)
        )
        if options is not None and "day" in options:
            self._start = self._start._replace(day=check_day(options["day"]))
        self._shared = self._dynamics.reset(self._start.city, self._start.day)
        self._temperatures = np.full(len(self.possible_agents), self.target, np.float32)
        self.agents = list(self.possible_agents)
        self._steps = 0
        self._totals[:] = 0.0
        self._history = []
        self._record(np.zeros(0, np.float32))
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, np.ndarray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Plays one step of five minutes.

        Args:
            actions: Index of a level of power for each agent.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            RuntimeError: If the episode has ended.
            ValueError: If an action does not exist.
        """
        if not self.agents:
            raise RuntimeError("the episode has ended: call reset() first")
        numbers = [self._level(agent, actions[agent]) for agent in self.agents]
        power = self.levels[numbers]
        step = self._dynamics.step(power)
        self._temperatures = step.temperatures.astype(np.float32)
        self._shared = step.shared
        self._steps += 1
        deviation = np.abs(step.temperatures - self.target).mean()
        self._totals += (step.comfort_cost, step.energy_cost, deviation)
        self._record(power)
        truncated = self._steps >= self.episode_limit
        if truncated:
            info = end_of_episode_info(
                self._totals, self.episode_limit, self._start, self.scenario
            )
            self.agents = []
        else:
            info = {
                "comfort_cost": step.comfort_cost,
                "energy_cost": step.energy_cost,
            }
        agents = self.possible_agents
        return (
            self._observations(),
            dict.fromkeys(agents, -(step.comfort_cost + step.energy_cost)),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, truncated),
            {agent: dict(info) for agent in agents},
        )

    def state(self) -> np.ndarray:
        """All zone temperatures and the shared features, float32 [n + 4]."""
        state = np.concatenate([self._temperatures, self._shared.astype(np.float32)])
        if self.normalise:
            n = len(self._temperatures)
            state[: n + 2] = normalised(state[: n + 2])
        return state

    def render(self) -> np.ndarray | None:
        """A picture of the day so far, uint8 [H, W, 3]; None without a render mode."""
        if self.render_mode is None or not self._history:
            return None
        from rllib_risk.env_wrappers.hvac.render import draw

        temperatures, outdoor, power = zip(*self._history, strict=True)
        city = Path(self.scenario.cities[self._start.city]).stem
        return draw(
            np.stack(temperatures),
            np.array(outdoor),
            # the entry of the reset has no power
            np.array(power[1:]).reshape(-1, len(self.possible_agents)),
            self.target,
            self.episode_limit,
            self._dynamics.zones,
            f"{Path(self.scenario.building).stem}, {city}, day {self._start.day}",
        )

    def close(self) -> None:
        """Does nothing; the env holds no resources."""

    @staticmethod
    def batched(
        num_envs: int,
        *,
        state: str = "auto",
        time_limit_is_terminal: bool = False,
        **env_config: Any,
    ) -> BatchedTeamEnv:
        """The vectorised twin: `num_envs` copies that step in one call.

        Args:
            num_envs: Number of copies.
            state: As in `TeamEnv`.
            time_limit_is_terminal: As in `TeamEnv`.
            **env_config: Arguments of this class.

        Returns:
            A `BatchedHVAC`. For the backend "sustaingym", which has no vectorised form,
            a loop over single envs.
        """
        from rllib_risk.env_wrappers.hvac.batched import BatchedHVAC
        from rllib_risk.env_wrappers.team_env import LoopedTeamEnvs, TeamEnv

        adapter: dict[str, Any] = {
            "state": state,
            "time_limit_is_terminal": time_limit_is_terminal,
        }
        if env_config.get("backend") == "sustaingym":
            return LoopedTeamEnvs(
                lambda: TeamEnv(HVAC(**env_config), **adapter),
                num_envs,
                env_name="hvac",
            )
        return BatchedHVAC(num_envs, **adapter, **env_config)

    @staticmethod
    def reference_policies(**env_config: Any) -> dict[str, ScriptedPolicy]:
        """Scripted policies: no_op, p_control and linear.

        Args:
            **env_config: Arguments of this class.

        Returns:
            The policies by name.
        """
        from rllib_risk.env_wrappers.hvac.policies import reference_policies

        return reference_policies(**env_config)

    def _level(self, agent: str, action: int) -> int:
        """The action as an index into the levels of power."""
        if not 0 <= action < len(self.levels):
            raise ValueError(f"agent '{agent}' has no action {action}")
        return int(action)

    def _observations(self) -> dict[str, np.ndarray]:
        """The observation of each agent, float32 [5]."""
        own = self._temperatures
        if self.scenario.sensor_sigma > 0:
            own = own + self._start.noise[self._steps]
        rows = np.empty((len(own), 1 + NUM_SHARED), np.float32)
        rows[:, 0] = own
        rows[:, 1:] = self._shared
        if self.normalise:
            rows[:, :3] = normalised(rows[:, :3])
        return dict(zip(self.possible_agents, rows, strict=True))

    def _record(self, power: np.ndarray) -> None:
        """Stores the step for render()."""
        if self.render_mode is not None:
            self._history.append((self._temperatures, float(self._shared[0]), power))


def _make_dynamics(backend: str, scenario: HvacScenario, target: float) -> Dynamics:
    """The physics of one building."""
    if backend == "sustaingym":
        from rllib_risk.env_wrappers.hvac.sustaingym import SustainGymDynamics

        return SustainGymDynamics(scenario, target)
    return NativeDynamics(
        load_building(scenario.building),
        scenario.cities,
        power_scale=scenario.power_scale,
        solar_scale=scenario.solar_scale,
        ground_scale=scenario.ground_scale,
        target=target,
    )
