"""TD and quantile losses: alignment in time, padding, masks and gradients."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from loss_cases import (
    ACTIONS,
    COMPOSITIONS,
    GAMMA,
    REWARDS,
    as_tensors,
    composition,
    learning_parts,
    plain_batch,
    plain_networks,
    random_batch,
    random_episode,
    random_networks,
    set_linear_mixer,
    table_batch,
    tabular_network,
    view_of,
    without_dual,
)

from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.dual import DualNetwork
from rllib_risk.networks.quantile_head import QuantileHead
from rllib_risk.parts.batch import learned_steps
from rllib_risk.parts.critics import QtranCritic, WqmixCritic
from rllib_risk.parts.encoding import encode
from rllib_risk.parts.losses.td import TDLoss
from rllib_risk.parts.mixers import DuplexMixer
from rllib_risk.parts.unroll import Unroll


def targets_and_loss(networks, batch, *, double_q=True, **keys):
    parts = learning_parts(**{"gamma": GAMMA} | keys)
    encoded = encode(*networks, batch, double_q=double_q)
    view = parts.view(networks, encoded, batch)
    loss = parts.learning.loss.loss(view)
    # Without a joint critic this is the whole loss.
    whole, logged = parts.loss(networks, encoded, batch)
    assert whole.item() == loss.item() == logged["td_loss"].item()
    return view.targets[0].tolist(), loss.item(), logged


# gamma 0.5, double Q. Utilities of the actions taken: (1, 0), (4, 1), (1, 2).
# iql: y = 1 + (6, 4) / 2, 2 + (1, 7) / 2, 3 + (4, 3) / 2 or 3;
#   squares 9 + 9 + 2.25 + 20.25 + 16 + 6.25 over 6; at the end 4 + 1 if terminated.
# vdn: y = 1 + 10 / 2, 2 + 8 / 2, 3 + 7 / 2 or 3, against 1, 5 and 3;
#   squares 25 + 1 + 12.25 over 3; at the end 0 if terminated.
# qmix, 2 q_0 + 3 q_1 + s online and 2 q_0 + 3 q_1 + 2 s in the target network:
#   next values 12 + 12 + 2 = 26, 2 + 21 + 4 = 27, 8 + 9 + 6 = 23, so
#   y = 14, 15.5, 14.5 or 3, against 2 + 0 + 0 = 2, 8 + 3 + 1 = 12, 2 + 6 + 2 = 10;
#   squares 144 + 12.25 + 20.25 over 3; at the end 49 if terminated.
# qplex, the same plus (lambda_i - 1) w_i (q_i - max_a q_i), where lambda_i is 2 if the
#   other agent takes action 1. Next, at (1, 1), (0, 1), (0, 1): the target's advantages
#   are (0, -4), (-2, 0), (-5, 0), both count at first and then agent 0's:
#   26 - 3 * 4 = 14, 27 - 2 * 2 = 23, 23 - 2 * 5 = 13, so y = 8, 13.5, 9.5 or 3.
#   Taken (0, 1), (1, 0), (1, 1): advantages (0, -2), (0, -2), (-1, 0); what counts is
#   agent 0's, agent 1's, both: 2, 12 - 3 * 2 = 6, 10 - 2 * 1 = 8;
#   squares 36 + 56.25 + 2.25 over 3; at the end 25 if terminated.
PLAIN = {
    "none": ([[4, 3], [2.5, 5.5], [5, 4.5]], 62.75 / 6, [3, 3], 45.5 / 6),
    "vdn": ([[6], [6], [6.5]], 38.25 / 3, [3], 26 / 3),
    "qmix": ([[14], [15.5], [14.5]], 176.5 / 3, [3], 205.25 / 3),
    "qplex": ([[8], [13.5], [9.5]], 94.5 / 3, [3], 117.25 / 3),
}
OF_MIXER = {"none": "IndependentQ", "vdn": "VDN", "qmix": "QMIX", "qplex": "QPLEX"}


@pytest.mark.parametrize("mixer", PLAIN)
def test_targets_line_up_in_time(mixer):
    truncated, truncated_loss, end, terminated_loss = PLAIN[mixer]
    keys = composition(OF_MIXER[mixer])
    assert keys == {"mixer": mixer}
    networks = plain_networks(**keys)
    targets, loss, _ = targets_and_loss(networks, plain_batch(False))
    assert targets == truncated
    assert loss == pytest.approx(truncated_loss, rel=1e-6)
    targets, loss, _ = targets_and_loss(networks, plain_batch(True))
    assert targets == [*truncated[:2], end]
    assert loss == pytest.approx(terminated_loss, rel=1e-6)


# The target network's own maxima: 1 + (6, 8) / 2, 2 + (3, 7) / 2, 3 + (9, 3) / 2.
# qmix: 12 + 24 + 2 = 38, 6 + 21 + 4 = 31, 18 + 9 + 6 = 33. qplex: at its own maxima all
# advantages are zero, and it is the same.
@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        ("none", [[4, 5], [3.5, 5.5], [7.5, 4.5]]),
        ("vdn", [[8], [7], [9]]),
        ("qmix", [[20], [17.5], [19.5]]),
        ("qplex", [[20], [17.5], [19.5]]),
    ],
)
def test_without_double_q(mixer, expected):
    networks = plain_networks(mixer=mixer)
    got = targets_and_loss(networks, plain_batch(False), double_q=False)[0]
    assert got == expected


# vdn, truncated, next values 10, 8, 7, lambda 0.8: 6.5;
#   2 + (0.2 * 8 + 0.8 * 6.5) / 2 = 5.4; 1 + (0.2 * 10 + 0.8 * 5.4) / 2 = 4.16.
#   Watkins: (1, 0) at step 1 and (1, 1) at step 2 are not the greedy (1, 1) and (0, 1),
#   so nothing is traced: the one-step targets.
# iql, Watkins, each agent by itself: agent 0 was greedy at step 1 and not at step 2:
#   5; 2 + 1 / 2; 1 + (1.2 + 0.8 * 2.5) / 2 = 2.6. Agent 1 the other way round: 4.5;
#   2 + (1.4 + 0.8 * 4.5) / 2 = 4.5; 1 + 4 / 2.
@pytest.mark.parametrize(
    ("mixer", "watkins", "expected"),
    [
        ("vdn", False, [[4.16], [5.4], [6.5]]),
        ("vdn", True, [[6], [6], [6.5]]),
        ("none", True, [[2.6, 3], [2.5, 4.5], [5, 4.5]]),
    ],
)
def test_lambda_targets(mixer, watkins, expected):
    cut = "watkins" if watkins else "none"
    networks, batch = plain_networks(mixer=mixer), plain_batch(False)
    got = targets_and_loss(networks, batch, td_lambda=0.8, td_lambda_cut=cut)[0]
    torch.testing.assert_close(torch.tensor(got), torch.tensor(expected).float())


def test_reward_scale():
    # 2 * 1 + 10 / 2, 2 * 2 + 8 / 2, 2 * 3 + 7 / 2.
    networks = plain_networks(mixer="vdn")
    got = targets_and_loss(networks, plain_batch(False), reward_scale=2.0)[0]
    assert got == [[7], [8], [9.5]]


def test_a_short_truncated_episode_bootstraps_from_its_own_last_row():
    # A batch of the whole episode and of its first two steps, truncated.
    networks = plain_networks(mixer="vdn")
    batch = plain_batch(False)
    short = {
        name: tensor.clone()
        for name, tensor in vars(batch).items()
        if tensor is not None
    }
    short["mask"][0, 2] = 0
    both = type(batch)(
        **{k: torch.cat([getattr(batch, k), v]) for k, v in short.items()}
    )
    for td_lambda in (0.0, 0.8):
        keys = {"gamma": GAMMA, "td_lambda": td_lambda}
        targets = view_of(networks, both, **keys).targets
        # Its last step is step 1: 2 + 8 / 2 for every lambda.
        assert targets[1, 1, 0].item() == 6.0
        alone = view_of(networks, batch, **keys).targets
        assert torch.equal(targets[:1], alone)


# Return atoms: the means of the lower two and of the upper two of four atoms. CVaR is
# the first number at level 1/2 and the mean of both at level 1.
ONLINE_ATOMS = [
    [[(1, 5), (0, 8)], [(2, 4), (1, 7)]],
    [[(0, 12), (4, 6)], [(1, 11), (3, 5)]],
    [[(2, 4), (1, 9)], [(0, 6), (2, 12)]],
    [[(5, 7), (3, 13)], [(0, 20), (1, 3)]],
]
TARGET_ATOMS = [
    [[(0, 2), (0, 2)], [(0, 2), (0, 2)]],
    [[(0, 2), (6, 10)], [(4, 8), (9, 11)]],
    [[(0, 2), (3, 9)], [(0, 2), (7, 9)]],
    [[(4, 10), (0, 2)], [(2, 8), (0, 2)]],
]
HALF, ONE = 0, 1
# The level that each cell's history selects. It applies one step later, and at step 0.
ONLINE_DIALS = [[HALF, ONE], [ONE, HALF], [HALF, ONE], [HALF, HALF]]
TARGET_DIALS = [[ONE, HALF], [HALF, HALF], [ONE, ONE], [HALF, HALF]]


def four_atoms(low, high):
    return [high + 1, low - 1, high - 1, low + 1]


def risk_network(pairs, dials, mixer, state_weight):
    """A network whose third action is never legal; its atoms select the level."""
    table = torch.zeros(4, 2, 3, 4)
    for t, i in itertools.product(range(4), range(2)):
        for a in range(2):
            table[t, i, a] = torch.tensor(four_atoms(*pairs[t][i][a]))
        table[t, i, 2, dials[t][i]] = 1.0
    keys = composition({"vdn": "RDN", "qmix": "RMIX"}[mixer])
    assert keys["mixer"] == mixer
    network = tabular_network(table, **keys, risk_levels=2, risk_embed_dim=1)
    predictor = network.agents[0].predictor
    with torch.no_grad():
        # Current side: the sum of the third action's atoms, which is 1. History side:
        # level k reads its atom k.
        predictor.embed_current.weight.zero_()
        predictor.embed_current.weight[0, 8:] = 1.0
        predictor.embed_history.weight.zero_()
        predictor.embed_history.weight[0, 8] = 1.0
        predictor.embed_history.weight[1, 9] = 1.0
    if mixer == "qmix":
        set_linear_mixer(network.mixer, [2.0, 3.0], state_weight)
    return network


def risk_networks(mixer):
    return [
        risk_network(ONLINE_ATOMS, ONLINE_DIALS, mixer, 1.0),
        risk_network(TARGET_ATOMS, TARGET_DIALS, mixer, 2.0),
    ]


def risk_batch(terminated):
    batch = table_batch(
        torch.zeros(4, 2, 3, 4), ACTIONS, REWARDS, terminated=terminated
    )
    batch.action_mask[..., 2] = 0
    return batch


# Online levels (1/2, 1), (1/2, 1), (1, 1/2), (1/2, 1).
#   Utilities: step 1: [0, 4] and [6, 4], greedy (1, 0); step 2: [3, 5] and [0, 2],
#   greedy (1, 1); step 3: [5, 3] and [10, 2], greedy (0, 0).
#   Of the actions taken: (1, 4), (4, 6), (5, 2).
# Target levels at steps 1 to 3: (1, 1/2), (1/2, 1/2), (1, 1).
#   Utilities at online's greedy actions: (8, 4), (3, 7), (7, 5).
# rdn: y = 1 + 12 / 2, 2 + 10 / 2, 3 + 12 / 2 or 3, against 5, 10 and 7;
#   squares 4 + 9 + 4 over 3; at the end 16 if terminated.
# rmix: next values 16 + 12 + 2 = 30, 6 + 21 + 4 = 31, 14 + 15 + 6 = 35, so
#   y = 16, 17.5, 20.5 or 3, against 2 + 12 + 0 = 14, 8 + 18 + 1 = 27, 10 + 6 + 2 = 18;
#   squares 4 + 90.25 + 6.25 over 3; at the end 225 if terminated.
RISKY = {
    "vdn": ([[7], [7], [9]], 17 / 3, 29 / 3),
    "qmix": ([[16], [17.5], [20.5]], 100.5 / 3, 319.25 / 3),
}


@pytest.mark.parametrize("mixer", RISKY)
def test_risk_sensitive_targets_line_up_in_time(mixer):
    truncated, truncated_loss, terminated_loss = RISKY[mixer]
    networks = risk_networks(mixer)
    targets, loss, stats = targets_and_loss(networks, risk_batch(False))
    assert targets == truncated
    assert loss == pytest.approx(truncated_loss, rel=1e-6)
    # Levels at which the actions were taken: 1/2, 1, 1/2, 1, 1, 1/2.
    assert stats["risk_level_mean"].item() == 0.75
    targets, loss, _ = targets_and_loss(networks, risk_batch(True))
    assert targets == [*truncated[:2], [3]]
    assert loss == pytest.approx(terminated_loss, rel=1e-6)


def test_what_is_logged():
    # rdn, truncated: values 5, 10, 7; targets 7, 7, 9.
    _, _, stats = targets_and_loss(risk_networks("vdn"), risk_batch(False))
    assert stats["q_taken_mean"].item() == pytest.approx(22 / 3)
    assert stats["target_mean"].item() == pytest.approx(23 / 3)
    assert stats["td_error_abs"].item() == pytest.approx(7 / 3)
    # Without a predictor no level is logged.
    _, _, stats = targets_and_loss(plain_networks(mixer="vdn"), plain_batch(False))
    assert "risk_level_mean" not in stats


# T = c + atoms^- / 2 with c = (1, 4), (4, 6), (5, 2) and the target's atoms of online's
# greedy actions, whose lower and upper means are (6, 10) and (4, 8); (3, 9) and (7, 9);
# (4, 10) and (2, 8).
QUANTILE_TARGETS = [
    [[6.5, 3.5, 5.5, 4.5], [8.5, 5.5, 7.5, 6.5]],
    [[9, 5, 8, 6], [11, 9, 10, 10]],
    [[10.5, 6.5, 9.5, 7.5], [6.5, 2.5, 5.5, 3.5]],
]


def quantile_pass(networks, batch, **keys):
    parts = learning_parts(**{"gamma": GAMMA} | keys)
    encoded = encode(*networks, batch, double_q=True)
    view = parts.view(networks, encoded, batch)
    targets = parts.regression.targets(view)
    return encoded, targets, parts.regression.loss(view, targets)


def test_quantile_targets():
    networks = risk_networks("vdn")
    _, targets, _ = quantile_pass(networks, risk_batch(False))
    assert targets[0].tolist() == QUANTILE_TARGETS
    assert not targets.requires_grad
    # A true end: only the dummy reward.
    _, targets, _ = quantile_pass(networks, risk_batch(True))
    assert targets[0].tolist() == [*QUANTILE_TARGETS[:2], [[5.0] * 4, [2.0] * 4]]


def test_implied_reward_agrees_with_the_utility():
    # At the target's level the CVaR of T is c: the mean of T at level 1, of its two
    # lowest atoms at level 1/2. The levels are (1, 1/2), (1/2, 1/2), (1, 1).
    networks = risk_networks("vdn")
    _, targets, _ = quantile_pass(
        networks, risk_batch(False), qr_target="implied_reward"
    )
    ascending = targets[0].sort(dim=-1).values
    half, one = ascending[..., :2].mean(dim=-1), ascending.mean(dim=-1)
    assert [one[0, 0], half[0, 1]] == [1, 4]
    assert [half[1, 0], half[1, 1]] == [4, 6]
    assert [one[2, 0], one[2, 1]] == [5, 2]
    _, targets, _ = quantile_pass(
        networks, risk_batch(True), qr_target="implied_reward"
    )
    assert targets[0, 2].tolist() == [[5.0] * 4, [2.0] * 4]


@pytest.mark.parametrize("form", ["qrdqn", "official"])
@pytest.mark.parametrize("kind", ["midpoint", "right_edge"])
def test_quantile_loss_by_loop(form, kind):
    """Sum over atoms, mean over target atoms, agents and steps; kappa 1."""
    networks = risk_networks("vdn")
    _, _, loss = quantile_pass(
        networks, risk_batch(False), qr_loss=form, qr_fractions=kind
    )
    total = 0.0
    for t, i in itertools.product(range(3), range(2)):
        atoms = four_atoms(*ONLINE_ATOMS[t][i][ACTIONS[t][i]])
        for m, j in itertools.product(range(4), range(4)):
            error = QUANTILE_TARGETS[t][i][j] - atoms[m]
            # official: the fraction of the target's place, and the error's other sign.
            place, below = (m, error < 0) if form == "qrdqn" else (j, error > 0)
            tau = (place + 0.5) / 4 if kind == "midpoint" else (place + 1) / 4
            size = abs(error)
            total += abs(tau - below) * (size**2 / 2 if size <= 1 else size - 0.5) / 4
    assert loss.item() == pytest.approx(total / 6, rel=1e-6)


CASES = pytest.mark.parametrize("keys", COMPOSITIONS.values(), ids=COMPOSITIONS.keys())


def losses(networks, batch, keys, td_lambda=0.0):
    """The loss and, where it applies, the loss of RMIX's quantile regression."""
    cut = "watkins" if td_lambda == 0.5 else "none"
    parts = without_dual(**keys | {"td_lambda": td_lambda, "td_lambda_cut": cut})
    encoded = encode(*networks, batch, double_q=True)
    result = [parts.loss(networks, encoded, batch)[0]]
    if networks[0].num_atoms > 1 and not parts.learning.loss.fits_atoms:
        result.append(quantile_pass(networks, batch)[2])
    return result


