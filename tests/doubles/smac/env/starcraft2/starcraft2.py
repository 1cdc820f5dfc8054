"""Replaces SMAC's StarCraft2Env, which needs Blizzard's game.

It has the methods and attributes that the wrapper uses, with the upstream behaviour
that the wrapper must cope with, each marked BUG. The "game" is a process that sleeps,
so that tests can see which ones are left over. The battle is a toy: every attack takes
6 points, and the enemies together take 9 from the first living ally.
"""

import importlib
import os
import subprocess
from types import SimpleNamespace

import numpy as np

from smac.env.starcraft2.maps.smac_maps import MAPS

BUILDS = {"4.10": 75689, "4.10.0": 75689, None: 75689}


class Game:
    """A process, like pysc2's StarcraftProcess."""

    def __init__(self):
        self._proc = subprocess.Popen(["sleep", "600"])
        # Tests read the process ids of all games here.
        with open(os.path.join(os.environ["SC2PATH"], "launches.txt"), "a") as file:
            file.write(f"{self._proc.pid}\n")

    @property
    def pid(self):
        running = self._proc is not None and self._proc.poll() is None
        return self._proc.pid if running else None

    def close(self):
        if self._proc is not None:
            self._proc.terminate()
            self._proc.wait()
            self._proc = None


