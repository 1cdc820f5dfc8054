"""Recordings: the players, their shares of episodes, and parts of a learner's log."""

import numpy as np
import pytest
from test_dataset import assert_same, episode, write

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.log_parts import part_of_log
from rllib_risk.data.rows import DatasetError
from rllib_risk.env_wrappers.scripted import RandomPolicy, reference_policies

UAV = {"episode_steps": 10}


def config(env="uav", env_config=UAV):
    return TeamConfig().environment(env, env_config=env_config)


def players(*names, epsilon=0.0):
    known = reference_policies("uav", UAV)
    return [scripted_player(known[name], epsilon) for name in names]


def test_a_recording_repeats_with_its_seed_and_not_with_another():
    one, same, other = (
        list(record(config(), players("greedy"), 5, seed)) for seed in (3, 3, 4)
    )
    for a, b in zip(one, same, strict=True):
        assert_same(a, b)
    assert not np.array_equal(one[0].obs, other[0].obs)
    assert [len(e) for e in one] == [10] * 5


@pytest.mark.parametrize("number", [1, 2, 7, 100])
def test_several_policies_share_the_episodes(number):
    played = list(record(config(), players("idle", "greedy"), number, seed=0))
    assert len(played) == number
    idle = sum(bool((e.actions >= 50).all()) for e in played)  # 50 to 54 poll no device
    assert idle == number - number // 2


def test_epsilon_is_the_share_of_random_actions():
    # An idle policy never polls; of 55 random actions 50 do.
    played = list(record(config(), players("idle", epsilon=0.3), 200, seed=0))
    polls = np.concatenate([e.actions < 50 for e in played])
    assert polls.mean() == pytest.approx(0.3 * 50 / 55, abs=0.015)
    # Agents explore independently.
    both = (polls[:, 0] & polls[:, 1]).mean()
    assert both == pytest.approx(polls.mean() ** 2, abs=0.015)


def test_random_actions_are_available_ones():
    walk = config("macn", {"episode_limit": 20})
    player = scripted_player(RandomPolicy(), 1.0)
    for played in record(walk, [player], 20, seed=0):
        mask = played.action_mask[:-1]
        taken = np.take_along_axis(mask, played.actions[..., None].astype(int), -1)
        assert taken.all()


def log_of(folder, returns, length=5):
    """A log whose episodes have these returns."""
    episodes = [episode(n, length) for n in range(len(returns))]
    for one, total in zip(episodes, returns, strict=True):
        one.rewards[:] = total / length
    write(folder, episodes, behaviour={"part": "replay"})
    return Dataset(folder)


def test_parts_of_a_log(tmp_path):
    # Returns rise from 0 to 99 over 100 episodes, and means of five episodes (5 %) from
    # 2 to 97. The first mean of at least 49.5, half of the gain, is that of 48 to 52.
    log = log_of(tmp_path, np.arange(100.0))
    assert part_of_log(log, "replay", 0.1) == (0, 100)
    assert part_of_log(log, "paper", 0.16) == (50, 66)
    assert part_of_log(log, "expert", 0.1) == (90, 100)
    assert part_of_log(log, "medium", 0.1) == (48, 58)


def test_a_part_ends_with_the_log(tmp_path):
    # Half of the gain is reached at the very end.
    log = log_of(tmp_path, np.r_[np.zeros(90), np.full(10, 50.0)])
    assert part_of_log(log, "medium", 0.5) == (50, 100)
    assert part_of_log(log, "paper", 0.9) == (10, 100)
    assert part_of_log(log, "expert", 1e-9) == (99, 100)


def test_parts_are_shares_of_steps_and_not_of_episodes(tmp_path):
    # 40 steps in ten episodes, then 40 in two: the long ones begin at half the steps.
    episodes = [episode(n, 4) for n in range(10)] + [episode(n, 20) for n in range(2)]
    write(tmp_path, episodes, behaviour={"part": "replay"})
    assert part_of_log(Dataset(tmp_path), "paper", 0.25) == (10, 11)


def test_medium_part_needs_a_learner_that_improved(tmp_path):
    log = log_of(tmp_path, np.arange(20.0)[::-1])
    with pytest.raises(DatasetError, match="did not get better"):
        part_of_log(log, "medium", 0.1)
