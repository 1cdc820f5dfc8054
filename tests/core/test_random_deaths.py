"""Agents that die at random steps, through the whole of training."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_risk.algorithms import config_class

EPISODES, AGENTS = 200, 4


@pytest.mark.usefixtures("ray_local")
def test_random_deaths():
    """R23: 200 episodes without an exception; every batch is N agents wide.

    The env itself asserts that only living agents act, and only with legal actions.
    """
    env_config = {"factory": "scripted_envs:RandomDeathEnv"}
    config = config_class("QMIX")().environment("pettingzoo", env_config=env_config)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=8)
    config.training(batch_size_episodes=8, learning_starts_episodes=8, hidden_size=8)
    config.training(updates_per_episode=0.25, max_env_restarts=1)
    config.evaluation_duration = 4
    algorithm = config.debugging(seed=1).build_algo()
    episodes, batches = [], []
    algorithm.on_episodes.append(episodes.extend)
    learn = algorithm.team_policy.learn_on_batch

    def learned(batch):
        batches.append(batch)
        return learn(batch)

    algorithm.team_policy.learn_on_batch = learned
    try:
        while len(episodes) < EPISODES:
            result = algorithm.train()
        evaluation = algorithm.evaluate()
    finally:
        algorithm.stop()
    assert result["num_env_crashes_lifetime"] == 0
    assert np.isfinite(evaluation["env_runners"]["episode_return_mean"])
    alive_at_the_end = set()
    for episode in episodes:
        steps = len(episode)
        assert episode.obs.shape == (steps + 1, AGENTS, 3)
        assert episode.action_mask.shape == (steps + 1, AGENTS, 5)
        assert episode.actions.shape == (steps, AGENTS)
        alive = episode.obs[:-1].any(-1)  # this env never shows zeros
        assert not (alive[1:] & ~alive[:-1]).any(), "an agent came back"
        assert (episode.action_mask[:-1][~alive] == [1, 0, 0, 0, 0]).all()
        assert (episode.actions[~alive] == 0).all()
        alive_at_the_end.add(int(alive[-1].sum()))
    assert alive_at_the_end >= {1, 2, 3}
    assert len(batches) >= EPISODES * 0.25 - 8
    for batch in batches:
        assert batch["obs"].shape[2:] == (AGENTS, 3)
        assert batch["action_mask"].shape[2:] == (AGENTS, 5)
        assert batch["actions"].shape[2:] == (AGENTS,)
