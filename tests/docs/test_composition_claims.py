"""Claims of docs/composition.md about compositions, checked by training."""

from typing import Any

import pytest

from rllib_risk.algorithms import IndependentQConfig

pytestmark = pytest.mark.usefixtures("ray_local")


def greedy_shares(**keys: Any) -> tuple[float, float]:
    """Trains on the risky bandit; gives the shares of joint safe and risky episodes."""
    config = (
        IndependentQConfig()
        .environment("risky_bandit")
        .env_runners(num_envs_per_env_runner=16)
        .training(
            num_atoms=20,
            hidden_size=16,
            optimizer="adam",
            lr=2e-3,
            updates_per_episode=0.5,
            epsilon_anneal_env_steps=1000,
            **keys,
        )
        .evaluation(evaluation_duration=8)
        .debugging(seed=1)
    )
    config.min_sample_timesteps_per_iteration = 2000
    algorithm = config.build_algo()
    evaluation = algorithm.train()["evaluation"]
    algorithm.stop()
    return evaluation["joint_safe"], evaluation["joint_risky"]


# Joint safe pays 1. Joint risky pays -5 with probability 0.2 and else 4: mean 2.2, and
# the worst fifth is -5. An agent alone cannot leave joint safe without paying -1.
def test_cvar_is_cautious_only_with_quantile_loss() -> None:
    assert greedy_shares(loss="quantile") == (0.0, 1.0)
    careful = {"risk_measure": "cvar", "alpha": 0.2}
    assert greedy_shares(loss="quantile", **careful) == (1.0, 0.0)
    # The squared error fits the measure of the atoms to the mean of the rewards.
    assert greedy_shares(loss="td", **careful) == (0.0, 1.0)