class StarCraft2Env:
    launches = 0
    # Faults of the next game: the step at which it dies, and the number of searches for
    # the units before all of them are there.
    crash_at = None
    late_units = 0
    crash_in_reset = False

    def __init__(
        self,
        map_name="8m",
        difficulty="7",
        game_version=None,
        seed=None,
        continuing_episode=False,
        obs_last_action=False,
        obs_timestep_number=False,
        state_last_action=True,
        state_timestep_number=False,
        reward_sparse=False,
        reward_only_positive=True,
        reward_death_value=10,
        reward_win=200,
        reward_scale=True,
        reward_scale_rate=20,
        replay_dir="",
    ):
        self.map = MAPS[map_name]
        self.n_actions_move = 4
        self.n_obs_pathing, self.n_obs_height = 8, 9
        self.obs_pathing_grid = self.obs_terrain_height = False
        self.obs_all_health = True
        self.unit_type_bits = 0
        self.shield_bits_enemy = 0
        self.n_agents = self.map["n_agents"]
        self.n_enemies = self.map["n_enemies"]
        self.episode_limit = self.map["limit"]
        self.n_actions = 6 + self.n_enemies
        self.difficulty = difficulty
        self.game_version = game_version
        self._seed = seed
        self.continuing_episode = continuing_episode
        self.obs_timestep_number = obs_timestep_number
        self.state_timestep_number = state_timestep_number
        self.reward_sparse = reward_sparse
        self.reward_death_value = reward_death_value
        self.reward_win = reward_win
        self.reward_scale = reward_scale
        self.reward_scale_rate = reward_scale_rate
        self.replay_dir = replay_dir
        self.max_reward = self.n_enemies * reward_death_value + reward_win
        self._episode_count = 0
        self._episode_steps = 0
        self.force_restarts = 0
        self.battles_won = 0
        self.battles_game = 0
        self.launched_with = []
        self.enemies = {}
        self.agents = {}
        self._run_config = None
        self._sc2_proc = None

    def get_env_info(self):
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
        }

    def get_obs_size(self):
        # BUG: the size lacks the step number of `obs_timestep_number`.
        return 4 + 5 * self.n_enemies + 1

    def get_state_size(self):
        return self.n_agents + self.n_enemies + int(self.state_timestep_number)

    def _launch(self):
        if self.game_version not in BUILDS:
            known = sorted(str(version) for version in BUILDS)
            raise ValueError(
                f"Unknown game version: {self.game_version}. Known versions: {known}."
            )
        type(self).launches += 1
        build = BUILDS[self.game_version]
        self._run_config = SimpleNamespace(version=SimpleNamespace(build_version=build))
        # BUG: a running game is not closed. It keeps running.
        self._sc2_proc = Game()
        self.launched_with.append(self._seed)

    def full_restart(self):
        self._sc2_proc.close()
        self._launch()
        self.force_restarts += 1

    def reset(self):
        self._episode_steps = 0
        if self._episode_count == 0:
            self._launch()
        elif self._sc2_proc.pid is None:
            self.full_restart()
        if type(self).crash_in_reset:
            # BUG: starts a new game, but does not search for its units.
            type(self).crash_in_reset = False
            self.full_restart()
            return self.get_obs(), self.get_state()
        self._init_units()
        return self.get_obs(), self.get_state()

    def _init_units(self):
        health, shield = self.map["health"], self.map["shield"]
        for _ in range(1 + type(self).late_units):
            self.agents, self.enemies = (
                {
                    i: SimpleNamespace(
                        health=health, health_max=health, shield=0, shield_max=shield
                    )
                    for i in range(count)
                }
                for count in (self.n_agents, self.n_enemies)
            )
            if self._episode_count == 0:
                # BUG: adds the health again in every search for the units.
                self.max_reward += sum(
                    unit.health_max + unit.shield_max for unit in self.enemies.values()
                )

    def step(self, actions):
        for agent, action in enumerate(actions):
            legal = self._avail(agent)
            assert legal[action] == 1, f"Agent {agent} cannot perform action {action}"
        if type(self).crash_at == self._episode_steps:
            type(self).crash_at = None
            self.full_restart()
            return 0, True, {}
        self._episode_steps += 1
        reward = 0
        for action in actions:
            if action >= 6 and self.enemies[action - 6].health > 0:
                enemy = self.enemies[action - 6]
                hit = min(6, enemy.health)
                enemy.health -= hit
                reward += hit + (self.reward_death_value if enemy.health == 0 else 0)
        alive = [unit for unit in self.agents.values() if unit.health > 0]
        if any(enemy.health > 0 for enemy in self.enemies.values()):
            alive[0].health = max(0, alive[0].health - 9)
        dead = [
            sum(unit.health == 0 for unit in side.values())
            for side in (self.agents, self.enemies)
        ]
        info = {"battle_won": False, "dead_allies": dead[0], "dead_enemies": dead[1]}
        ended = False
        if self.reward_sparse:
            reward = 0
        if dead[1] == self.n_enemies:
            ended = True
            info["battle_won"] = True
            self.battles_won += 1
            reward = 1 if self.reward_sparse else reward + self.reward_win
        elif dead[0] == self.n_agents:
            ended = True
            reward = -1 if self.reward_sparse else reward
        elif self._episode_steps >= self.episode_limit:
            ended = True
            if self.continuing_episode:
                info["episode_limit"] = True
        if ended:
            self._episode_count += 1
            self.battles_game += 1
        if self.reward_scale:
            # BUG: also scales the 1 of a sparse reward.
            reward /= self.max_reward / self.reward_scale_rate
        return reward, ended, info

    def _avail(self, agent):
        if self.agents[agent].health == 0:
            return [1] + [0] * (self.n_actions - 1)
        attack = [int(enemy.health > 0) for enemy in self.enemies.values()]
        return [0, 1, 1, 1, 1, 1, *attack]

    def get_avail_actions(self):
        return [self._avail(agent) for agent in range(self.n_agents)]

    def get_obs(self):
        return [self._obs_agent(agent) for agent in range(self.n_agents)]

    def _obs_agent(self, agent):
        """Moves, a block per enemy, own health; enemies far away or dead are zeros."""
        legal = self._avail(agent)
        enemies = np.zeros((self.n_enemies, 5), np.float32)
        unit = self.agents[agent]
        own, moves = 0.0, [0] * 4
        if unit.health > 0:
            own, moves = unit.health / unit.health_max, legal[2:6]
            for i, enemy in self.enemies.items():
                dx, dy = 3 / 9, 3 * (i - agent) / 9  # in a row, 3 apart
                if enemy.health > 0 and np.hypot(dx, dy) < 1:
                    share = enemy.health / enemy.health_max
                    enemies[i] = legal[6 + i], np.hypot(dx, dy), dx, dy, share
        row = np.concatenate([moves, enemies.flatten(), [own]]).astype(np.float32)
        if self.obs_timestep_number:
            row = np.append(row, self._episode_steps / self.episode_limit)
        return row

    def get_state(self):
        sides = (self.agents, self.enemies)
        state = [unit.health for side in sides for unit in side.values()]
        if self.state_timestep_number:
            state.append(self._episode_steps / self.episode_limit)
        return np.array(state, dtype=np.float32)

    def get_stats(self):
        # BUG: divides by zero before the first battle was played.
        return {"win_rate": self.battles_won / self.battles_game}

    def save_replay(self):
        folder = os.path.join(os.environ["SC2PATH"], "Replays", self.replay_dir)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "battle.SC2Replay"), "w") as file:
            file.write("replay")

    def render(self, mode="human"):
        assert mode == "rgb_array"
        # SMAC imports its renderer here, which imports the colours of pysc2.
        colours = importlib.import_module("pysc2.lib.colors").shuffled_hue(4)
        return np.multiply.outer(colours, np.ones((4, 3))).astype(np.uint8)

    def close(self):
        if self._sc2_proc:
            self._sc2_proc.close()
