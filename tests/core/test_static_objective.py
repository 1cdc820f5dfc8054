"""Objective `static` through the whole pipeline: sampling, evaluation, checkpoints."""

import numpy as np
import pytest
from small_runs import small_config, straight_and_resumed

import rllib_risk
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.dataset_recording import record, trained_player
from rllib_risk.core.envs import start_env
from rllib_risk.evaluation.trace_runs import trace_episode

pytestmark = pytest.mark.usefixtures("ray_local")

STATIC = {
    "objective": "static",
    "alpha": 0.5,
    "threshold_candidates": 3,
    "threshold_episodes": 2,
}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("QMIX", {}),
        ("VDN", {"sequence_length": 3, "burn_in": 2}),
        ("COMA", {}),
        ("DOP", {}),
        ("MAPPO", {}),
    ],
    ids=["whole", "sequences", "coma", "dop", "mappo"],
)
def test_stopping_and_resuming_changes_nothing(name, keys, tmp_path):
    """The range, the chosen threshold and the thresholds of episodes are kept."""
    results, again, resumed = straight_and_resumed(name, tmp_path, **STATIC, **keys)
    for a, b in zip(again, results[3:], strict=True):
        for key in ("threshold", "return_mean", "return_cvar_alpha"):
            assert a["evaluation"][key] == b["evaluation"][key]
    objective = resumed.team_policy.network.objective
    held = resumed.replay.at(range(len(resumed.replay)))
    assert all(-200.0 < e.threshold < 0.5 for e in held)
    assert len({e.threshold for e in held}) > len(held) / 2
    # The replay holds all episodes so far (of COMA and MAPPO the last eight).
    assert objective.limits[0] <= min(e.discounted_return(0.99) for e in held)
    # Rewards are those of the environment.
    assert min(e.rewards.min() for e in held) <= -1.0
    resumed.stop()


@pytest.fixture(name="trained", scope="module")
def _trained(tmp_path_factory, ray_local):
    algorithm = small_config("QMIX", **STATIC).build_algo()
    result = algorithm.train()
    folder = tmp_path_factory.mktemp("static")
    algorithm.save_checkpoint(str(folder))
    yield algorithm, folder, result["evaluation"]
    algorithm.stop()


def test_one_run_is_evaluated_at_every_level(trained):
    _, folder, evaluation = trained
    loaded = rllib_risk.load(folder)
    objective = loaded.team_policy.network.objective
    assert objective.threshold == evaluation["threshold"]
    again = loaded.evaluate_episodes(3)
    for key in ("alpha", "threshold", "return_mean", "return_cvar_alpha"):
        assert again[key] == evaluation[key]
    mean = loaded.evaluate_episodes(3, alpha=1.0)
    assert mean["alpha"] == 1.0
    assert mean["return_cvar_alpha"] == pytest.approx(mean["return_mean"])
    assert mean["threshold"] == objective.threshold
    assert mean["threshold"] in objective.candidates()
    with pytest.raises(ConfigError, match="--alpha: must be above 0"):
        loaded.evaluate_episodes(3, alpha=0.0)
    loaded.stop()


def test_a_level_is_refused_where_it_has_no_meaning():
    algorithm = small_config("VDN").build_algo()
    with pytest.raises(ConfigError, match="--alpha: one team serves all levels with"):
        algorithm.evaluate_episodes(1, alpha=0.5)
    algorithm.stop()


def test_traces_and_recordings_play_the_static_policy(trained):
    """A trace and a recording act as the evaluation does; RLlib's actions cannot."""
    algorithm, _, _ = trained
    policy, config = algorithm.team_policy, algorithm.config
    threshold = policy.network.objective.threshold
    played = algorithm.play_greedily(3, 5, [threshold])
    for index, episode in enumerate(played):
        trace = trace_episode(policy, config, 5, index)
        assert np.array_equal(trace.actions, episode.actions)
        assert trace.rewards == pytest.approx(episode.rewards)
    recorded = list(record(config, [trained_player(policy, 0.0)], 2, seed=1))
    assert recorded[0].obs.shape[1:] == played[0].obs.shape[1:]
    env = start_env(config)
    obs, _ = env.reset(seed=0)
    env.close()
    with pytest.raises(ValueError, match="acts on the return so far"):
        algorithm.compute_single_action(obs, state=policy.get_initial_state())


def test_remote_runners_know_the_range_and_the_threshold():
    config = small_config("QMIX", **STATIC)
    config.env_runners(num_env_runners=1)
    config.evaluation(evaluation_num_env_runners=1)
    algorithm = config.build_algo()
    first, second = algorithm.train(), algorithm.train()
    low, high = algorithm.team_policy.network.objective.limits
    held = algorithm.replay.at(range(len(algorithm.replay)))
    # The first round has no returns yet; later rounds draw from the returns' range.
    assert {e.threshold for e in held[:4]} == {0.0}
    later = [e.threshold for e in held[-8:]]
    assert low < min(later) < max(later) < high
    here = algorithm.env_runner.evaluate_episodes(
        range(3), config.seed, [second["evaluation"]["threshold"]]
    )
    mean = np.mean([e.episode_return for e in here])
    assert second["evaluation"]["return_mean"] == pytest.approx(mean)
    assert first["evaluation"]["threshold"] <= 0.0
    algorithm.stop()
