"""StarCraft II battles: SMAC's own `StarCraft2Env` as a PettingZoo parallel env.

Source: M. Samvelyan et al., "The StarCraft Multi-Agent Challenge" (2019). Its code
(github.com/oxwhirl/smac) is called unchanged. SMAC's own PettingZoo wrapper is not
used: it returns no infos, so that the winner is unknown, and it does not work with
recent versions of PettingZoo. This env corrects the following without changes to SMAC:

* The game starts with the first episode, not with the env.
* SMAC launches a second game if an episode begins before the first one has ended. It
  then also counts the enemies' health twice in its reward scale. The scale also grows
  if the game creates its units late. Here there is one game and one scale.
* A battle that ends by the time limit is truncated. `time_limit_is_terminal: true`
  makes it terminate, as in PyMARL.
* A crash of the game ends the episode with an error, not as a lost battle. The sampler
  drops that episode and starts a new game, at most `max_env_restarts` times.
* The game ends with the process that started it.
"""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.arguments import check_legal, spread
from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvContractError,
    IllegalActionError,
)
from rllib_risk.env_wrappers.process_guard import ProcessGuard
from rllib_risk.env_wrappers.smac.install import (
    check_game,
    check_map,
    fix_colours,
    load_smac,
)

__all__ = ["SMAC"]

DIFFICULTIES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "A")
# Arguments of StarCraft2Env that this env sets, or that have no effect in it.
_OURS = ("map_name", "difficulty", "game_version", "seed", "continuing_episode")