def losses_and_gradients(networks, batch, keys, td_lambda=0.0):
    result = []
    for loss in losses(networks, batch, keys, td_lambda):
        grads = torch.autograd.grad(
            loss, list(networks[0].parameters()), allow_unused=True
        )
        zeros = (torch.zeros_like(p) for p in networks[0].parameters())
        flat = [
            (zero if grad is None else grad).flatten()
            for grad, zero in zip(grads, zeros, strict=True)
        ]
        result.append((loss.item(), torch.cat(flat)))
    return result


def assert_same(left, right):
    for (loss, grad), (other_loss, other_grad) in zip(left, right, strict=True):
        assert loss == pytest.approx(other_loss, rel=1e-6, abs=1e-6)
        torch.testing.assert_close(grad, other_grad, rtol=1e-4, atol=1e-5)


def padded(batch, extra_steps, *, extra_episode=False, junk=False):
    """The batch with more padding: as collate writes it, or random numbers."""
    torch.manual_seed(2)
    fields = {}
    for name, old in vars(batch).items():
        if name in ("previous", "first", "learned"):  # not for whole episodes
            continue
        shape = [old.shape[0] + extra_episode, old.shape[1] + extra_steps]
        fill = 1 if name == "action_mask" else 0
        new = torch.full((*shape, *old.shape[2:]), fill, dtype=old.dtype)
        if junk and name == "actions":
            new = torch.randint_like(new, 4)
        elif junk and name in ("obs", "state", "rewards", "terminateds"):
            new = 100 * torch.randn_like(new)
        new[: old.shape[0], : old.shape[1]] = old
        fields[name] = new
    return type(batch)(**fields)


