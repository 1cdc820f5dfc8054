"""A dataset as a replay: what it holds, how its window moves, and how it resumes."""

import itertools

import numpy as np
import pytest
from test_dataset import assert_same, episode, write

from rllib_risk.data import dataset_replay as replay_module
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.dataset_replay import DatasetReplay
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.segments import bytes_per_row

LENGTH = 5
ROW = bytes_per_row(episode(0, LENGTH))


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """A dataset of 40 episodes, four per file; the state of episode n is n."""
    folder = tmp_path_factory.mktemp("data") / "set"
    episodes = [episode(n, LENGTH) for n in range(40)]
    for number, one in enumerate(episodes):
        one.state[:] = number
    write(folder, episodes, rows_per_shard=4 * LENGTH)
    return folder


@pytest.fixture(name="small", autouse=True)
def _small_segments(monkeypatch):
    monkeypatch.setattr(replay_module, "_MIN_SEGMENT_BYTES", 1)
    monkeypatch.setattr(replay_module, "_READING_BYTES", 0)


def window(folder, episodes, seed=0):
    """A replay whose window has room for this number of episodes."""
    room = episodes * (LENGTH + 1) * ROW
    for memory in itertools.count(room, ROW):
        replay = DatasetReplay(Dataset(folder), memory, seed)
        if replay.capacity == episodes:
            return replay


def numbers(episodes):
    return [int(e.state[0, 0]) for e in episodes]


def held(replay):
    return numbers(replay._episode(i) for i in range(len(replay)))


def test_a_small_dataset_is_a_replay_of_all_of_it(folder):
    mine = DatasetReplay(Dataset(folder), 2**20, seed=3)
    other = EpisodeReplay(40, seed=3)
    other.add(Dataset(folder).episodes())
    assert mine.whole and len(mine) == 40
    for _ in range(3):
        for a, b in zip(mine.sample(7), other.sample(7), strict=True):
            assert_same(a, b)
        left, right = mine.sample_sequences(9, 2, 1), other.sample_sequences(9, 2, 1)
        for key, value in left.items():
            np.testing.assert_array_equal(value, right[key])
    assert mine.passes == 1.0


def test_every_pass_reads_every_episode_once_in_another_order(folder):
    replay = window(folder, 8)
    stream = numbers(itertools.islice(replay._episodes_from(0), 120))
    first, second, third = stream[:40], stream[40:80], stream[80:]
    assert sorted(first) == sorted(second) == sorted(third) == list(range(40))
    assert len({tuple(first), tuple(second), tuple(third), tuple(range(40))}) == 4
    # The episodes of a file come together.
    assert all(b == a + 1 for a, b in zip(first[::4], first[1::4], strict=True))
    other = window(folder, 8, seed=1)
    assert numbers(itertools.islice(other._episodes_from(0), 40)) != first


def test_as_many_steps_are_read_as_were_drawn(folder):
    replay = window(folder, 8)
    stream = numbers(itertools.islice(replay._episodes_from(0), 100))
    assert held(replay) == stream[:8]
    replay.sample(3)
    # The window moves before the next draw: three episodes replace the oldest three.
    assert held(replay) == stream[:8]
    replay.sample_sequences(LENGTH * 2, 1, 0)
    assert sorted(held(replay)) == sorted(stream[3:11])
    replay.sample(1)
    assert sorted(held(replay)) == sorted(stream[5:13])
    assert replay.passes == pytest.approx(13 / 40)


def test_steps_are_drawn_once_a_pass_on_average(folder):
    replay = window(folder, 8)
    counts = np.zeros(40)
    while replay.passes < 60:
        for drawn in replay.sample(4):
            counts[int(drawn.state[0, 0])] += 1
    # Each is drawn about 60 times. A Poisson count has a standard deviation of 7.7.
    assert counts.sum() == pytest.approx(60 * 40, rel=0.02)
    assert counts.min() > 30 and counts.max() < 90


@pytest.mark.parametrize("draws", [0, 1, 5, 9, 40])
def test_dataset_replay_resumes_from_a_checkpoint(folder, draws):
    replay = window(folder, 8)
    for _ in range(draws):
        replay.sample_sequences(7, 2, 1)
    arrays = {key: value.copy() for key, value in replay.state_arrays().items()}
    assert sum(value.nbytes for value in arrays.values()) < 100
    other = window(folder, 8)
    other.load_arrays(arrays)
    for _ in range(5):
        assert held(other) == held(replay)
        for a, b in zip(other.sample(3), replay.sample(3), strict=True):
            assert_same(a, b)


def test_arrays_of_another_dataset_change_nothing(folder, tmp_path):
    write(tmp_path, [episode(n, LENGTH) for n in range(4)])
    other = DatasetReplay(Dataset(tmp_path), 2**20, seed=0)
    other.sample(2)
    replay, fresh = window(folder, 8), window(folder, 8)
    online = EpisodeReplay(4, seed=0)
    online.add([episode(0, 2)])
    for arrays in (other.state_arrays(), online.state_arrays()):
        replay.load_arrays(arrays)
        assert held(replay) == held(fresh)
    # A dataset's arrays do not put episodes into a replay of played ones either.
    online.load_arrays(other.state_arrays())
    assert len(online) == 1


def test_no_more_memory_than_was_given(folder):
    memory = 24 * (LENGTH + 1) * ROW
    replay = DatasetReplay(Dataset(folder), memory, seed=0)
    assert not replay.whole and len(replay) >= 12
    for _ in range(50):
        replay.sample(len(replay))
        segments = {id(s): s for s, _ in replay._held}.values()
        taken = sum(a.nbytes for s in segments for a in s.arrays.values())
        assert taken <= memory
