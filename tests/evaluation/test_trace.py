"""Traces of episodes: they equal the evaluation's, and atoms give their values."""

import numpy as np
import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.evaluation.trace_runs import trace_episode

pytestmark = pytest.mark.usefixtures("ray_local")

SMALL = {"batch_size_episodes": 4, "learning_starts_episodes": 4, "hidden_size": 8}


def build(name: str, **keys):
    config = config_class(name)().environment("macn", env_config={"episode_limit": 12})
    config.update_from_dict(
        {
            **SMALL,
            "seed": 4,
            "num_envs_per_env_runner": 4,
            "min_sample_timesteps_per_iteration": 60,
            "evaluation_duration": 3,
            **keys,
        }
    )
    return config.build_algo()


@pytest.fixture(scope="module", name="trained")
def _trained(ray_local):
    """RMIX with twenty atoms, trained for one iteration."""
    algorithm = build("RMIX", num_atoms=20)
    algorithm.train()
    yield algorithm
    algorithm.stop()


def test_a_trace_is_the_evaluations_episode(trained):
    evaluated = trained.evaluate_episodes(3, seed=11)
    for index in range(3):
        trace = trace_episode(trained.team_policy, trained.evaluation_config, 11, index)
        assert trace.rewards.sum() == pytest.approx(evaluated["returns"][index])
        assert set(trace.metrics) >= {"is_success", "battle_won"}
    assert trace.agents == ("agent_0", "agent_1")


def test_values_are_the_atoms_that_count(trained):
    trace = trace_episode(trained.team_policy, trained.evaluation_config, 11)
    length = len(trace.rewards)
    assert trace.atoms.shape == (length, 2, 4, 20)
    assert (np.diff(trace.atoms, axis=-1) >= 0).all()
    values = (trace.atoms * trace.weights[:, :, None]).sum(-1)
    legal = trace.action_mask
    np.testing.assert_allclose(trace.values[legal], values[legal], rtol=1e-5, atol=1e-6)
    assert (trace.values[~legal] == -np.inf).all()
    np.testing.assert_array_equal(trace.actions, trace.values.argmax(-1))
    # CVaR at level k/10 is the mean of the 2k lowest of 20 atoms.
    counted = (trace.weights > 0).sum(-1)
    np.testing.assert_array_equal(counted, np.rint(trace.risk_levels * 20))
    np.testing.assert_allclose(trace.weights.sum(-1), 1.0)


@pytest.mark.parametrize(
    ("name", "keys", "weighed"),
    [
        ("QMIX", {}, True),
        ("LHIQN", {"num_atoms": 8}, True),
        ("QMIX", {"num_atoms": 8, "risk_measure": "mean_variance"}, False),
        ("COMA", {}, True),
        ("RobustVDN", {"preset": "paper", "sequence_length": 4, "burn_in": 0}, True),
    ],
)
def test_other_algorithms(name, keys, weighed):
    algorithm = build(name, **keys) if name != "COMA" else build_coma()
    try:
        trace = trace_episode(algorithm.team_policy, algorithm.evaluation_config, 1)
        assert (trace.weights is not None) == weighed
        (expected,) = algorithm.evaluate_episodes(1, seed=1)["returns"]
        assert trace.rewards.sum() == pytest.approx(expected)
    finally:
        algorithm.stop()


def build_coma():
    config = config_class("COMA")().environment(
        "macn", env_config={"episode_limit": 12}
    )
    return config.update_from_dict({"seed": 4, "hidden_size": 8}).build_algo()
