"""Risk levels that change what is done, through the whole pipeline."""

import pytest

from rllib_risk.algorithms import config_class

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.mark.parametrize("quantiles", ["fixed", "sampled"])
@pytest.mark.parametrize(("alpha", "returns"), [(0.3, {1.0}), (1.0, {-5.0, 4.0})])
def test_independent_quantile_learners_act_at_their_level(quantiles, alpha, returns):
    """Trained on the reward itself, a cautious team plays safe and a neutral one not.

    Actions are uniform while sampling, so that each agent's team-mate plays either
    action half the time. Safe pays 1 or -1, risky -1 half the time, -5 in a tenth and 4
    in four tenths of it. Level 1: 0 against 0.6. Level 0.3, the worst three tenths: -1
    against (0.1 * -5 + 0.2 * -1) / 0.3 = -2.33.
    """
    config = config_class("IndependentQ")().environment("risky_bandit")
    config.training(
        num_atoms=20,
        quantiles=quantiles,
        loss="quantile",
        qr_kappa=0.1,
        risk_measure="cvar",
        alpha=alpha,
        recurrent=False,
        optimizer="adam",
        lr=3e-3,
        initial_epsilon=1.0,
        final_epsilon=1.0,
        batch_size_episodes=64,
        learning_starts_episodes=64,
        updates_per_episode=0.25,
        target_update_interval_episodes=64,
    )
    config.env_runners(num_envs_per_env_runner=32).debugging(seed=0)
    config.min_sample_timesteps_per_iteration = 2000
    config.evaluation_interval = None
    algorithm = config.build_algo()
    algorithm.train()
    played = algorithm.evaluate_episodes(16)["returns"]
    algorithm.stop()
    assert set(played) <= returns


@pytest.mark.parametrize("runners", [0, 1])
def test_a_scheduled_level_is_evaluated_where_it_stands(runners):
    """Evaluation has policies of its own, which must hear of the env steps too."""
    config = config_class("QMIX")().environment("two_step")
    config.training(
        num_atoms=10,
        risk_measure="cvar",
        alpha=[[0, 1.0], [40, 0.3]],
        hidden_size=8,
        batch_size_episodes=4,
        learning_starts_episodes=4,
    )
    config.evaluation(evaluation_num_env_runners=runners, evaluation_duration=4)
    config.debugging(seed=0)
    config.min_sample_timesteps_per_iteration = 20  # ten episodes of two steps
    algorithm = config.build_algo()
    # Half the way from 1.0 to 0.3, then the end of it.
    levels = [algorithm.train()["evaluation"]["risk_level_mean"] for _ in range(3)]
    algorithm.stop()
    assert levels == pytest.approx([0.65, 0.3, 0.3])
