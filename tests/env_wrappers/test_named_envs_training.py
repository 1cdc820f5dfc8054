"""Training on envs of other packages by name."""

import math
from typing import Any

import pytest
from extras import need_extra

from rllib_risk.algorithms import config_class

CONFIGS: dict[str, dict[str, Any]] = {
    "lbf": {"id": "Foraging-5x5-2p-1f-v3", "episode_limit": 10},
    "rware": {"episode_limit": 10},
    "mpe": {"episode_limit": 10},
    "vmas": {"episode_limit": 10, "kwargs": {"n_agents": 2}},
    "gymnasium": {"id": "gymnasium_envs:Meeting-v0", "team_reward": "sum"},
}


@pytest.mark.parametrize("env", CONFIGS)
def test_two_iterations(env: str) -> None:
    """QMIX with the state `concat_obs` plays episodes, learns and evaluates."""
    need_extra(env)
    config: Any = config_class("QMIX")()
    config.environment(env, env_config={**CONFIGS[env], "state": "concat_obs"})
    config.env_runners(num_envs_per_env_runner=2).debugging(seed=0)
    config.training(hidden_size=8, batch_size_episodes=4, learning_starts_episodes=4)
    config.min_sample_timesteps_per_iteration = 60
    config.evaluation_interval = 2
    config.evaluation_duration = 2
    algorithm = config.build_algo()
    try:
        first, second = algorithm.train(), algorithm.train()
    finally:
        algorithm.stop()
    steps = "num_env_steps_sampled_lifetime"
    assert 60 <= first[steps] < second[steps]
    assert math.isfinite(second["env_runners"]["episode_return_mean"])
    loss = second["info"]["learner"]
    assert loss, "nothing was learned"
