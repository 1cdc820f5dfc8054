"""Games with known answers, through the whole pipeline."""

import pytest

from rllib_risk.algorithms import config_class

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.mark.parametrize("quantiles", ["fixed", "sampled"])
@pytest.mark.parametrize(("alpha", "returns"), [(0.3, {1.0}), (1.0, {-5.0, 4.0})])
def test_independent_quantile_learners_act_at_their_level(quantiles, alpha, returns):
    """R34: trained on the reward itself, a cautious team plays safe.

    Actions are uniform while sampling, so each agent's team-mate plays either action
    half the time. Safe pays 1 or -1. Risky pays -1 with probability 0.5, -5 with 0.1
    and 4 with 0.4. At level 1 safe is worth 0 and risky 0.6. At level 0.3, the worst
    three tenths, they are worth -1 and (0.1 * -5 + 0.2 * -1) / 0.3 = -2.33.
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
def test_evaluation_uses_the_current_level_of_a_schedule(runners):
    """Evaluation has its own policies, which must get the number of env steps too."""
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
    # Half way from 1.0 to 0.3, then the end of the schedule.
    levels = [algorithm.train()["evaluation"]["risk_level_mean"] for _ in range(3)]
    algorithm.stop()
    assert levels == pytest.approx([0.65, 0.3, 0.3])


def greedy_payoffs(name, payoff, steps, **keys):
    """Greedy returns on a matrix game after training on uniform actions."""
    config = config_class(name)().environment(
        "matrix_game", env_config={"payoff": payoff}
    )
    keys = {"lr": 3e-3, "optimizer": "adam", "updates_per_episode": 0.25, **keys}
    config.training(
        recurrent=False,
        initial_epsilon=1.0,
        final_epsilon=1.0,
        batch_size_episodes=64,
        learning_starts_episodes=64,
        **keys,
    )
    config.env_runners(num_envs_per_env_runner=32).debugging(seed=0)
    config.min_sample_timesteps_per_iteration = steps
    config.evaluation_interval = None
    algorithm = config.build_algo()
    algorithm.train()
    played = algorithm.evaluate_episodes(2)["returns"]
    algorithm.stop()
    return set(played)


# Ordinary independent Q-learning on the climbing game [[11, -30, 0], [-30, 7, 6],
# [0, 0, 5]] with a uniform team-mate: row means (-6.33, -5.67, 1.67), column means
# (-6.33, -7.67, 3.67), so both play their last action, which pays 5. VDN's
# least-squares fit adds row and column means and plays the same. If negative errors
# have the weight 0.1, the fixed points are (6.67, 4.76, 4.17) and (6.67, 3.33, 5.42):
# both play the first action, which pays 11.
@pytest.mark.parametrize(
    ("name", "keys", "payoff"),
    [
        ("IndependentQ", {}, 5.0),
        ("VDN", {}, 5.0),
        ("IndependentQ", {"td_weighting": "ow", "td_weighting_alpha": 0.1}, 11.0),
        ("LHIQN", {"td_weighting_alpha": 0.1}, 11.0),
    ],
)
def test_the_climbing_game(name, keys, payoff):
    assert greedy_payoffs(name, "climb", 2000, **keys) == {payoff}


# The best joint action pays 8 and is surrounded by -12. Weighted QMIX solves both
# games: its central value fits the table, and its monotonic value keeps 8 at the corner
# because errors at lower payoffs have a tenth of the weight (fixed points:
# tests/learning/test_factorised_games.py). QTRAN and QPLEX can represent the table.
# QMIX's best fit of P4 leaves an error of 21.43, with -9.14 at the corner: it plays 0.
@pytest.mark.parametrize(
    ("name", "payoff", "best", "keys"),
    [
        ("OWQMIX", "P3", 8.0, {}),
        ("CWQMIX", "P3", 8.0, {}),
        pytest.param("OWQMIX", "P4", 8.0, {}, marks=pytest.mark.long),
        pytest.param("CWQMIX", "P4", 8.0, {}, marks=pytest.mark.long),
        ("QTRAN", "P3", 8.0, {"nopt_weight": 1.0}),
        (
            "QPLEX",
            "P3",
            8.0,
            {"qplex_heads": 10, "qplex_lambda_layers": 3, "optimizer": "rmsprop"},
        ),
        ("QMIX", "P4", 0.0, {}),
        ("VDN", "P3", 0.0, {}),
        ("IndependentQ", "P3", 0.0, {}),
    ],
)
def test_payoffs_of_factorisations_on_nonmonotonic_games(name, payoff, best, keys):
    """R33: through the whole pipeline, including the failures of VDN and QMIX."""
    assert greedy_payoffs(name, payoff, 4000, lr=1e-3, **keys) == {best}


@pytest.mark.parametrize(("name", "steps"), [("COMA", 15_000), ("DOP", 6000)])
def test_actor_critics_learn_to_remember(name, steps):
    """R33: a return of 1 needs memory and credit over time; else it is at most 0.5."""
    config = config_class(name)().environment("memory_game", env_config={"delay": 1})
    config.training(
        optimizer="adam",
        lr=3e-3,
        critic_lr=3e-3,
        final_epsilon=0.02,
        epsilon_anneal_env_steps=steps,
    )
    config.env_runners(num_envs_per_env_runner=8).debugging(seed=0)
    config.min_sample_timesteps_per_iteration = steps
    config.evaluation_interval = None
    algorithm = config.build_algo()
    algorithm.train()
    assert set(algorithm.evaluate_episodes(16)["returns"]) == {1.0}
    algorithm.stop()