class SMAC(ParallelEnv):
    """A team of units against the built-in player of the game.

    Actions: Discrete(6 + enemies): 0 no-op (the only action of a dead unit, and of no
    other), 1 stop, 2 to 5 north, south, east, west, 6 + i attack enemy i; a medivac
    heals ally i instead. Observations are dicts: `observation` is SMAC's, float32 [D],
    all zero for a dead unit; `action_mask` marks the legal actions, int8 [A]. `state()`
    is SMAC's global state. Agents stay until the battle ends.

    Infos of every step: `dead_allies`, `dead_enemies`, and `battle_won`. `is_success`
    is the same as `battle_won`; the success rate is computed from it. With greedy
    episodes it is SMAC's test win rate. A draw and a time limit do not count as won.
    `sc2_build` is the build of the game (75689 is 4.10); results of different builds
    cannot be compared. `difficulty` is that of the built-in player.

    Attributes:
        episode_limit: Steps after which the map cuts a battle off.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "smac",
        "render_modes": ["rgb_array"],
        # The checks before a run read this, so that they need not start a game.
        "reports": (
            "battle_won",
            "is_success",
            "dead_allies",
            "dead_enemies",
            "sc2_build",
            "difficulty",
            "episode_limit",
        ),
    }

    def __init__(
        self,
        map_name: str = "8m",
        difficulty: str = "7",
        game_version: str | None = None,
        reward_sparse: bool = False,
        obs_last_action: bool = False,
        obs_timestep_number: bool = False,
        state_last_action: bool = True,
        state_timestep_number: bool = False,
        enemy_noise_std: float = 0.0,
        reward_noise_std: float = 0.0,
        save_replay: bool = False,
        smac_args: dict[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Reads the sizes from SMAC; the first `reset` starts the game.

        Args:
            map_name: Name of a map of SMAC, such as 5m_vs_6m.
            difficulty: Strength of the built-in player, "1" to "9" or "A"; "7" is very
                hard.
            game_version: Version such as "4.10"; null: the newest installed one.
            reward_sparse: Whether rewards are 1 (victory), -1 (defeat) and 0 otherwise.
            obs_last_action: Whether observations contain the allies' last actions.
            obs_timestep_number: Whether observations contain the step / limit.
            state_last_action: Whether the state contains the last actions.
            state_timestep_number: Whether the state contains the step.
            enemy_noise_std: Standard deviation, in sight ranges, of Gaussian noise on
                the enemies' positions in the observations; distances change with them.
                Enemies out of sight stay hidden, and legal actions do not change.
            reward_noise_std: Standard deviation of Gaussian noise on every reward.
            save_replay: Whether to write a replay of all battles into the game's folder
                Replays when the env is closed.
            smac_args: Further arguments of StarCraft2Env, such as reward_win.
            render_mode: "rgb_array" (with pygame) or null.

        Raises:
            EnvConfigError: If SMAC is missing or an argument is wrong; the text has the
                commands to run.
        """
        factory, maps = load_smac()
        check_map(map_name, maps)
        if str(difficulty) not in DIFFICULTIES:
            raise EnvConfigError(
                f"env_config.difficulty must be one of {', '.join(DIFFICULTIES)}, not"
                f" {difficulty!r}"
            )
        if render_mode not in (None, "rgb_array"):
            raise EnvConfigError(
                f"env_config.render_mode must be rgb_array or null, not {render_mode!r}"
            )
        self._enemy_noise = spread("env_config.enemy_noise_std", enemy_noise_std)
        self._reward_noise = spread("env_config.reward_noise_std", reward_noise_std)
        options = _options(smac_args, reward_sparse)
        try:
            self._env = factory(
                map_name=map_name,
                difficulty=str(difficulty),
                game_version=game_version,
                # Without this, SMAC does not report that a time limit ended a battle.
                continuing_episode=True,
                reward_sparse=reward_sparse,
                obs_last_action=obs_last_action,
                obs_timestep_number=obs_timestep_number,
                state_last_action=state_last_action,
                state_timestep_number=state_timestep_number,
                **options,
            )
        except TypeError as error:
            raise EnvConfigError(f"env_config.smac_args: {error}") from error
        self.render_mode = render_mode
        self.episode_limit = int(self._env.episode_limit)
        self._map = map_name
        self._save_replay = save_replay
        self._difficulty = DIFFICULTIES.index(str(difficulty)) + 1
        self._launched = False
        self._rng = np.random.default_rng()
        self._guard: ProcessGuard | None = None
        info = self._env.get_env_info()
        self.possible_agents = [f"agent_{i}" for i in range(info["n_agents"])]
        self.agents: list[str] = []
        # SMAC appends the step to observations, but its obs_shape does not count it.
        width = info["obs_shape"] + int(obs_timestep_number)
        seen = spaces.Dict(
            {
                "observation": spaces.Box(-np.inf, np.inf, (width,), np.float32),
                "action_mask": spaces.Box(0, 1, (info["n_actions"],), np.int8),
            }
        )
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        choice: spaces.Space = spaces.Discrete(info["n_actions"])
        self.action_spaces = dict.fromkeys(self.possible_agents, choice)
        self.state_space = spaces.Box(
            -np.inf, np.inf, (info["state_shape"],), np.float32
        )
        self._mask = np.ones((info["n_agents"], info["n_actions"]), np.int8)

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of one agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of one agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict]]:
        """Begins a battle, and starts the game if it does not run yet.

        Args:
            seed: Seed of the noise and of the game. The game reads it only when it
                starts.
            options: Not used.

        Returns:
            Observations and infos by agent.

        Raises:
            EnvConfigError: If the game, its version or the map's file is missing.
            EnvContractError: If the game crashed while the battle began.
        """
        env = self._env
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        if not self._launched:
            check_game(self._map)
            if seed is not None:
                env._seed = int(seed)
            self._launched = True
        crashes = env.force_restarts
        try:
            env.reset()
        except ValueError as error:
            if "game version" not in str(error):
                raise
            raise EnvConfigError(f"env_config.game_version: {error}") from error
        finally:
            self._watch()
        if env.force_restarts > crashes:
            # SMAC has started a new game, but still holds the units of the old one.
            raise EnvContractError("StarCraft II crashed while a battle began")
        # With a count above 0, SMAC neither launches a game nor counts health again.
        env._episode_count = max(1, env._episode_count)
        env.max_reward = self._max_reward()
        self.agents = list(self.possible_agents)
        return self._observations(), self._infos({})

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
            EnvContractError: If the game crashed.
        """
        if not self.agents:
            raise IllegalActionError("the battle is over: call reset() first")
        chosen = [self._legal(i, actions) for i in range(len(self.possible_agents))]
        reward, ended, info = self._env.step(chosen)
        if ended and "battle_won" not in info:
            self._watch()
            self.agents = []
            raise EnvContractError("StarCraft II crashed in the middle of a battle")
        if self._reward_noise > 0:
            reward += self._rng.normal(0.0, self._reward_noise)
        truncated = bool(info.pop("episode_limit", False))
        agents = self.agents
        observations, infos = self._observations(), self._infos(info)
        if ended:
            self.agents = []
        return (
            observations,
            dict.fromkeys(agents, float(reward)),
            dict.fromkeys(agents, bool(ended) and not truncated),
            dict.fromkeys(agents, truncated),
            infos,
        )

    def state(self) -> np.ndarray:
        """The global state, float32 [S]."""
        return np.asarray(self._env.get_state(), np.float32)

    def render(self) -> Any:
        """A picture of the battle, uint8 [H, W, 3]; drawn by SMAC with pygame."""
        if self.render_mode is None:
            return None
        fix_colours()
        return self._env.render(mode=self.render_mode)

    def close(self) -> None:
        """Saves a replay if `save_replay` is set, and ends the game."""
        if not self._launched:
            return
        self._launched = False
        if self._save_replay:
            # A game that crashed has no replay, but must still be ended.
            with contextlib.suppress(Exception):
                self._env.save_replay()
        self._unwatch()
        self._env.close()
        self._env._episode_count = 0  # so that a later reset launches a new game

    def _max_reward(self) -> float:
        """SMAC's reward scale: the greatest return of a battle."""
        env = self._env
        health = sum(unit.health_max + unit.shield_max for unit in env.enemies.values())
        return env.n_enemies * env.reward_death_value + env.reward_win + health

    def _watch(self) -> None:
        """Makes the guard watch the present process of the game."""
        game = getattr(self._env, "_sc2_proc", None)
        pid = None if game is None else game.pid
        if self._guard is not None and self._guard.pid != pid:
            self._unwatch()
        if self._guard is None and pid is not None:
            self._guard = ProcessGuard(pid)

    def _unwatch(self) -> None:
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def _legal(self, index: int, actions: dict[str, int]) -> int:
        """The action of one agent; raises an error with the legal ones if masked."""
        agent = self.possible_agents[index]
        action = int(actions.get(agent, 0))
        check_legal(agent, action, self._mask[index])
        return action

    def _observations(self) -> dict[str, dict[str, np.ndarray]]:
        """The observation and the action mask of every agent."""
        self._mask[:] = self._env.get_avail_actions()
        rows = np.array(self._env.get_obs(), np.float32)  # [N, D]
        if self._enemy_noise > 0:
            add_enemy_noise(self._enemy_blocks(rows), self._enemy_noise, self._rng)
        return {
            agent: {"observation": row, "action_mask": mask.copy()}
            for agent, row, mask in zip(
                self.possible_agents, rows, self._mask, strict=True
            )
        }

    def _enemy_blocks(self, rows: np.ndarray) -> np.ndarray:
        """The enemies' numbers in observations [N, D], a view [N, enemies, numbers]."""
        env = self._env
        first = env.n_actions_move
        first += env.n_obs_pathing if env.obs_pathing_grid else 0
        first += env.n_obs_height if env.obs_terrain_height else 0
        health = 1 + env.shield_bits_enemy if env.obs_all_health else 0
        size = 4 + health + env.unit_type_bits
        last = first + env.n_enemies * size
        # This reshape is a view, so the noise changes `rows` in place.
        return rows[:, first:last].reshape(len(rows), env.n_enemies, size)

    def _infos(self, info: dict[str, Any]) -> dict[str, dict]:
        """The info of every agent, from SMAC's info of the team."""
        team = {
            **info,
            "difficulty": self._difficulty,
            "sc2_build": self._env._run_config.version.build_version,
        }
        if "battle_won" in info:
            team["is_success"] = info["battle_won"]
        return {agent: dict(team) for agent in self.possible_agents}


