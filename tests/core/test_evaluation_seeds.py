"""Evaluation seeds: never seeds of the training, and always the same."""

import pytest
from small_runs import small_config

import rllib_risk
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.env_wrappers.episode_loop import SEED_RANGE

pytestmark = pytest.mark.usefixtures("ray_local")


def test_evaluations_play_seeds_of_their_own(tmp_path, monkeypatch):
    """R12: never seeds of the training, and the same 32 for the same checkpoint."""
    played, play = [], TeamRolloutWorker._play
    monkeypatch.setattr(
        TeamRolloutWorker,
        "_play",
        lambda self, player, seeds, *others: (
            played.append(seeds.tolist()) or play(self, player, seeds, *others)
        ),
    )
    config = small_config("VDN").environment(env_config={"reward_noise_std": 1.0})
    algorithm = config.build_algo()
    algorithm.train()
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.stop()
    *training, evaluation = played
    assert len(training) > 1 and len(evaluation) == 3
    assert max(map(max, training)) < SEED_RANGE <= min(evaluation)
    returns, seeds = [], []
    for _ in range(2):
        loaded = rllib_risk.load(tmp_path)
        returns.append(loaded.evaluate_episodes(32)["returns"])
        loaded.stop()
        seeds.append(played[-1])
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 32
    assert seeds[0][:3] == evaluation
    assert returns[0] == returns[1] and len(set(returns[0])) == 32
