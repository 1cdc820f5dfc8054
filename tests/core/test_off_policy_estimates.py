"""Off-policy estimates while a team learns from a dataset."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.core.off_policy import estimates
from rllib_risk.core.off_policy.fqe import FqeSettings
from rllib_risk.data.dataset import Dataset, write_dataset
from rllib_risk.env_wrappers.scripted import RandomPolicy

# Two agents, three steps. In state 0 both must choose 1 to get 1 and stay. Other joint
# actions lead to state 1, which pays -1 per step. State 2 is the end of an episode.
STAY, LEAVE, END = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
GAME = {
    "transitions": [
        [[LEAVE, LEAVE], [LEAVE, STAY]],
        [[LEAVE] * 2] * 2,
        [[END] * 2] * 2,
    ],
    "rewards": [[[0.0, 0.0], [0.0, 1.0]], [[-1.0] * 2] * 2, [[0.0] * 2] * 2],
    "terminal_states": [2],
    "episode_limit": 3,
}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """80 episodes of random actions."""
    config = TeamConfig().environment("tabular", env_config=GAME)
    folder = tmp_path_factory.mktemp("random") / "set"
    episodes = record(config, [scripted_player(RandomPolicy(), 0.0)], 80, seed=1)
    write_dataset(
        folder,
        episodes,
        env="tabular",
        env_config=GAME,
        agents=["agent_0", "agent_1"],
        behaviour={"policy": "random"},
        seed=1,
    )
    return folder


def estimating(folder, env=None, **keys):
    config = config_class("VDN")().debugging(seed=3)
    if env is not None:
        config.environment(env, env_config=GAME)
    return config.training(
        **{
            "dataset": str(folder),
            "dataset_holdout": 0.5,
            "off_policy_interval": 1,
            "hidden_size": 8,
            "recurrent": False,
            "updates_per_iteration": 2,
            "target_update_tau": 0.05,
            **keys,
        }
    )


def prefer(algorithm, action):
    """Makes every agent take one action everywhere."""
    with torch.no_grad():
        for agent in algorithm.team_policy.network.agents:
            agent.head.weight.zero_()
            agent.head.bias.copy_(torch.eye(2)[action])


def test_the_estimate_tells_the_better_checkpoint(folder, tmp_path, monkeypatch):
    """R49: off-policy evaluation.

    Always choosing 1 returns 1 + 1 + 1, always choosing 0 returns 0 - 1 - 1. No episode
    is played.
    """
    quick = partial(FqeSettings, members=3, hidden=16, batch_size=32)
    monkeypatch.setattr(estimates, "FqeSettings", quick)
    algorithm = estimating(folder, off_policy_interval=2, lr=1e-9).build_algo()
    found = {}
    for action in (1, 0):
        prefer(algorithm, action)
        none = algorithm.train()["off_policy"]
        assert none == {"estimates_since_best": 0}  # none is due
        found[action] = algorithm.train()["off_policy"]
    assert [found[a].pop("estimates_since_best") for a in (1, 0)] == [0, 1]
    assert found[1]["return_mean"] == pytest.approx(3.0, abs=0.5)
    assert found[0]["return_mean"] == pytest.approx(-2.0, abs=0.5)
    for action, truth in ((0, -2.0), (1, 3.0)):
        low, high = (found[action][f"return_mean_{end}"] for end in ("low", "high"))
        assert low <= truth <= high or high - low < 1.0
    # An estimate that does not settle is left out and counts as no improvement.
    stiff = partial(FqeSettings, check_every=5, max_updates=10, tau=1.0, tolerance=0.0)
    monkeypatch.setattr(estimates, "FqeSettings", stiff)
    algorithm.estimates = again = estimates.Estimates(
        list(Dataset(folder).episodes()), seed=3
    )
    again.load({"best": 3.0, "since_best": 1})
    algorithm.train()
    assert set(algorithm.train()["off_policy"]) == {
        *("log_return_mean", "td_error", "estimates_since_best")
    }
    # The same holds if its interval is wider than the spread of the log's returns.
    real = estimates.fit_fqe

    def members_that_differ(*args, **kwargs):
        fit = real(*args, **kwargs)
        apart = 9.0 * np.arange(len(fit.counts))[:, None]
        return replace(fit, settled=True, start_values=fit.start_values + apart)

    monkeypatch.setattr(estimates, "fit_fqe", members_that_differ)
    found = algorithm.estimates.make(algorithm.team_policy)
    assert set(found) == {"log_return_mean", "td_error"}
    assert algorithm.estimates.since_best == 3
    # A resumed run goes on counting: there were three estimates since the best one.
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.stop()
    again = estimating(folder, off_policy_interval=2).build_algo()
    again.load_checkpoint(str(tmp_path))
    assert again.estimates.since_best == 3
    again.stop()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dataset_holdout": 0.0}, "set dataset and dataset_holdout"),
        ({"dataset_holdout": 0.1}, "needs 10 held-out episodes, .* holds 8 of 80 out"),
        ({"objective": "static", "alpha": 0.5}, "chooses its threshold by playing"),
    ],
)
def test_estimates_that_cannot_be_made_are_refused(folder, keys, message):
    with pytest.raises(ConfigError, match=message):
        estimating(folder, **keys).build_algo()