@CASES
@pytest.mark.parametrize("td_lambda", [0.0, 0.5, 0.9])
def test_padding_changes_nothing(keys, td_lambda):
    """R7: with one to ten padded steps and a padded episode."""
    networks = random_networks(**keys)
    batch = random_batch()
    expected = losses_and_gradients(networks, batch, keys, td_lambda)
    for extra_steps, junk in ((1, False), (10, False), (3, True)):
        more = padded(batch, extra_steps, extra_episode=True, junk=junk)
        assert_same(losses_and_gradients(networks, more, keys, td_lambda), expected)


def padding_of(batch):
    """Whether steps, [B, T], and rows of observations, [B, T+1], are padding.

    The row after the last step is real: a truncated target reads it.
    """
    gone = batch.mask[..., 0] == 0
    return gone, torch.cat([torch.zeros_like(gone[:, :1]), gone], dim=1)


@CASES
def test_what_is_masked_out_does_not_matter(keys):
    """R5: no gradient from padded steps."""
    # Other numbers where random_batch's shorter episodes are padded.
    networks = random_networks(**keys)
    batch = random_batch()
    expected = losses_and_gradients(networks, batch, keys, 0.9)
    gone, after = padding_of(batch)
    batch.rewards[gone] = 1e3
    batch.terminateds[gone] = 1.0
    batch.actions[gone] = 2
    batch.obs[after] = 50.0
    batch.state[after] = -50.0
    assert_same(losses_and_gradients(networks, batch, keys, 0.9), expected)


