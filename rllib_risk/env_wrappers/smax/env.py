"""SMAX: battles similar to StarCraft's, which need JAX but not StarCraft.

Source: A. Rutherford et al., "JaxMARL: Multi-Agent RL Environments and Algorithms in
JAX" (2024). Their SMAX with its heuristic enemy is stepped unchanged. This env adds the
interface of the other envs, a time limit that differs from a defeat, and the result of
the battle. SMAX is not SMAC: observations, rewards and limits differ, and it has no
healing, no splash damage and no cliffs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.config.schema import suggest
from rllib_risk.env_wrappers.arguments import check_legal, positive, spread
from rllib_risk.env_wrappers.errors import EnvConfigError, IllegalActionError
from rllib_risk.env_wrappers.smax.core import (
    BattleViews,
    SmaxScenario,
    check_installed,
    smax_core,
)

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.batched_env import BatchedTeamEnv

__all__ = ["SMAX"]

UNITS = ("marine", "marauder", "stalker", "zealot", "zergling", "hydralisk")

# Allies and enemies of SMAX's own maps, and of two maps of SMAC that need only SMAX's
# units. Unlike SMAC's, this corridor has no choke point.
MAPS: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "3m": ({"marine": 3}, {"marine": 3}),
    "8m": ({"marine": 8}, {"marine": 8}),
    "25m": ({"marine": 25}, {"marine": 25}),
    "5m_vs_6m": ({"marine": 5}, {"marine": 6}),
    "8m_vs_9m": ({"marine": 8}, {"marine": 9}),
    "10m_vs_11m": ({"marine": 10}, {"marine": 11}),
    "27m_vs_30m": ({"marine": 27}, {"marine": 30}),
    "2s3z": ({"stalker": 2, "zealot": 3}, {"stalker": 2, "zealot": 3}),
    "3s5z": ({"stalker": 3, "zealot": 5}, {"stalker": 3, "zealot": 5}),
    "3s5z_vs_3s6z": ({"stalker": 3, "zealot": 5}, {"stalker": 3, "zealot": 6}),
    "3s_vs_5z": ({"stalker": 3}, {"zealot": 5}),
    "6h_vs_8z": ({"hydralisk": 6}, {"zealot": 8}),
    "corridor": ({"zealot": 6}, {"zergling": 24}),
}
# Arguments that smax_args may contain; none of them changes the sizes.
OPTIONS = (
    "map_width",
    "map_height",
    "world_steps_per_env_step",
    "time_per_step",
    "see_enemy_actions",
    "won_battle_bonus",
    "walls_cause_death",
    "enemy_shoots",
    "attack_mode",
)
# Unit types and positions are drawn for every battle, as in SMACv2.
RANDOM_MAPS = {"smacv2_5_units": 5, "smacv2_10_units": 10, "smacv2_20_units": 20}


class SMAX(ParallelEnv):
    """A team of units against SMAX's heuristic enemy.

    Actions: Discrete(5 + enemies): 0 stop (the only action of a dead unit), 1 north, 2
    east, 3 south, 4 west, 5 + i attack enemy i. Observations are dicts: `observation`
    is SMAX's list of units, float32 [D], all zero for a dead unit; `action_mask` marks
    the legal actions, int8 [A]. `state()` is SMAX's world state. Agents stay until the
    battle ends. The reward, the same for all agents, is the mean share of health that
    the enemies lost, plus 1 for a victory.

    Infos of every step: `dead_allies`, `dead_enemies`, `battle_won` and `is_success`.
    `is_success` is the same as `battle_won`; success rates are computed from it. If
    both sides die at once, or the time limit ends the battle, no side has won.

    Attributes:
        scenario: Units and settings of the battles.
        episode_limit: Steps after which a battle is cut off.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "smax", "render_modes": ["rgb_array"]}

    def __init__(
        self,
        map_name: str | None = "3m",
        allies: Mapping[str, int] | None = None,
        enemies: Mapping[str, int] | None = None,
        episode_limit: int = 100,
        enemy_noise_std: float = 0.0,
        smax_args: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Builds the scenario; nothing is compiled before the first battle.

        Args:
            map_name: Name of a map of SMAX, 8m_vs_9m or corridor; null if allies and
                enemies are given.
            allies: Number of the team's units by type, such as {stalker: 2, zealot: 3};
                types are marine, marauder, stalker, zealot, zergling and hydralisk.
            enemies: Number of the enemy's units by type.
            episode_limit: Steps after which a battle is cut off.
            enemy_noise_std: Standard deviation, in sight ranges, of Gaussian noise on
                the enemies' positions in the observations. Enemies out of sight stay
                hidden, and legal actions do not change.
            smax_args: Further arguments of SMAX, such as see_enemy_actions.
            render_mode: "rgb_array" or null.

        Raises:
            EnvConfigError: If JaxMARL is missing or an argument is wrong.
        """
        if render_mode not in (None, "rgb_array"):
            raise EnvConfigError(
                f"env_config.render_mode must be rgb_array or null, not {render_mode!r}"
            )
        self.render_mode = render_mode
        self.episode_limit = positive("env_config.episode_limit", episode_limit)
        noise = spread("env_config.enemy_noise_std", enemy_noise_std)
        self.scenario = make_scenario(map_name, allies, enemies, noise, smax_args)
        check_installed()
        self._battles: Any = None
        self._seen: BattleViews | None = None
        self._steps = 0
        self.possible_agents = [f"ally_{i}" for i in range(self.scenario.num_allies)]
        self.agents: list[str] = []
        seen = spaces.Dict(
            {
                "observation": spaces.Box(
                    -np.inf, np.inf, (self.scenario.obs_size,), np.float32
                ),
                "action_mask": spaces.Box(0, 1, (self.scenario.num_actions,), np.int8),
            }
        )
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        choice: spaces.Space = spaces.Discrete(self.scenario.num_actions)
        self.action_spaces = dict.fromkeys(self.possible_agents, choice)
        self.state_space = spaces.Box(
            -np.inf, np.inf, (self.scenario.state_size,), np.float32
        )

    @staticmethod
    def batched(num_envs: int, **env_config: Any) -> BatchedTeamEnv:
        """The vectorised twin: many battles in one compiled call; see `BatchedSMAX`."""
        from rllib_risk.env_wrappers.smax.batched import BatchedSMAX

        return BatchedSMAX(num_envs, **env_config)

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of one agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of one agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict]]:
        """Begins a battle.

        Args:
            seed: Seed of the battle; None: a random seed.
            options: Not used.

        Returns:
            Observations and infos by agent.
        """
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._battles, self._seen = smax_core(self.scenario).begin([seed], 1)
        self._steps = 0
        self.agents = list(self.possible_agents)
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, dict[str, np.ndarray]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict],
    ]:
        """Plays one joint action.

        Args:
            actions: Legal action of every agent, including dead ones.

        Returns:
            Observations, rewards (the team's, the same for all), terminations,
            truncations and infos by agent.

        Raises:
            IllegalActionError: If an action is masked, or no battle has begun.
        """
        if not self.agents or self._seen is None:
            raise IllegalActionError("the battle is over: call reset() first")
        mask = self._seen.action_mask[0]
        chosen = [int(actions.get(agent, 0)) for agent in self.agents]
        for agent, action, row in zip(self.agents, chosen, mask, strict=True):
            check_legal(agent, action, row)
        self._battles, self._seen, rewards = smax_core(self.scenario).play(
            self._battles, np.array([chosen]), np.ones(1, bool)
        )
        self._steps += 1
        result = battle_result(self._seen.alive[0], self.scenario.num_allies)
        over = result.pop("over")
        truncated = not over and self._steps >= self.episode_limit
        agents = self.agents
        observations = self._observations()
        if over or truncated:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, float(rewards[0])),
            dict.fromkeys(agents, over),
            dict.fromkeys(agents, truncated),
            {agent: dict(result) for agent in agents},
        )

    def state(self) -> np.ndarray:
        """The global state, float32 [S]."""
        if self._seen is None:
            return np.zeros(self.scenario.state_size, np.float32)
        return np.array(self._seen.state[0])

    def render(self) -> np.ndarray | None:
        """A picture of the battle, uint8 [H, W, 3]."""
        if self.render_mode is None or self._battles is None:
            return None
        from rllib_risk.env_wrappers.smax.render import draw

        return draw(
            smax_core(self.scenario).positions(self._battles, 0),
            smax_core(self.scenario).map_size,
            self.scenario.num_allies,
        )

    def close(self) -> None:
        """Does nothing; the env holds no resources."""

    def _observations(self) -> dict[str, dict[str, np.ndarray]]:
        assert self._seen is not None
        rows, masks = self._seen.obs[0], self._seen.action_mask[0]
        return {
            agent: {"observation": np.array(row), "action_mask": mask.astype(np.int8)}
            for agent, row, mask in zip(self.possible_agents, rows, masks, strict=True)
        }


def battle_result(alive: np.ndarray, num_allies: int) -> dict[str, Any]:
    """The result of a battle.

    Args:
        alive: Whether each unit is alive, bool [U]; allies first.
        num_allies: Number of allies, N.

    Returns:
        `battle_won`, `is_success`, `dead_allies`, `dead_enemies`, and `over`.
    """
    allies, enemies = alive[:num_allies], alive[num_allies:]
    won = bool(allies.any() and not enemies.any())
    return {
        "battle_won": won,
        "is_success": won,
        "dead_allies": int((~allies).sum()),
        "dead_enemies": int((~enemies).sum()),
        "over": not (allies.any() and enemies.any()),
    }


def make_scenario(
    map_name: str | None,
    allies: Mapping[str, int] | None,
    enemies: Mapping[str, int] | None,
    enemy_noise_std: float,
    smax_args: Mapping[str, Any] | None,
) -> SmaxScenario:
    """Builds a scenario from arguments of `SMAX`.

    Raises:
        EnvConfigError: If an argument is wrong.
    """
    if smax_args is not None and not isinstance(smax_args, Mapping):
        raise EnvConfigError(
            f"env_config.smax_args must be a mapping, not {smax_args!r}"
        )
    for key in smax_args or {}:
        if key not in OPTIONS:
            raise EnvConfigError(
                f"env_config.smax_args: unknown key {key!r}."
                f"{suggest(str(key), OPTIONS)} Known: {', '.join(OPTIONS)}."
            )
    options = tuple((smax_args or {}).items())
    if (allies is None) != (enemies is None):
        raise EnvConfigError(
            "only one of env_config.allies and env_config.enemies is given: give both"
        )
    drawn = map_name in RANDOM_MAPS
    if allies is not None:
        if map_name is not None:
            raise EnvConfigError(
                f"env_config.map_name is {map_name!r}, but allies and enemies are given"
                " too: set map_name to null"
            )
        ours, theirs = _side("allies", allies), _side("enemies", enemies)
    elif map_name in RANDOM_MAPS:
        ours = theirs = [0] * RANDOM_MAPS[map_name]
    elif map_name in MAPS:
        ours, theirs = (_side("map", side) for side in MAPS[map_name])
    else:
        known = [*MAPS, *RANDOM_MAPS]
        raise EnvConfigError(
            f"env_config.map_name: unknown map {map_name!r}."
            f"{suggest(str(map_name), known)} Known: {', '.join(known)}. For your own"
            " battle set map_name: null, allies: {zealot: 2}, enemies: {marine: 4}."
        )
    return SmaxScenario(
        tuple(ours + theirs),
        len(ours),
        random_positions=drawn,
        random_types=drawn,
        enemy_noise_std=enemy_noise_std,
        options=options,
    )


def _side(key: str, units: Any) -> list[int]:
    """Types of the units of one side, one number per unit."""
    if not isinstance(units, Mapping) or not units:
        raise EnvConfigError(
            f"env_config.{key} must be a mapping of unit types to numbers, such as"
            f" {{marine: 5}}, not {units!r}"
        )
    types: list[int] = []
    for unit, count in units.items():
        if unit not in UNITS:
            raise EnvConfigError(
                f"env_config.{key}: unknown unit {unit!r}.{suggest(str(unit), UNITS)}"
                f" Known: {', '.join(UNITS)}."
            )
        types += [UNITS.index(unit)] * positive(f"env_config.{key}.{unit}", count)
    return types
