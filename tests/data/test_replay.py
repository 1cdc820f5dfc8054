"""Replay of whole episodes: the ring, the draws, the round trip and the padding."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.config.schema import ConfigError
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.segments import bytes_per_row, flags_of

ROWS = ("obs", "state", "action_mask")
STEPS = ("actions", "rewards", "risk_levels")


def episode(number, length=2, *, terminated=True):
    """An episode of two agents with three actions; its number fixes all values."""
    rng = np.random.default_rng(number)
    return Episode(
        obs=np.full((length + 1, 2, 4), number, np.float32),
        state=rng.normal(size=(length + 1, 3)).astype(np.float32),
        action_mask=rng.integers(0, 2, (length + 1, 2, 3)).astype(np.uint8),
        actions=rng.integers(0, 3, (length, 2)).astype(np.int16),
        rewards=rng.normal(size=length).astype(np.float32),
        terminated=terminated,
        risk_levels=rng.random((length, 2)).astype(np.float32),
        metrics={"is_success": 1.0},
    )


def numbers(episodes):
    return [int(e.obs[0, 0, 0]) for e in episodes]


def held(replay):
    return sorted(numbers(replay.sample(len(replay))))


def test_first_in_first_out():
    replay = EpisodeReplay(capacity=3, seed=0)
    assert len(replay) == 0
    replay.add(episode(n) for n in range(2))
    assert held(replay) == [0, 1]
    replay.add([episode(2), episode(3)])
    assert held(replay) == [1, 2, 3]
    replay.add([episode(4)])
    assert held(replay) == [2, 3, 4]
    replay.add(episode(n) for n in range(5, 12))
    assert held(replay) == [9, 10, 11]
    assert len(replay) == 3


def test_number_of_steps():
    replay = EpisodeReplay(capacity=2, seed=0)
    replay.add([episode(0, 3), episode(1, 5)])
    assert replay.num_steps == 8
    replay.add([episode(2, 1)])
    assert replay.num_steps == 6


def test_draws_are_without_replacement_and_uniform():
    replay = EpisodeReplay(capacity=10, seed=1)
    replay.add(episode(n) for n in range(10))
    counts = np.zeros(10)
    for _ in range(2000):
        drawn = numbers(replay.sample(4))
        assert len(set(drawn)) == 4
        counts[drawn] += 1
    # 0.4 each; one standard deviation of 2000 draws is 0.011.
    np.testing.assert_allclose(counts / 2000, 0.4, atol=0.05)


def test_more_than_there_are_cannot_be_drawn():
    replay = EpisodeReplay(capacity=10, seed=1)
    replay.add([episode(0)])
    with pytest.raises(ValueError):
        replay.sample(2)


def test_draws_follow_from_the_seed():
    def draws(seed):
        replay = EpisodeReplay(capacity=20, seed=seed)
        replay.add(episode(n) for n in range(20))
        return [numbers(replay.sample(5)) for _ in range(4)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)
    assert len({tuple(d) for d in draws(7)}) == 4


@pytest.mark.parametrize("added", [0, 3, 5, 12])
def test_round_trip(added):
    replay = EpisodeReplay(capacity=5, seed=3)
    replay.add(episode(n, 1 + n % 4, terminated=n % 2 == 0) for n in range(added))
    if added:
        replay.sample(2)
    arrays = {key: value.copy() for key, value in replay.state_arrays().items()}
    assert all(array.dtype != object for array in arrays.values())
    restored = EpisodeReplay(capacity=5, seed=3)
    restored.load_arrays(arrays)
    assert len(restored) == len(replay) == min(added, 5)
    assert restored.num_steps == replay.num_steps
    # From here on both draw and drop the same episodes.
    for buffer in (replay, restored):
        buffer.add([episode(100), episode(101, terminated=False)])
    for _ in range(3):
        for mine, other in zip(replay.sample(2), restored.sample(2), strict=True):
            assert mine.terminated is other.terminated
            for name in (*ROWS, *STEPS):
                left, right = getattr(mine, name), getattr(other, name)
                assert left.dtype == right.dtype
                np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(("capacity", "kept"), [(2, [3, 4]), (5, [2, 3, 4])])
def test_another_capacity_keeps_the_newest(capacity, kept):
    # After adding 0 to 4, a ring of 3 holds 3, 4, 2; the oldest is 2.
    full = EpisodeReplay(3, seed=0)
    full.add(episode(n) for n in range(5))
    other = EpisodeReplay(capacity, seed=0)
    other.load_arrays(full.state_arrays())
    assert held(other) == kept
    other.add([episode(5)])
    assert held(other) == [*kept, 5][-capacity:]


def test_collate():
    long, short = episode(1, 3), episode(2, 1, terminated=False)
    batch = collate([long, short])
    shapes = {key: batch[key].shape for key in batch}
    assert shapes == {
        "obs": (2, 4, 2, 4),
        "state": (2, 4, 3),
        "action_mask": (2, 4, 2, 3),
        "actions": (2, 3, 2),
        "rewards": (2, 3),
        "terminateds": (2, 3),
        "mask": (2, 3),
        "previous": (2, 2),
        "first": (2,),
    }
    # A true end is marked at the last step, a time limit is not marked.
    assert batch["terminateds"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch["mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    # Whole episodes: nothing came before them.
    assert batch["previous"].tolist() == [[-1, -1], [-1, -1]]
    assert batch["first"].tolist() == [0, 0]
    for name in ("obs", "state", "action_mask"):
        np.testing.assert_array_equal(batch[name][0], getattr(long, name))
        np.testing.assert_array_equal(batch[name][1, :2], getattr(short, name))
    for name in ("actions", "rewards"):
        np.testing.assert_array_equal(batch[name][0], getattr(long, name))
        np.testing.assert_array_equal(batch[name][1, :1], getattr(short, name))
    # Padding: zero, but every action is legal.
    assert not batch["obs"][1, 2:].any()
    assert not batch["state"][1, 2:].any()
    assert not batch["actions"][1, 1:].any()
    assert not batch["rewards"][1, 1:].any()
    assert batch["action_mask"][1, 2:].all()
    # RLlib must not pad or cut it again.
    assert batch.zero_padded


def test_collate_crops_to_the_longest():
    assert collate([episode(0, 1), episode(1, 2)])["obs"].shape[1] == 3


# An episode of five steps. Burn-in starts at the first step at the earliest. A true end
# is marked only if the sequence contains it. A negative place shortens the sequence.
@pytest.mark.parametrize(
    ("first", "length", "burn_in", "steps", "burned", "terminated"),
    [
        (3, 1, 2, (1, 4), 2, False),
        (1, 2, 7, (0, 3), 1, False),
        (4, 1, 2, (2, 5), 2, True),
        (3, 9, 1, (2, 5), 1, True),
        (-2, 3, 4, (0, 1), 0, False),
        (0, 5, 0, (0, 5), 0, True),
    ],
)
def test_a_sequence(first, length, burn_in, steps, burned, terminated):
    whole, other = episode(7, 5), episode(8, 5)
    replay = EpisodeReplay(capacity=2, seed=0)
    replay.add([other, whole])
    alone = replay.sequences(np.array([1]), np.array([first]), length, burn_in)
    start, stop = steps
    for name in ROWS:
        expected = getattr(whole, name)[start : stop + 1]
        np.testing.assert_array_equal(alone[name][0], expected)
    for name in ("actions", "rewards"):
        expected = getattr(whole, name)[start:stop]
        np.testing.assert_array_equal(alone[name][0], expected)
    real = [0.0] * burned + [1.0] * (stop - start - burned)
    assert alone["mask"][0].tolist() == real
    assert alone["terminateds"][0].tolist() == [0.0] * (stop - start - 1) + [
        float(terminated)
    ]
    before = whole.actions[start - 1].tolist() if start else [-1, -1]
    assert alone["previous"].tolist() == [before]
    assert alone["first"].tolist() == [start]
    assert {k: v.dtype for k, v in alone.items() if k != "variants"} == {
        k: v.dtype for k, v in collate([whole]).items()
    }
    assert alone.zero_padded


def slow_sequences(episodes, firsts, length, burn_in, padded):
    """A second implementation of `EpisodeReplay.sequences`, one episode at a time."""
    parts = []
    for whole, first in zip(episodes, firsts, strict=True):
        begin, stop = max(first, 0), min(first + length, len(whole))
        start = begin - burn_in if padded else max(begin - burn_in, 0)
        real = max(start, 0)
        cut = {name: getattr(whole, name)[real : stop + 1] for name in ROWS}
        cut |= {name: getattr(whole, name)[real:stop] for name in STEPS}
        for name in cut if start < 0 else ():
            shape = (-start, *cut[name].shape[1:])
            blank = np.full(shape, name == "action_mask", cut[name].dtype)
            cut[name] = np.concatenate([blank, cut[name]])
        ended = whole.terminated and stop == len(whole)
        parts.append((Episode(terminated=ended, **cut), begin - start, start))
    batch = collate([part for part, _, _ in parts])
    for b, (_, burned, start) in enumerate(parts):
        batch["mask"][b, :burned] = 0.0
        batch["first"][b] = start
        if padded:
            batch["previous"][b] = 0
        if start > 0:
            batch["previous"][b] = episodes[b].actions[start - 1]
    return batch


@settings(derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    capacity=st.integers(1, 6),
    length=st.integers(1, 10),
    burn_in=st.integers(0, 4),
    segment_bytes=st.sampled_from([1, 600, 2000, 2**24]),
    seed=st.integers(0, 99),
    padded=st.booleans(),
)
def test_sequences_are_those_of_the_episodes(
    lengths, capacity, length, burn_in, segment_bytes, seed, padded
):
    rng = np.random.default_rng(seed)
    replay = EpisodeReplay(capacity, seed=0, segment_bytes=segment_bytes)
    added = [
        episode(n, steps, terminated=n % 2 == 0) for n, steps in enumerate(lengths)
    ]
    replay.add(added)
    kept = {n: e for n, e in enumerate(added) if n >= len(added) - capacity}
    # Whole episodes come back unchanged from every place.
    for mine in replay.newest(len(replay)):
        other = kept[numbers([mine])[0]]
        for name in (*ROWS, *STEPS):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
    places = [kept[int(replay._episode(i).obs[0, 0, 0])] for i in range(len(replay))]
    chosen = rng.integers(len(places), size=7)
    firsts = np.array(
        [rng.integers(1 - length, len(places[i])) for i in chosen.tolist()]
    )
    batch = replay.sequences(chosen, firsts, length, burn_in, padded=padded)
    expected = slow_sequences(
        [places[i] for i in chosen.tolist()], firsts.tolist(), length, burn_in, padded
    )
    for name in expected:
        np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)


def test_memory_of_episodes_that_left_is_given_back():
    replay = EpisodeReplay(capacity=2, seed=0, segment_bytes=1)  # one episode in each
    replay.add([episode(0), episode(1)])
    segment = weakref.ref(replay._held[0][0])
    kept = replay.newest(2)[0]
    replay.add([episode(2)])
    gc.collect()
    assert segment() is None
    # An episode that was taken from the replay does not change.
    np.testing.assert_array_equal(kept.obs, episode(0).obs)


class EveryPlace:
    """Draws every place once."""

    def integers(self, high, size):
        assert size == high
        return np.arange(high)


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_sequences_reach_every_step_equally_often(monkeypatch, length):
    replay = EpisodeReplay(capacity=3, seed=0)
    replay.add([episode(0, 1), episode(1, 5), episode(2, 3)])
    places = 9 + 3 * (length - 1)
    monkeypatch.setattr(np.random, "default_rng", lambda _: EveryPlace())
    counts = {number: np.zeros(16) for number in range(3)}
    batch = replay.sample_sequences(places, length, burn_in=2)
    for b in range(places):
        number = int(batch["obs"][b, 0, 0, 0])
        times = batch["first"][b] + np.flatnonzero(batch["mask"][b])
        counts[number][times] += 1
    for number, steps in ((0, 1), (1, 5), (2, 3)):
        assert counts[number].tolist() == [length] * steps + [0] * (16 - steps)


def test_draws_of_sequences_depend_on_seed_and_count_alone():
    def drawn(replay):
        batch = replay.sample_sequences(20, 2, 1)
        return [batch[name].tolist() for name in ("obs", "first", "mask", "actions")]

    replay = EpisodeReplay(capacity=5, seed=4)
    replay.add(episode(n, n + 1) for n in range(5))
    drawn(replay)
    restored = EpisodeReplay(capacity=5, seed=4)
    restored.load_arrays(replay.state_arrays())
    first = drawn(replay)
    assert first == drawn(restored)
    assert first != drawn(replay)


def test_return_of_an_episode():
    # In float32 the ones would vanish beside 2^24.
    rewards = np.array([2.0**24, 1.0, 1.0], np.float32)
    long = episode(0, 3)
    long.rewards = rewards
    assert len(long) == 3
    assert long.episode_return == 2.0**24 + 2


def seen_episode(number, length):
    """An episode of two agents with eleven actions and normal observations."""
    rng = np.random.default_rng(number)
    one = episode(number, length)
    one.obs = rng.normal(size=(length + 1, 2, 4)).astype(np.float32)
    one.action_mask = rng.integers(0, 2, (length + 1, 2, 11)).astype(np.uint8)
    return one


def assert_near_sequences(compact, exact):
    """Asserts that both draw the same sequences, up to the rounding to 16 bits."""
    ours, theirs = (r.sample_sequences(60, 3, 2) for r in (compact, exact))
    assert ours.keys() == theirs.keys()
    for name, kept in ours.items():
        assert kept.dtype == theirs[name].dtype
        np.testing.assert_allclose(kept, theirs[name], rtol=2**-11, atol=1e-7)


def test_a_compact_replay_draws_the_same_but_for_three_digits():
    exact, compact = (EpisodeReplay(6, seed=3, compact=c) for c in (False, True))
    for replay in (exact, compact):
        replay.add(seen_episode(n, 3 + n) for n in range(8))  # the ring wraps
    for ours, theirs in zip(compact.sample(6), exact.sample(6), strict=True):
        for name in STEPS:
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        np.testing.assert_array_equal(ours.action_mask, theirs.action_mask)
        assert ours.obs.dtype == ours.state.dtype == np.float32
        assert ours.action_mask.dtype == np.uint8
        np.testing.assert_allclose(ours.obs, theirs.obs, rtol=2**-11, atol=1e-7)
        np.testing.assert_allclose(ours.state, theirs.state, rtol=2**-11, atol=1e-7)
        assert (ours.obs != theirs.obs).any()
    assert_near_sequences(compact, exact)


def test_a_compact_replay_comes_back_from_a_checkpoint_as_it_was():
    replay, other = (EpisodeReplay(6, seed=3, compact=True) for _ in range(2))
    replay.add(seen_episode(n, 3 + n) for n in range(8))
    other.load_arrays(replay.state_arrays())
    for ours, theirs in zip(other.sample(6), replay.sample(6), strict=True):
        for name in ROWS + STEPS:
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", ["obs", "state"])
def test_what_16_bits_cannot_hold_is_refused(name):
    one = seen_episode(0, 3)
    getattr(one, name)[1] = 70_000.0
    EpisodeReplay(6, seed=3).add([one])
    with pytest.raises(ConfigError, match=f"compact_replay: {name} holds a number"):
        EpisodeReplay(6, seed=3, compact=True).add([one])


def test_bytes_of_the_largest_map_of_the_paper():
    """`corridor`: 6 agents, observations 156, state 282, 30 actions; 14.4 GB there."""
    one = Episode(
        obs=np.zeros((401, 6, 156), np.float32),
        state=np.zeros((401, 282), np.float32),
        action_mask=np.ones((401, 6, 30), np.uint8),
        actions=np.zeros((400, 6), np.int16),
        rewards=np.zeros(400, np.float32),
        terminated=False,
        risk_levels=np.ones((400, 6), np.float32),
    )
    # 4 (936 + 282) of observations and state, 180 of the mask, actions, reward, levels
    assert bytes_per_row(one) == 4872 + 180 + 12 + 4 + 24
    # 2 (936 + 282), 6 times four bytes of mask bits, and the rest unchanged
    assert bytes_per_row(one, compact=True) == 2436 + 24 + 12 + 4 + 24
    # SMAC's flags: in an observation 4 moves, 24 enemies in reach and 5 allies in sight
    # (33 bits, 5 bytes); in the state 6 * 30 last actions (180 bits, 23 bytes)
    one.obs[..., 33:] = 0.5
    one.state[..., 180:] = 0.5
    flags = flags_of(one)
    assert flags["obs"].sum() == 33 and flags["state"].sum() == 180
    compact = bytes_per_row(one, compact=True, flags=flags)
    assert compact == 6 * (2 * 123 + 5) + (2 * 102 + 23) + 24 + 12 + 4 + 24
    assert 5000 * 401 * compact < 14.4e9 / 3


def test_a_number_is_kept_in_one_bit_until_it_is_more_than_a_flag():
    rng = np.random.default_rng(4)

    def flagged(steps, ragged=()):
        one = seen_episode(0, steps)
        for array in (one.obs, one.state):
            array[..., 1:] = rng.integers(0, 2, array[..., 1:].shape)
            for column in ragged:
                array[..., column] = rng.random(array.shape[:-1])
        return one

    episodes = [flagged(3), flagged(4), flagged(2, [2]), flagged(5), flagged(3, [1, 2])]
    exact, compact = (EpisodeReplay(9, seed=3, compact=c) for c in (False, True))
    for number, one in enumerate(episodes):
        exact.add([one])
        compact.add([one])
        # A new segment begins only where a column stops being a flag.
        segments = {id(segment) for segment, _ in compact._held}
        assert len(segments) == (1, 1, 2, 2, 3)[number]
        for ours, theirs in zip(
            compact.newest(number + 1), exact.newest(number + 1), strict=True
        ):
            for name in ("obs", "state"):
                kept, given = getattr(ours, name), getattr(theirs, name)
                np.testing.assert_allclose(kept, given, rtol=2**-11, atol=1e-7)
                is_flag = (given == 0) | (given == 1)
                np.testing.assert_array_equal(kept[is_flag], given[is_flag])
            np.testing.assert_array_equal(ours.action_mask, theirs.action_mask)
    # Sequences from all segments in one batch.
    assert_near_sequences(compact, exact)