def add_enemy_noise(blocks: np.ndarray, std: float, rng: np.random.Generator) -> None:
    """Adds noise to the enemies' positions in observations, in place.

    Args:
        blocks: float32 [N, enemies, F]; numbers 1 to 3 of a block are distance, dx and
            dy in sight ranges, all zero for an enemy out of sight.
        std: Standard deviation of the noise on dx and dy.
        rng: Source of the noise. The number of draws does not depend on which units
            are seen.
    """
    noise = rng.normal(0.0, std, (*blocks.shape[:2], 2))
    seen = blocks[..., 1] > 0
    noise[~seen] = 0.0
    blocks[..., 2:4] += noise.astype(np.float32)
    blocks[..., 1] = np.where(seen, np.hypot(blocks[..., 2], blocks[..., 3]), 0.0)


def _options(given: dict[str, Any] | None, sparse: bool) -> dict[str, Any]:
    """Checks the further arguments of StarCraft2Env."""
    if given is not None and not isinstance(given, dict):
        raise EnvConfigError(f"env_config.smac_args must be a mapping, not {given!r}")
    options = dict(given or {})
    for key in _OURS:
        if key in options:
            raise EnvConfigError(
                f"env_config.smac_args.{key}: "
                + (
                    f"set env_config.{key} instead"
                    if key in ("map_name", "difficulty", "game_version")
                    else "this env sets it itself; remove it"
                )
            )
    if sparse:
        # With reward_scale, SMAC divides even the sparse reward by the dense return.
        options.setdefault("reward_scale", False)
    return options