@CASES
@pytest.mark.parametrize("td_lambda", [0.0, 0.9])
def test_padding_need_not_be_finite(keys, td_lambda):
    networks = random_networks(**keys)
    batch = random_batch()
    expected = losses_and_gradients(networks, batch, keys, td_lambda)
    gone, after = padding_of(batch)
    batch.rewards[gone] = torch.nan
    batch.terminateds[gone] = torch.inf
    got = losses_and_gradients(networks, batch, keys, td_lambda)
    assert_same(got, expected)
    # NaN in observations does not change the loss, but gradients are products with it.
    batch.obs[after] = torch.nan
    batch.state[after] = torch.nan
    got = [loss.item() for loss in losses(networks, batch, keys, td_lambda)]
    assert got == pytest.approx([loss for loss, _ in expected], rel=1e-6, abs=1e-6)


def shift_unavailable_action(network, shift):
    """Shifts all outputs of a network for the last of its four actions."""
    num_atoms = network.num_atoms
    with torch.no_grad():
        for agent in network.agents:
            if isinstance(agent.head, QuantileHead):
                agent.head.output.bias[3] += shift
            else:
                agent.head.bias[3 * num_atoms :] += shift
        if isinstance(network.joint_critic, WqmixCritic):
            network.joint_critic.head.bias[3] += shift
        if isinstance(network.joint_critic, QtranCritic):
            network.joint_critic.embed[0].weight[:, -1] += shift
        if isinstance(network.mixer, DuplexMixer):
            # One-hot actions of three agents follow the state's six numbers.
            network.mixer.actions.weights[0][:, [6 + 3, 6 + 7, 6 + 11]] += shift


