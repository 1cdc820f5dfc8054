"""Windows: the steps that the value, the next value and acting use."""

import dataclasses

import numpy as np
import pytest
import torch
from loss_cases import as_tensors, learning_parts, random_episode, random_networks

from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.parts.acting import make_actor
from rllib_risk.parts.batch import learned_steps
from rllib_risk.parts.encoding import encode

WINDOW, STEPS = 4, 7

PADDINGS = pytest.mark.parametrize("padded", [False, True])


def networks_and_episode(*, terminated=True, **keys):
    keys = {"recurrent": True, "rnn_cell": "lstm", "mixer": "vdn"} | keys
    episode = random_episode(np.random.default_rng(3), STEPS, terminated=terminated)
    return random_networks(**keys), episode


def rows_of(episode, length, burn_in, firsts, *, padded):
    """Sequences of one episode as a batch."""
    replay = EpisodeReplay(1, seed=0)
    replay.add([episode])
    chosen = np.zeros(len(firsts), np.int64)
    samples = replay.sequences(chosen, np.array(firsts), length, burn_in, padded=padded)
    steps = learned_steps(np.asarray(samples["mask"]))
    learned = None if steps is None else torch.from_numpy(steps)
    return dataclasses.replace(as_tensors(samples), learned=learned)


def acting_utilities(network, episode, *, padded):
    """Utilities of all actions at every step of the episode, [T + 1, N, A]."""
    actor = make_actor(network, 1, WINDOW, padded=padded)
    seen = []
    for step in range(STEPS + 1):
        obs, mask = episode.obs[step][None], episode.action_mask[step][None]
        seen.append(actor.act(obs, mask)[0][0])
        if step < STEPS:
            actor.remember(episode.actions[step][None].astype(np.int64))
    return torch.from_numpy(np.stack(seen))


def assert_legal_equal(utilities, expected):
    legal = torch.isfinite(expected)
    torch.testing.assert_close(utilities[legal], expected[legal])


@PADDINGS
@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_next_value_uses_the_acting_window(padded, double_q, cell):
    """At every step of an episode, including the first and the last ones."""
    (online, target), episode = networks_and_episode(rnn_cell=cell)
    batch = rows_of(episode, 1, WINDOW - 1, range(STEPS), padded=padded)
    encoded = encode(online, target, batch, double_q=double_q, window=WINDOW)
    part = batch.without_burn_in()
    acts, acts_later = (
        acting_utilities(network, episode, padded=padded)
        for network in (online, target)
    )
    now, later = part.action_mask[:, :1], part.action_mask[:, 1:]
    assert_legal_equal(online.utilities(encoded.online, now)[:, 0], acts[:-1])
    assert_legal_equal(target.utilities(encoded.following, later)[:, 0], acts_later[1:])
    assert_legal_equal(target.utilities(encoded.target, now)[:, 0], acts_later[:-1])
    chooses = acts if double_q else acts_later
    assert encoded.greedy_following[:, 0].tolist() == chooses[1:].argmax(-1).tolist()
    assert encoded.greedy[:, 0].tolist() == chooses[:-1].argmax(-1).tolist()
    # A hidden state that is carried on has one step more, once the window is full.
    carried = encode(online, target, batch, double_q=double_q)
    differs = (
        (carried.following.features - encoded.following.features)
        .abs()
        .amax(dim=(1, 2, 3))
    )
    full = torch.ones(STEPS) if padded else torch.arange(STEPS) >= WINDOW - 1
    assert ((differs > 1e-4) == full.bool()).all()


def test_a_target_by_hand():
    """Three agents, VDN: r + gamma times the sum of their best next values."""
    (online, target), episode = networks_and_episode(terminated=False)
    batch = rows_of(episode, 1, WINDOW - 1, range(STEPS), padded=True)
    encoded = encode(online, target, batch, double_q=False, window=WINDOW)
    found = (
        learning_parts()
        .view((online, target), encoded, batch.without_burn_in())
        .targets
    )
    best = acting_utilities(target, episode, padded=True)[1:].amax(-1).sum(-1)
    expected = torch.from_numpy(episode.rewards) + 0.9 * best
    torch.testing.assert_close(found.flatten(), expected)


def test_longer_sequences_begin_one_step_later_as_a_whole():
    """Two burn-in and three learned steps. A row that begins at 0 does not move."""
    (online, target), episode = networks_and_episode()
    firsts = [3, 2, 1]
    batch = rows_of(episode, 3, 2, firsts, padded=False)
    encoded = encode(online, target, batch, double_q=False, window=3)
    obs = torch.from_numpy(episode.obs)[None]
    actions = torch.from_numpy(episode.actions.astype(np.int64))[None]
    for row, first in enumerate(firsts):
        start = first - 2 + 1 if first >= 2 else 0
        before = actions[:, start - 1] if start else None
        inputs = target.inputs(obs[:, start:], actions[:, start:], before)
        expected = target.unroll(inputs).features[0, first + 1 - start :][:3]
        torch.testing.assert_close(encoded.following.features[row], expected)


def test_padding_by_hand():
    """Padding has zero observations and action 0, also as the last action before it."""
    _, episode = networks_and_episode()
    batch = rows_of(episode, 1, 3, [0, 1, 4], padded=True)
    assert batch.first.tolist() == [-3, -2, 1]
    taken = episode.actions.astype(np.int64)
    assert batch.previous.tolist() == [[0] * 3, [0] * 3, taken[0].tolist()]
    none = np.zeros((2, 3), np.int64)
    expected = [[*none, none[0], taken[0]], [*none, *taken[:2]], [*taken[1:5]]]
    assert batch.actions.tolist() == np.array(expected).tolist()
    blank = np.zeros((3, 3, 5))
    for row, (pad, start, stop) in enumerate([(3, 0, 2), (2, 0, 3), (0, 1, 6)]):
        obs = np.concatenate([blank[:pad], episode.obs[start:stop]])
        np.testing.assert_array_equal(batch.obs[row], obs)
        assert batch.action_mask[row, :pad].all()
        assert not batch.state[row, :pad].any()
    assert batch.mask[..., 0].tolist() == [[0, 0, 0, 1]] * 3
    assert batch.terminateds.sum() == 0
    assert batch.learned.tolist() == [[3, 4]] * 3
