"""Held-out episodes, and the share of episodes with the highest returns."""

import itertools

import numpy as np
import pytest
from test_dataset import episode, write

from rllib_risk.data import dataset_replay as replay_module
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.dataset_replay import DatasetReplay
from rllib_risk.data.dataset_split import split_dataset
from rllib_risk.data.rows import DatasetError
from rllib_risk.data.segments import bytes_per_row

LENGTH = 5
# Returns of the episodes, in their order.
RETURNS = [(7 * n) % 40 for n in range(40)]


@pytest.fixture(name="dataset", scope="module")
def _dataset(tmp_path_factory):
    """A dataset of 40 episodes, four per file; the state of episode n is n."""
    folder = tmp_path_factory.mktemp("data") / "set"
    episodes = [episode(n, LENGTH) for n in range(40)]
    for number, one in enumerate(episodes):
        one.state[:] = number
        one.rewards[:] = RETURNS[number] / LENGTH
    write(folder, episodes, rows_per_shard=4 * LENGTH)
    return Dataset(folder)


def numbers(episodes):
    return [int(e.state[0, 0]) for e in episodes]


def test_all_of_it_is_learned_from_unless_asked(dataset):
    split = split_dataset(dataset, seed=0)
    assert split.learned.all() and not split.held_out.any()
    assert (split.num_episodes, split.num_steps) == (40, 200)


def test_what_is_held_out_follows_from_the_seed_alone(dataset):
    split = split_dataset(dataset, seed=0, holdout=0.1)
    assert split.held_out.sum() == 4 and split.num_steps == 36 * LENGTH
    assert not (split.learned & split.held_out).any()
    again = split_dataset(dataset, seed=0, holdout=0.1, top_share=0.5)
    np.testing.assert_array_equal(split.held_out, again.held_out)
    other = split_dataset(dataset, seed=1, holdout=0.1)
    assert (split.held_out != other.held_out).any()


def test_the_top_share_is_of_the_rest(dataset):
    split = split_dataset(dataset, seed=0, holdout=0.1, top_share=0.25)
    rest = [n for n in range(40) if not split.held_out[n]]
    best = sorted(rest, key=lambda n: -RETURNS[n])[:9]
    assert np.flatnonzero(split.learned).tolist() == sorted(best)
    assert split.num_steps == 9 * LENGTH


def test_at_least_one_episode_is_on_each_side(dataset, tmp_path):
    split = split_dataset(dataset, seed=0, holdout=0.001, top_share=0.001)
    assert split.held_out.sum() == 1 and split.num_episodes == 1
    write(tmp_path / "one", [episode(0, 2)])
    with pytest.raises(DatasetError, match="has one episode, so none can be"):
        split_dataset(Dataset(tmp_path / "one"), seed=0, holdout=0.1)


def test_a_replay_of_a_part_draws_that_part_alone(dataset):
    split = split_dataset(dataset, seed=2, holdout=0.2, top_share=0.5)
    replay = DatasetReplay(dataset, 2**20, seed=0, split=split)
    assert replay.whole and len(replay) == 16
    drawn = {n for _ in range(20) for n in numbers(replay.sample(8))}
    assert sorted(drawn) == np.flatnonzero(split.learned).tolist()
    some = replay.some_episodes(5)
    assert len(set(numbers(some))) == 5 and set(numbers(some)) <= drawn
    assert numbers(replay.some_episodes(5)) == numbers(some)
    assert len(replay.some_episodes(100)) == 16


def test_a_window_moves_over_that_part_and_goes_on_where_it_was(dataset, monkeypatch):
    monkeypatch.setattr(replay_module, "_MIN_SEGMENT_BYTES", 1)
    monkeypatch.setattr(replay_module, "_READING_BYTES", 0)
    split = split_dataset(dataset, seed=2, holdout=0.2)
    memory = 14 * (LENGTH + 1) * bytes_per_row(episode(0, LENGTH))

    def window():
        return DatasetReplay(dataset, memory, seed=0, split=split)

    replay, kept = window(), np.flatnonzero(split.learned).tolist()
    assert not replay.whole and len(kept) == 32
    stream = numbers(itertools.islice(replay._episodes_from(0), 64))
    assert sorted(stream[:32]) == sorted(stream[32:]) == kept
    for begin in (5, 31, 40):
        rest = itertools.islice(replay._episodes_from(begin), 64 - begin)
        assert numbers(rest) == stream[begin:]
    some = numbers(replay.some_episodes(3))
    for _ in range(20):
        replay.sample_sequences(7, 2, 1)
    assert numbers(replay.some_episodes(3)) == some == stream[:3]
    other = window()
    other.load_arrays({k: v.copy() for k, v in replay.state_arrays().items()})
    assert numbers(other.sample(4)) == numbers(replay.sample(4))