@CASES
@pytest.mark.parametrize("shift", [1e6, -1e6])
def test_illegal_actions_do_not_matter(keys, shift):
    """R8: shifted by 1e6 up and down, at the next step too."""
    # Action 3 is never legal. A predicted level reads all actions' atoms by design, so
    # its weights for this action are set to 0.
    networks = random_networks(**keys)
    num_atoms = networks[0].num_atoms
    for network in networks:
        predictor = network.agents[0].predictor
        if predictor is not None:
            with torch.no_grad():
                predictor.embed_current.weight[:, 3 * num_atoms :] = 0.0
                predictor.embed_history.weight[:, 3 * num_atoms :] = 0.0
    batch = random_batch()
    real = torch.cat([batch.mask[:, :1], batch.mask], dim=1)[..., 0] > 0  # [B, T+1]
    assert not batch.action_mask[real][..., 3].any()
    expected = [loss.item() for loss in losses(networks, batch, keys)]
    for network in networks:
        shift_unavailable_action(network, shift)
    got = [loss.item() for loss in losses(networks, batch, keys)]
    assert got == pytest.approx(expected, rel=1e-6)
    if shift > 0:  # a legal action matters
        batch.action_mask[:] = 1
        got = [loss.item() for loss in losses(networks, batch, keys)]
        assert got != pytest.approx(expected, rel=1e-2)


