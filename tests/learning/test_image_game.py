"""Convolutions learn a small image game, and a checkpoint keeps what they learned."""

import image_envs
import pytest

import rllib_risk
from rllib_risk.algorithms import config_class


@pytest.mark.usefixtures("one_thread")
def test_the_bright_pixel_is_found(tmp_path):
    config = config_class("VDN")()
    config.environment("pettingzoo", env_config={"factory": "image_envs:bright_pixel"})
    config.env_runners(num_envs_per_env_runner=8).debugging(seed=1)
    config.training(
        encoder="cnn",
        recurrent=False,
        optimizer="adam",
        lr=1e-3,
        updates_per_episode=0.25,
        target_update_interval_episodes=100,
        epsilon_anneal_env_steps=4000,
    )
    config.min_sample_timesteps_per_iteration = 1000
    algorithm = config.build_algo()
    untrained = algorithm.evaluate_episodes(50, seed=5)["return_mean"]
    for _ in range(6):
        algorithm.train()
    learned = algorithm.evaluate_episodes(50, seed=5)["return_mean"]
    # Random play gets 1 of 4 on average.
    assert untrained < 2.0
    assert learned > 0.9 * image_envs.LENGTH
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.stop()
    restored = rllib_risk.load(tmp_path, trust_code=True)
    assert restored.evaluate_episodes(50, seed=5)["return_mean"] == learned
    restored.stop()
