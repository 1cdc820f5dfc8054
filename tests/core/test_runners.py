"""Remote runners: sampling, evaluation, and faults of runners and environments."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.env_wrappers.errors import (
    EnvContractError,
    EnvFailedError,
    NonFiniteError,
)

FACTORY = "faulty_envs:Walk"
pytestmark = pytest.mark.usefixtures("ray_local")


def walk_config(runners=0, envs=2, **env_kwargs):
    env_config = {"factory": FACTORY, "kwargs": env_kwargs}
    return small_config("pettingzoo", env_config, runners, envs)


def macn_config(runners=0, envs=2, **env_config):
    return small_config("macn", {"episode_limit": 20, **env_config}, runners, envs)


def small_config(env, env_config, runners, envs):
    config = config_class("VDN")().environment(env, env_config=env_config)
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=envs)
    config.training(batch_size_episodes=4, learning_starts_episodes=4)
    config.training(updates_per_episode=0.25, hidden_size=8)
    config.min_sample_timesteps_per_iteration = 100
    config.evaluation_duration = 4
    return config.debugging(seed=7)


def parameters(algorithm):
    network = algorithm.team_policy.network
    return np.concatenate([p.detach().numpy().ravel() for p in network.parameters()])


def test_two_runners_give_the_same_episodes_every_time():
    """R11: seed, number of the runner and number of the round fix an episode."""
    runs, episodes = [], []
    for _ in range(2):
        algorithm = macn_config(runners=2).build_algo()
        for _ in range(2):
            algorithm.train()
        runs.append(parameters(algorithm))
        stored = algorithm.replay.newest(len(algorithm.replay))
        episodes.append([e.obs.tobytes() + e.actions.tobytes() for e in stored])
        algorithm.stop()
    np.testing.assert_array_equal(runs[0], runs[1])
    assert len(episodes[0]) > 4 and sorted(episodes[0]) == sorted(episodes[1])


def test_evaluation_plays_the_same_32_episodes_however_they_are_split():
    """R29: also where shares are uneven: 32 / 3, and 32 / 5 per environment."""
    returns = []
    for runners, envs in ((0, 1), (0, 5), (0, 8), (3, 7)):
        config = macn_config(envs=envs, reward_noise_std=1.0)
        config.evaluation(evaluation_num_env_runners=runners, evaluation_duration=32)
        algorithm = config.build_algo()
        results = [algorithm.evaluate_episodes(32) for _ in range(2)]
        assert [r["episodes"] for r in results] == [32, 32]
        assert results[0]["returns"] == results[1]["returns"]
        assert algorithm.evaluate()["episodes"] == 32
        returns.append(results[0]["returns"])
        algorithm.stop()
    # Each episode has its own noise, and the same one however it was scheduled.
    assert len(set(returns[0])) == 32
    for other in returns[1:]:
        np.testing.assert_allclose(returns[0], other, rtol=1e-6)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_killed_runner_is_replaced(overlap):
    """R17: kill -9 of a sampling runner and of an evaluating one."""
    config = walk_config(runners=2)
    # Runners that evaluate do not depend on the overlap.
    config.evaluation(evaluation_num_env_runners=0 if overlap else 1)
    config.training(overlap_sampling=overlap)
    algorithm = config.build_algo()
    algorithm.train()
    groups = {algorithm.env_runner_group: 2}
    if not overlap:
        groups[algorithm.eval_env_runner_group] = 1
    for group in groups:
        pids = group.foreach_env_runner(lambda w: os.getpid(), local_env_runner=False)
        os.kill(pids[0], signal.SIGKILL)
    for _ in range(2):
        result = algorithm.train()
        assert result["evaluation"]["episodes"] == 4
        assert result["num_env_steps_sampled_lifetime"] > 0
    # The time limit of a test ends this wait if a runner never comes back.
    while any(g.num_healthy_remote_env_runners() < n for g, n in groups.items()):
        algorithm.train()
        time.sleep(1)  # for the process that starts
    algorithm.stop()


@pytest.mark.parametrize("runners", [0, 2])
def test_crashing_environments_cost_only_their_episodes(runners):
    """R14: one step in a thousand and one reset in a hundred fail.

    Every episode in the replay has 5 steps with reward 1, whatever crashed beside it.
    """
    config = walk_config(runners=runners, envs=8, step_crash=1e-3, reset_crash=1e-2)
    config.training(updates_per_episode=0.01)
    config.min_sample_timesteps_per_iteration = 4000
    algorithm = config.build_algo()
    result = algorithm.train()
    for episode in algorithm.replay.newest(len(algorithm.replay)):
        assert len(episode) == 5 and episode.episode_return == 5.0
        np.testing.assert_allclose(episode.obs[:, 0, 0], np.arange(6) / 10, atol=1e-6)
    assert result["num_env_crashes_lifetime"] > 0
    algorithm.stop()


@pytest.mark.parametrize("runners", [0, 1])
def test_an_environment_that_never_resets_stops_the_run(runners):
    """R15: three attempts, then one error that names env, attempts and root cause."""
    config = walk_config(runners=runners, never_resets=True)
    algorithm = config.build_algo()
    with pytest.raises(EnvFailedError, match=r"pettingzoo.*3 times.*does not answer"):
        algorithm.train()
    algorithm.stop()


def test_an_environment_that_stops_resetting_stops_the_run():
    config = walk_config(resets_until_it_breaks=10)
    algorithm = config.build_algo()
    with pytest.raises(EnvFailedError, match=r"pettingzoo.*3 times.*does not answer"):
        for _ in range(20):
            algorithm.train()
    algorithm.stop()


def test_nan_is_named_and_never_stored():
    """R20: a NaN is named with env, agent and step, and never stored."""
    algorithm = walk_config(nan_at=3).build_algo()
    named = r"pettingzoo.*observation of agent 'a' .*step 3 of the episode"
    with pytest.raises(NonFiniteError, match=named):
        algorithm.train()
    assert len(algorithm.replay) == 0
    algorithm.stop()


def test_nan_may_cost_the_episode_instead():
    # Episodes with an odd seed meet the NaN and are lost; the others are kept.
    config = walk_config(envs=4, nan_in_odd_episodes=True)
    # Half of the episodes are lost, so several losses in a row are usual.
    config.training(on_nonfinite="skip_episode")
    algorithm = config.build_algo()
    result = algorithm.train()
    assert result["num_env_crashes_lifetime"] > 0
    assert all(
        np.isfinite(e.obs).all() for e in algorithm.replay.newest(len(algorithm.replay))
    )
    algorithm.stop()


def test_an_episode_that_never_ends_stops_the_run():
    config = walk_config(length=1000).training(max_episode_steps=50)
    algorithm = config.build_algo()
    with pytest.raises(EnvContractError, match=r"not ended after 50 steps.*time limit"):
        algorithm.train()
    algorithm.stop()