@CASES
def test_a_huge_illegal_utility_with_one_legal_action_stays_finite(keys):
    """R8: one legal action."""
    networks = random_networks(**keys)
    batch = random_batch()
    batch.action_mask.zero_()
    batch.action_mask[..., 1] = 1
    batch.actions.fill_(1)
    encoded = encode(*networks, batch, double_q=True)
    assert (encoded.greedy == 1).all()
    for network in networks:
        shift_unavailable_action(network, 1e6)
    for loss, grad in losses_and_gradients(networks, batch, keys, 0.9):
        assert torch.isfinite(torch.tensor(loss))
        assert torch.isfinite(grad).all()


@CASES
def test_the_target_network_gets_no_gradient(keys):
    """R5: no gradient reaches the target network."""
    networks = random_networks(**keys)
    for loss in losses(networks, random_batch(), keys, 0.9):
        loss.backward()
    assert all(p.requires_grad for p in networks[1].parameters())
    assert all(p.grad is None for p in networks[1].parameters())


@CASES
def test_targets_are_constants(keys):
    """R5: targets are constants."""
    # With one network in both roles the gradient must be that of fixed targets.
    network, _ = random_networks(**keys)
    frozen = copy.deepcopy(network)
    assert_same(
        losses_and_gradients((network, network), random_batch(), keys, 0.9),
        losses_and_gradients((network, frozen), random_batch(), keys, 0.9),
    )


