"""The env `smac` with the real SMAC, if it is installed (docs/starcraft.md).

`pytest -m smac` runs only these tests. Tests of sizes need only SMAC's Python package.
Tests of battles also need the game and the map 3m; without them they are skipped.
"""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.env_wrappers import EnvConfigError, EnvContractError
from rllib_risk.env_wrappers.smac.env import SMAC
from rllib_risk.env_wrappers.smac.install import check_game, load_smac


def why_no_smac() -> str | None:
    try:
        load_smac()
    except EnvConfigError as error:
        return str(error).splitlines()[0]
    return None


def why_no_battle() -> str | None:
    reason = why_no_smac()
    if reason is None:
        try:
            check_game("3m")
        except EnvConfigError as error:
            reason = str(error).splitlines()[0]
    return reason


pytestmark = [
    pytest.mark.smac,
    pytest.mark.skipif(why_no_smac() is not None, reason=str(why_no_smac())),
]
needs_game = pytest.mark.skipif(
    why_no_battle() is not None, reason=str(why_no_battle())
)


def random_actions(env: SMAC, observations, rng) -> dict[str, int]:
    return {
        agent: int(rng.choice(np.flatnonzero(seen["action_mask"])))
        for agent, seen in observations.items()
    }


def play(env: SMAC, observations, rng) -> tuple[float, dict]:
    """Plays a battle of random legal actions; gives its return and the last infos."""
    total, infos = 0.0, {}
    while env.agents:
        actions = random_actions(env, observations, rng)
        observations, rewards, _, _, infos = env.step(actions)
        total += rewards["agent_0"]
        for agent, seen in observations.items():
            assert env.observation_space(agent).contains(seen)
            assert seen["action_mask"].any()
    return total, infos["agent_0"]


@pytest.mark.parametrize(
    ("name", "agents", "actions", "obs", "state", "limit"),
    [
        ("3m", 3, 9, 30, 48, 60),
        ("8m", 8, 14, 80, 168, 120),
        ("5m_vs_6m", 5, 12, 55, 98, 70),
        ("8m_vs_9m", 8, 15, 85, 179, 120),
        ("10m_vs_11m", 10, 17, 105, 243, 150),
        ("MMM2", 10, 18, 176, 322, 180),
        ("corridor", 6, 30, 156, 282, 400),
    ],
)
def test_sizes(name, agents, actions, obs, state, limit):
    env = SMAC(name)
    first = env.possible_agents[0]
    assert len(env.possible_agents) == agents
    assert env.action_space(first).n == actions
    assert env.observation_space(first)["observation"].shape == (obs,)
    assert env.state_space.shape == (state,)
    assert env.episode_limit == limit


@needs_game
def test_battles_and_a_reset_in_the_middle_of_one():
    env, rng = SMAC("3m"), np.random.default_rng(0)
    try:
        observations, _ = env.reset(seed=0)
        game, scale = env._env._sc2_proc.pid, env._env.max_reward
        # 3 deaths of 10, the victory of 200, and the health of three marines
        assert scale == 3 * 10 + 200 + 3 * 45
        env.step(random_actions(env, observations, rng))
        for _ in range(3):
            observations, _ = env.reset()
            assert env._env._sc2_proc.pid == game
            assert env._env.max_reward == scale
            total, info = play(env, observations, rng)
            assert -1e-6 <= total <= 20.0 + 1e-6
            assert {"battle_won", "dead_allies", "dead_enemies"} <= info.keys()
            assert info["sc2_build"] > 0
    finally:
        env.close()


@needs_game
def test_a_killed_game_is_an_error_and_the_next_battle_starts_another():
    env, rng = SMAC("3m"), np.random.default_rng(0)
    try:
        observations, _ = env.reset(seed=0)
        os.kill(env._env._sc2_proc.pid, signal.SIGKILL)
        with pytest.raises(EnvContractError, match="crashed"):
            play(env, observations, rng)
        observations, _ = env.reset()
        play(env, observations, rng)
    finally:
        env.close()


@needs_game
def test_rmix_trains(ray_local):
    config = config_class("RMIX")().environment("smac", env_config={"map_name": "3m"})
    algorithm = config.update_from_dict(
        {
            "seed": 0,
            "num_atoms": 8,
            "batch_size_episodes": 4,
            "learning_starts_episodes": 4,
            "min_sample_timesteps_per_iteration": 300,
            "evaluation_duration": 2,
        }
    ).build_algo()
    try:
        result = algorithm.train()
        assert np.isfinite(result["learner"]["td_loss"])
        assert 0.0 <= result["evaluation"]["success_rate"] <= 1.0
    finally:
        algorithm.stop()
