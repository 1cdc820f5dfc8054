"""UAVs that collect fresh data from devices on the ground, near a risk region.

Source: E. Eldeeb, H. Sifaou, O. Simeone, M. Shehab, H. Alves, "Conservative and
Risk-Aware Offline Multi-Agent Reinforcement Learning" (2024; MA-CQR). The rules are
those of the authors' code. In every step, each UAV moves and polls one device or none.
The age of a device's information grows by one per step, and becomes 1 when the device
is polled. Polling costs power, which grows with the squared distance. A UAV that lands
in the risk region is hit with some probability; a hit costs a penalty. Nothing
terminates: an episode is cut off after `episode_steps`.

    reward = -(mean age) - power_weight * (power of all UAVs) - risk_penalty * (hits)

Teams learn from this reward. The authors report another one, in which power and hits
are averaged over the UAVs. The infos hold it as `reward_report` and, at the end, as
`return_report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.uav.totals import Totals, step_info
from rllib_risk.env_wrappers.uav.world import (
    PAPER,
    Start,
    World,
    make_world,
)

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.batched_env import BatchedTeamEnv
    from rllib_risk.env_wrappers.scripted import ScriptedPolicy

__all__ = ["UAV"]

# How the UAVs' costs are aggregated -> name of that reward in the infos.
REWARDS = {"sum": "train", "mean": "report"}


class UAV(ParallelEnv):
    """UAVs keep the information of devices fresh, with little power and little risk.

    Actions: Discrete(5 * (M + 1)); `5 * device + move`, where device M means no poll.
    Moves are stay, x + 2, x - 2, y + 2, y - 2 cells (`move_cells`), clipped at the
    edges. All UAVs observe the whole state: x and y of every UAV, then the age of every
    device, float32 [2 U + M].

    Infos of every step, the same for all agents: `aoi_mean` (mean age), `power_w`
    (power of all UAVs), `weighted_power` (the same times `power_weight`), `in_risk`
    (number of UAVs in the region), `risk_hit` (number of hits), `reward_train` and
    `reward_report`. The last step adds values of the whole episode: `return_train` and
    `return_report` (sums), `mean_age` and `mean_weighted_power` (per step),
    `risk_step_fraction` (share of the UAVs' steps in the region), `entered_risk` (0 or
    1) and `num_risk_hits`.

    Attributes:
        world: Map and constants.
        episode_limit: Steps of an episode.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "uav",
        "render_modes": ["rgb_array"],
    }

    def __init__(
        self,
        num_uavs: int = 2,
        grid_size: int = 10,
        device_cells: str | Sequence[Sequence[int]] = PAPER,
        num_devices: int | None = None,
        risk_region: str | Sequence[Sequence[int]] = PAPER,
        layout_seed: int = 0,
        move_cells: int = 2,
        risk_probability: float = 0.1,
        risk_penalty: float = 300.0,
        power_weight: float = 500.0,
        max_age: int = 100,
        initial_age: int = 1,
        episode_steps: int = 100,
        cell_m: float = 100.0,
        altitude_m: float = 100.0,
        gain_db: float = -30.0,
        bandwidth_hz: float = 1e6,
        packet_bits: float = 5e6,
        noise_dbm: float = -90.0,
        reward_aggregation: str = "sum",
        normalise: bool = False,
        local_obs: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Makes the map and checks every argument.

        Args:
            num_uavs: Number of UAVs, which are the agents.
            grid_size: Number of cells along an edge of the grid.
            device_cells: List of the devices' cells [x, y]; "paper": the ten of the
                paper; or "random".
            num_devices: Number of random devices; null: 10.
            risk_region: List of the region's cells [x, y] (an empty list: no risk);
                "paper": the block of the paper; or "random": a block of 4x5 cells.
            layout_seed: Seed of random devices and a random region; all episodes have
                the same map.
            move_cells: Number of cells that a UAV moves at once.
            risk_probability: Probability of a hit, per UAV and step in the region.
            risk_penalty: Reward that is subtracted per hit.
            power_weight: Reward that is subtracted per watt.
            max_age: Largest age; a device's age stays there until it is polled.
            initial_age: Age of all devices when an episode begins.
            episode_steps: Steps of an episode.
            cell_m: Distance between neighbouring cells in metres.
            altitude_m: Altitude of the UAVs in metres.
            gain_db: Gain of the channel at one metre, in dB.
            bandwidth_hz: Bandwidth in Hz.
            packet_bits: Bits that one poll transmits, in one second.
            noise_dbm: Power of the noise in dBm. The authors' code uses -90 (1e-12 W),
                although it says -100.
            reward_aggregation: Power and hits in the reward: their "sum" over the UAVs,
                or their "mean", which gives the reward that the authors report.
            normalise: Whether cells and ages are divided by their greatest values.
            local_obs: Whether an agent observes only its own cell and the ages; the
                state does not change. Not in the paper.
            render_mode: "rgb_array" or None.

        Raises:
            EnvConfigError: If an argument is wrong.
        """
        self.world: World = make_world(
            grid_size=grid_size,
            cell_m=cell_m,
            num_uavs=num_uavs,
            device_cells=device_cells,
            num_devices=num_devices,
            risk_region=risk_region,
            layout_seed=layout_seed,
            move_cells=move_cells,
            altitude_m=altitude_m,
            gain_db=gain_db,
            bandwidth_hz=bandwidth_hz,
            packet_bits=packet_bits,
            noise_dbm=noise_dbm,
            max_age=max_age,
            initial_age=initial_age,
            power_weight=power_weight,
            risk_probability=risk_probability,
            risk_penalty=risk_penalty,
            episode_steps=episode_steps,
        )
        if reward_aggregation not in REWARDS:
            raise EnvConfigError(
                f"reward_aggregation must be one of {list(REWARDS)}, not"
                f" {reward_aggregation!r}"
            )
        for key, value in (("normalise", normalise), ("local_obs", local_obs)):
            if not isinstance(value, bool):
                raise EnvConfigError(f"{key} must be true or false, not {value!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise EnvConfigError(
                f"render_mode must be 'rgb_array' or None, not {render_mode!r}"
            )
        self.reward_aggregation = reward_aggregation
        self.normalise = normalise
        self.local_obs = local_obs
        self.render_mode = render_mode
        self.episode_limit = self.world.episode_steps

        u, m = self.world.num_uavs, self.world.num_devices
        self.possible_agents = [f"uav_{i}" for i in range(u)]
        self.agents: list[str] = []
        self._make_spaces()
        self._rng = np.random.default_rng()
        self._uniforms = np.zeros((0, u))
        self._steps = 0
        self._cells = np.zeros((1, u, 2), np.int64)
        self._ages = np.ones((1, m), np.int64)
        self._totals = Totals(self.world, 1)

    def _make_spaces(self) -> None:
        """Builds the spaces of the state, the observations and the actions."""
        world = self.world
        u, m = world.num_uavs, world.num_devices
        low = np.array([0.0] * (2 * u) + [1.0] * m)
        high = np.array([world.grid_size - 1.0] * (2 * u) + [float(world.max_age)] * m)
        if self.normalise:
            low, high = self.scaled(low), self.scaled(high)
        self.state_space = spaces.Box(
            low.astype(np.float32), high.astype(np.float32), dtype=np.float32
        )
        seen = np.r_[:2, 2 * u : 2 * u + m] if self.local_obs else np.arange(2 * u + m)
        self.observation_spaces = {
            agent: spaces.Box(self.state_space.low[seen], self.state_space.high[seen])
            for agent in self.possible_agents
        }
        self.action_spaces: dict[str, spaces.Discrete] = {
            agent: spaces.Discrete(world.num_actions) for agent in self.possible_agents
        }

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of an agent's observations, float32 [2 U + M]; [2 + M] if local."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of one agent's actions: a device and a move."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Starts an episode: UAVs at random outside the risk region, all ages equal.

        Args:
            seed: Seed of the start cells and the hits; None: the generator continues.
            options: {"cells": [[x, y], ...]} sets the start cells, one per UAV.

        Returns:
            Observations and empty infos of all agents.

        Raises:
            EnvConfigError: If the given cells are not in the grid.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        start = self.world.draw_start(self._rng)
        if options is not None and "cells" in options:
            start = Start(self._given_cells(options["cells"]), start.uniforms)
        self._cells = start.cells[None].copy()
        self._uniforms = start.uniforms
        self._ages = np.full_like(self._ages, self.world.initial_age)
        self._steps = 0
        self._totals = Totals(self.world, 1)
        self.agents = list(self.possible_agents)
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
        """Plays one step of one second.

        Args:
            actions: Action of every agent.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            RuntimeError: If the episode has ended.
            ValueError: If an action does not exist.
        """
        if not self.agents:
            raise RuntimeError("the episode has ended: call reset() first")
        chosen = [self._action(agent, actions[agent]) for agent in self.agents]
        uniforms = self._uniforms[None, self._steps] if len(self._uniforms) else None
        outcome = self.world.step(self._cells, self._ages, np.array([chosen]), uniforms)
        self._totals.add(outcome)
        self._steps += 1
        truncated = self._steps >= self.episode_limit
        info = step_info(self.world, outcome, 0)
        if truncated:
            info |= self._totals.of_episode(0)
            self.agents = []
        agents = self.possible_agents
        reward = info[f"reward_{REWARDS[self.reward_aggregation]}"]
        return (
            self._observations(),
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, truncated),
            {agent: dict(info) for agent in agents},
        )

    def scaled(self, state: np.ndarray) -> np.ndarray:
        """A state [..., 2 U + M] with cells and ages divided by their maxima."""
        places = 2 * self.world.num_uavs
        scale = np.full(state.shape[-1], float(self.world.max_age))
        scale[:places] = max(self.world.grid_size - 1, 1)
        return state / scale

    def state(self) -> np.ndarray:
        """Cells of all UAVs and ages of all devices, float32 [2 U + M]."""
        whole = np.concatenate([self._cells.reshape(-1), self._ages.reshape(-1)])
        return (self.scaled(whole) if self.normalise else whole).astype(np.float32)

    def render(self) -> np.ndarray | None:
        """The map as a picture, uint8 [H, W, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        from rllib_risk.env_wrappers.uav.render import draw

        return draw(self.world, self._cells[0], self._ages[0])

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
            A `BatchedUAV`.
        """
        from rllib_risk.env_wrappers.uav.batched import BatchedUAV

        return BatchedUAV(num_envs, **env_config)

    @staticmethod
    def reference_policies(**env_config: Any) -> dict[str, ScriptedPolicy]:
        """Scripted policies: idle, greedy and risk_blind.

        Args:
            **env_config: Arguments of this class.

        Returns:
            The policies by name.
        """
        from rllib_risk.env_wrappers.uav.policies import scripted_policies

        return scripted_policies(UAV(**env_config))

    def _given_cells(self, given: Any) -> np.ndarray:
        cells = np.asarray(given)
        if (
            cells.shape != (self.world.num_uavs, 2)
            or not np.issubdtype(cells.dtype, np.integer)
            or (cells < 0).any()
            or (cells >= self.world.grid_size).any()
        ):
            raise EnvConfigError(
                f"cells must be one cell [x, y] of the grid per UAV, not {given!r}"
            )
        return cells.astype(np.int64)

    def _action(self, agent: str, action: Any) -> int:
        if not self.action_spaces[agent].contains(action):
            raise ValueError(
                f"{agent}: action {action!r} is not in {self.action_spaces[agent]}"
            )
        return int(action)

    def _observations(self) -> dict[str, np.ndarray]:
        state = self.state()
        if not self.local_obs:
            return {agent: state.copy() for agent in self.possible_agents}
        ages = state[2 * self.world.num_uavs :]
        return {
            agent: np.concatenate([state[2 * i : 2 * i + 2], ages])
            for i, agent in enumerate(self.possible_agents)
        }