@pytest.mark.parametrize("name", ["RMIX", "OWQMIX of atoms", "mixed samples"])
def test_quantile_regression_trains_the_agents_and_nothing_else(name):
    atoms = {"num_atoms": 8, "risk_measure": "cvar", "alpha": 0.5}
    of_atoms = COMPOSITIONS["OWQMIX"] | atoms
    keys = of_atoms if name == "OWQMIX of atoms" else COMPOSITIONS[name]
    networks = random_networks(**keys)
    quantile_pass(networks, random_batch())[2].backward()
    for agent in networks[0].agents:
        for part in (agent.encoder, agent.head):
            assert all(p.grad.any() for p in part.parameters())
    others = [networks[0].agents[0].predictor, networks[0].mixer]
    for part in (*others, networks[0].joint_critic):
        assert part is None or all(p.grad is None for p in part.parameters())


# Without losses whose gradient is, by design, not the derivative of the forward pass:
# straight-through levels, QPLEX's detached advantages, the detached critic in QTRAN's
# constraints, and the likelihood as a weight.
SMOOTH = {
    name: COMPOSITIONS[name]
    for name in ("IndependentQ", "VDN", "QMIX", "OWQMIX", "CWQMIX", "static level")
} | {
    "RMIX frozen": {**COMPOSITIONS["RMIX"], "risk_grad": "frozen"},
    "RDN frozen": {**COMPOSITIONS["RDN"], "risk_grad": "frozen"},
    "hysteresis": COMPOSITIONS["hysteresis"],
    "mixed samples": COMPOSITIONS["mixed samples"],
    "IQN": {**COMPOSITIONS["LHIQN"], "td_weighting": "none"},
    "hysteretic IQN": {**COMPOSITIONS["LHIQN"], "td_weighting": "ow"},
    "MACQR": COMPOSITIONS["MACQR"],
}


@pytest.mark.parametrize("keys", SMOOTH.values(), ids=SMOOTH.keys())
def test_gradients_by_finite_differences(keys):
    """R5: every loss whose gradient is its derivative, in float64."""
    networks = [network.double() for network in random_networks(**keys)]
    batch = random_batch()
    for name in ("obs", "state", "rewards", "terminateds", "mask"):
        setattr(batch, name, getattr(batch, name).double())
    parameters = list(networks[0].parameters())
    parts = without_dual(**keys)
    qr_fixed = parts.regression.targets(view_of(networks, batch))

    def td():
        # The greedy actions in its targets do not change in so small a step.
        encoded = encode(*networks, batch, double_q=True)
        return parts.loss(networks, encoded, batch)[0]

    def qr():
        return parts.regression.loss(view_of(networks, batch), qr_fixed)

    for loss in (td, qr):
        grads = torch.autograd.grad(loss(), parameters, allow_unused=True)
        torch.manual_seed(3)
        for _ in range(5):
            direction = [torch.randn_like(p) for p in parameters]
            slope = sum(
                (g * d).sum()
                for g, d in zip(grads, direction, strict=True)
                if g is not None
            )
            sides = []
            for step in (1e-7, -2e-7):
                with torch.no_grad():
                    torch._foreach_add_(parameters, direction, alpha=step)
                sides.append(loss().item())
            with torch.no_grad():
                torch._foreach_add_(parameters, direction, alpha=1e-7)
            numeric = (sides[0] - sides[1]) / 2e-7
            assert numeric == pytest.approx(slope.item(), rel=1e-4, abs=1e-4)


def joint_tables(network, steps, num_agents, num_actions):
    """C_tot of all joint actions at every step, from the utilities: [steps, J]."""
    cells = steps * num_agents
    features = torch.eye(cells).reshape(1, steps, num_agents, cells)
    legal = torch.ones(1, steps, num_agents, num_actions)
    utilities = network.utilities(Unroll(features), legal)[0]
    joints = itertools.product(range(num_actions), repeat=num_agents)
    values = [sum(utilities[:, i, a] for i, a in enumerate(joint)) for joint in joints]
    return torch.stack(values, dim=-1)


def test_the_backup_is_a_contraction_at_a_fixed_level():
    # |r + g max C1 - r - g max C2| <= g max |C1 - C2|, over joint actions and steps.
    # This holds for a fixed level. A predictor may change the level.
    torch.manual_seed(4)
    shrunk = []
    for _ in range(50):
        tables = 5 * torch.randn(2, 4, 2, 3, 6)
        backups, values = [], []
        for table in tables:
            network = tabular_network(
                table, mixer="vdn", risk_measure="cvar", alpha=0.5
            )
            batch = table_batch(table, ACTIONS, REWARDS, terminated=False)
            view = view_of((network, network), batch, double_q=False)
            backups.append(view.targets)
            values.append(joint_tables(network, 4, 2, 3)[1:])
        distance = (values[0] - values[1]).abs().max()
        after = (backups[0] - backups[1]).abs().max()
        assert after <= 0.9 * distance + 1e-4
        shrunk.append((after / distance).item())
    assert max(shrunk) > 0.5  # the backups are not all equal


# Episode and first step of each sequence: within, from the beginning, past the end. In
# "short" the row that ends early is as long as the others.
SEQUENCES = {
    "many": ([0, 0, 0, 1, 2, 1, 0], [4, 0, 8, 2, -1, 1, 2]),
    "short": ([0, 1], [8, 0]),
}


def burned_in(places, length, burn_in):
    """Sequences of three episodes, and which of their steps are learned from."""
    rng = np.random.default_rng(2)
    replay = EpisodeReplay(3, seed=0)
    lengths = [(9, True), (4, False), (2, True)]
    replay.add([random_episode(rng, n, terminated=end) for n, end in lengths])
    chosen, firsts = map(np.array, SEQUENCES[places])
    samples = replay.sequences(chosen, firsts, length, burn_in)
    return as_tensors(samples), learned_steps(np.asarray(samples["mask"]))


@CASES
@pytest.mark.parametrize(
    ("places", "double_q", "td_lambda"), [("many", True, 0.0), ("short", False, 0.6)]
)
def test_dropping_burn_in_steps_keeps_loss_and_gradients(
    keys, places, double_q, td_lambda
):
    """Leaving out burn-in steps after the unroll changes neither loss nor gradient."""
    networks = random_networks(**{**keys, "recurrent": True})
    parts = without_dual(**{**keys, "td_lambda": td_lambda})
    batch, steps = burned_in(places, length=3, burn_in=2)
    kept = dataclasses.replace(batch, learned=torch.from_numpy(steps))
    assert kept.without_burn_in().actions.shape == (len(batch.actions), 3, 3)
    parameters = list(networks[0].parameters())
    for name in ("td", "quantile regression"):
        found = []
        for given in (batch, kept):
            generator = torch.Generator().manual_seed(4)
            encoded = encode(*networks, given, double_q=double_q, generator=generator)
            view = parts.view(networks, encoded, given.without_burn_in())
            if name == "td":
                loss, stats = parts.learning.team_loss(view), view.logged
            elif networks[0].num_atoms > 1 and keys.get("loss") != "quantile":
                loss, stats = parts.regression.loss(view), {}
            else:
                continue
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            found.append((loss, stats, [g for g in grads if g is not None]))
        if found:
            torch.testing.assert_close(*found)


@pytest.mark.parametrize("places", SEQUENCES)
def test_what_fills_a_memory_may_be_left_out_for_the_dual_variable(places):
    networks = random_networks(mixer="qmix", recurrent=True)
    batch, steps = burned_in(places, length=2, burn_in=3)
    dual = DualNetwork(TeamSizes(3, 4, 5, 6))
    found = []
    for learned in (None, torch.from_numpy(steps)):
        given = dataclasses.replace(batch, learned=learned)
        view = view_of(networks, given, target="tv", rho=0.3, dual=dual)
        losses = view.target.dual_loss(view), TDLoss().loss(view)
        found.append([losses, view.logged])
    torch.testing.assert_close(*found)


def test_learned_steps():
    mask = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0]])
    # Three steps and the one after; 4 is beyond the end.
    expected = [[2, 3, 4, 4], [1, 2, 3, 4], [3, 4, 4, 4], [0, 1, 2, 3]]
    assert learned_steps(mask).tolist() == expected
    assert learned_steps(mask[3:]) is None
