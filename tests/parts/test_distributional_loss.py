"""Quantile regression of independent agents, with the weights of LH-IQN."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from loss_cases import (
    COMPOSITIONS,
    GAMMA,
    ONLINE_Q,
    TARGET_Q,
    composition,
    learning_parts,
    plain_batch,
    plain_networks,
    random_batch,
    random_networks,
    tabular_network,
)

from rllib_risk.parts.encoding import encode


def lh_iqn_loss(networks, batch, **keys):
    parts = learning_parts(**{"gamma": GAMMA} | composition("LHIQN") | keys)
    encoded = encode(*networks, batch, double_q=True)
    loss, stats = parts.loss(networks, encoded, batch)
    return loss.item(), {key: value.item() for key, value in stats.items()}


# LH-IQN with M = 2 fractions, at the midpoints 1/4 and 3/4. The quantiles of a cell v
# are v / 2 and 3 v / 2 (see tabular_network), their mean v: greedy actions and means of
# the targets are independent Q-learning's: (4, 3), (2.5, 5.5), (5, 4.5) or (3, 3).
# T = r + gamma v^- (1/2, 3/2), v^- = (6, 4), (1, 7), (4, 3), against v (1/2, 3/2) with
# v = (1, 0), (4, 1), (1, 2). Huber's H(u) is |u| - 1/2 outside [-1, 1], else u^2 / 2.
# Per step and agent: T | Z | mean H times tau or 1 - tau for 1/4 | for 3/4
#   0, 0: 2.5, 5.5   | 0.5, 1.5 | (1.5 + 4.5) / 2 / 4      | 3 (0.5 + 3.5) / 2 / 4
#   0, 1: 2, 4       | 0, 0     | (1.5 + 3.5) / 2 / 4      | 3 (1.5 + 3.5) / 2 / 4
#   1, 0: 2.25, 2.75 | 2, 6     | (1/32 + 9/32) / 2 / 4    | (3.25 + 2.75) / 2 / 4
#   1, 1: 3.75, 7.25 | 0.5, 1.5 | (2.75 + 6.25) / 2 / 4    | 3 (1.75 + 5.25) / 2 / 4
#   2, 0: 4, 6       | 0.5, 1.5 | (3 + 5) / 2 / 4          | 3 (2 + 4) / 2 / 4
#   2, 1: 3.75, 5.25 | 1, 3     | (2.25 + 3.75) / 2 / 4    | 3 (9/32 + 1.75) / 2 / 4
# and if terminated, T = 3 twice:
#   2, 0:            |          | 2 / 4                    | 3 * 1 / 4
#   2, 1:            |          | 1.5 / 4                  | 0
SAME = [0.75 + 1.5, 2.5, 5 / 128 + 0.75, 1.125 + 2.625]
SUMS = {False: [*SAME, 1 + 2.25, 0.75 + 195 / 256], True: [*SAME, 1.25, 0.375]}
MEANS = {False: [4, 3, 2.5, 5.5, 5, 4.5], True: [4, 3, 2.5, 5.5, 3, 3]}
# Only at (1, 0) is the mean of the targets below the prediction: 2.5 < 4. Half of the
# probability lies between 2 and 6. Within 1 / (2 M) = 1/4 of each target lies 1/8 of
# this half: [2, 2.5] and [2.5, 3]. The weight there is max(beta, 1/16).
LIKELIHOOD = 1 / 16


@pytest.mark.parametrize("terminated", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.05, 0.2, 1.0])
def test_lh_iqn_by_hand(terminated, beta):
    networks = plain_networks(**composition("LHIQN"))
    batch = plain_batch(terminated)
    loss, stats = lh_iqn_loss(networks, batch, td_weighting_alpha=beta)
    weights = [1.0, 1.0, max(beta, LIKELIHOOD), 1.0, 1.0, 1.0]
    weighted = [w * x for w, x in zip(weights, SUMS[terminated], strict=True)]
    assert loss == pytest.approx(sum(weighted) / 6, rel=1e-6)
    assert stats["td_loss"] == loss
    assert stats["td_weight_mean"] == pytest.approx(sum(weights) / 6, rel=1e-6)
    assert stats["target_mean"] == pytest.approx(sum(MEANS[terminated]) / 6, rel=1e-6)
    assert stats["q_taken_mean"] == pytest.approx(9 / 6, rel=1e-6)
    # One step at a time, so only the mean over agents remains.
    for t in range(3):
        batch.mask[:] = 0.0
        batch.mask[0, t] = 1.0
        loss, stats = lh_iqn_loss(networks, batch, td_weighting_alpha=beta)
        pair = slice(2 * t, 2 * t + 2)
        assert loss == pytest.approx(sum(weighted[pair]) / 2, rel=1e-6)
        mean = sum(MEANS[terminated][pair]) / 2
        assert stats["target_mean"] == pytest.approx(mean, rel=1e-6)


def test_the_lesser_weight_starts_at_the_schedules_start():
    networks, batch = plain_networks(**composition("LHIQN")), plain_batch(False)
    loss, _ = lh_iqn_loss(networks, batch)
    expected, _ = lh_iqn_loss(networks, batch, td_weighting_alpha=0.2)
    assert loss == expected


def test_with_beta_one_it_is_plain_iqn():
    # Fact 29.
    networks, batch = random_networks(**COMPOSITIONS["LHIQN"]), random_batch()
    hysteretic, stats = lh_iqn_loss(networks, batch, td_weighting_alpha=1.0)
    plain, plain_stats = lh_iqn_loss(networks, batch, td_weighting="none")
    assert hysteretic == pytest.approx(plain, rel=1e-6)
    assert stats["td_weight_mean"] == 1.0
    assert "td_weight_mean" not in plain_stats
    less, _ = lh_iqn_loss(networks, batch, td_weighting_alpha=0.1)
    assert less < plain


@pytest.mark.parametrize("kappa", [0.5, 1.0])
def test_one_quantile_is_half_of_hubers_independent_q_learning(kappa):
    # Fact 29: with one fraction, 1/2, both signs of the error weigh 1/2. Targets and
    # values are those of independent Q-learning, errors as worked out there.
    table = {"mixer": "none", "loss": "quantile", "qr_kappa": kappa}
    networks = [
        tabular_network(torch.tensor(values).float().unsqueeze(-1), **table)
        for values in (ONLINE_Q, TARGET_Q)
    ]
    batch = plain_batch(False)
    encoded = encode(*networks, batch, double_q=True)
    loss, stats = learning_parts(gamma=GAMMA, **table).loss(networks, encoded, batch)
    errors = [3, 3, -1.5, 4.5, 4, 2.5]
    # Beyond kappa H is kappa (|u| - kappa / 2); the loss divides by kappa.
    assert min(map(abs, errors)) > kappa
    expected = sum(0.5 * (abs(u) - kappa / 2) for u in errors) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert stats["td_error_abs"].item() == pytest.approx(sum(map(abs, errors)) / 6)


def hand_fractions(network, batch, seed):
    """Replaces the network's midpoints by random fractions, ``[B, T+1, N, M]``."""
    torch.manual_seed(seed)
    shape = (*batch.obs.shape[:3], network.num_atoms)
    fractions = torch.rand(shape)
    network._midpoints = lambda features: fractions
    return fractions


def quantile_by_loop(network, features, fractions, action):
    """``Z`` of one action at each fraction, from the head's three layers."""
    head, values = network.agents[0].head, []
    for tau in fractions.tolist():
        cosines = torch.tensor([math.cos(math.pi * j * tau) for j in range(64)])
        product = features * torch.relu(head.embedding(cosines))
        values.append(head.output(torch.relu(head.hidden(product)))[action])
    return values


def likelihood_by_loop(values, fractions, targets):
    """Probability near the targets: spread evenly between neighbouring quantiles."""
    z, tau, half = sorted(values), sorted(fractions), 0.5 / len(values)
    total = 0.0
    for target in targets:
        for b in range(len(z) - 1):
            low, high = max(target - half, z[b]), min(target + half, z[b + 1])
            if z[b + 1] > z[b] and high > low:
                share = (high - low) / (z[b + 1] - z[b])
                total += (tau[b + 1] - tau[b]) * share
    return total / len(targets)


def lh_iqn_by_loop(networks, batch, draws, keys):
    """LH-IQN's loss, one agent, one step and one pair of quantiles at a time."""
    online, target = networks
    inputs = online.inputs(batch.obs, batch.actions)
    seen = [network.unroll(inputs).features for network in networks]
    total, count, likelihoods = 0.0, 0, []
    indices = itertools.product(*(range(n) for n in batch.actions.shape))
    for b, t, i in indices:
        if batch.mask[b, t, 0] == 0:
            continue
        count += 1
        taus = draws[0][b, t, i]
        values = quantile_by_loop(
            online, seen[0][b, t, i], taus, batch.actions[b, t, i]
        )
        reward = batch.rewards[b, t, 0].item()
        # The next greedy action, by the mean at the online network's own draws.
        means = {
            a: sum(
                quantile_by_loop(online, seen[0][b, t + 1, i], draws[0][b, t + 1, i], a)
            ).item()
            for a in range(4)
            if batch.action_mask[b, t + 1, i, a]
        }
        best = max(means, key=means.get)
        after = quantile_by_loop(
            target, seen[1][b, t + 1, i], draws[1][b, t + 1, i], best
        )
        alive = 1.0 - batch.terminateds[b, t, 0].item()
        targets = [reward + keys["gamma"] * alive * z.item() for z in after]
        numbers = [z.item() for z in values]
        weight = 1.0
        if sum(targets) < sum(numbers):
            likelihoods.append(likelihood_by_loop(numbers, taus.tolist(), targets))
            weight = max(keys["td_weighting_alpha"], likelihoods[-1])
        for tau, z in zip(taus.tolist(), values, strict=True):
            for y in targets:
                u = y - z
                huber = u**2 / 2 if abs(u) <= 1 else abs(u) - 0.5
                side = tau if u > 0 else 1.0 - tau
                total = total + weight * side * huber / len(targets)
    return total / count, likelihoods


@pytest.mark.parametrize("seed", [0, 1])
def test_lh_iqn_against_a_loop(seed):
    keys = COMPOSITIONS["LHIQN"] | {"num_atoms": 5}
    networks, batch = random_networks(**keys), random_batch(seed)
    with torch.no_grad():
        for network in networks:
            # Narrow distributions, so that targets fall into them.
            network.agents[0].head.output.weight.mul_(0.3)
    draws = [hand_fractions(network, batch, seed) for network in networks]
    parts = learning_parts(**keys | {"td_weighting_alpha": 0.05})
    encoded = encode(*networks, batch, double_q=True)
    loss, _ = parts.loss(networks, encoded, batch)
    expected, likelihoods = lh_iqn_by_loop(networks, batch, draws, parts.keys)
    # The likelihood decides some weights, and beta decides others.
    assert max(likelihoods) > 0.05 and min(likelihoods) < 0.05
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = list(networks[0].parameters())
    for ours, theirs in zip(
        torch.autograd.grad(loss, parameters),
        torch.autograd.grad(expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_new_fractions_repeat_with_the_generator():
    networks, batch = random_networks(**COMPOSITIONS["LHIQN"]), random_batch()
    parts = learning_parts(**COMPOSITIONS["LHIQN"])

    def update(seed):
        generator = torch.Generator().manual_seed(seed)
        encoded = encode(*networks, batch, double_q=True, generator=generator)
        loss = parts.loss(networks, encoded, batch)[0].item()
        return encoded.online.fractions, encoded.target.fractions, loss

    online, target, loss = update(1)
    assert online.shape == (4, 6, 3, 8)
    assert 0 <= online.min() < 0.05 and 0.95 < online.max() < 1
    # Every step and agent has its own fractions. The target network has other ones.
    assert len(online.unique()) > 0.99 * online.numel()
    assert not torch.equal(online, target)
    again = update(1)
    assert torch.equal(online, again[0]) and torch.equal(target, again[1])
    assert loss == again[2]
    other = update(2)
    assert not torch.equal(online, other[0]) and loss != other[2]


def test_risk_measures_choose_the_action_but_do_not_bend_the_loss():
    # The regression fits undistorted quantiles for every measure of the greedy action.
    keys = COMPOSITIONS["LHIQN"]
    averse_keys = keys | {"risk_measure": "cvar", "alpha": 0.1}
    pairs = [random_networks(**k) for k in (keys, averse_keys)]
    for network in itertools.chain(*pairs):
        with torch.no_grad():
            network.agents[0].head.embedding.weight.mul_(10.0)  # wide distributions
    batch, parts = random_batch(), learning_parts(**keys)
    passes = [encode(*networks, batch, double_q=True) for networks in pairs]
    assert not torch.equal(passes[0].greedy, passes[1].greedy)
    passes[1].greedy_following = passes[0].greedy_following
    neutral, averse = (
        parts.loss(networks, encoded, batch)[0].item()
        for networks, encoded in zip(pairs, passes, strict=True)
    )
    assert neutral == averse


@pytest.mark.parametrize("mixer", ["none", "vdn"])
@pytest.mark.parametrize("cut", ["none", "watkins"])
def test_lambda_returns_quantile_by_quantile(mixer, cut):
    # Each quantile has the lambda-returns of a scalar value.
    keys = {"mixer": mixer, "td_lambda": 0.5, "td_lambda_cut": cut, "gamma": GAMMA}
    tables = [
        torch.tensor(values).float().unsqueeze(-1) for values in (ONLINE_Q, TARGET_Q)
    ]
    moves = torch.tensor([0.0, 1.0, 5.0])
    batch = plain_batch(False)

    def view(offsets, loss):
        networks = [tabular_network(t + offsets, mixer=mixer) for t in tables]
        parts = learning_parts(**keys | {"loss": loss})
        return parts.view(networks, encode(*networks, batch, double_q=True), batch)

    atoms = view(moves, "quantile").target_atoms
    for m, move in enumerate(moves):
        torch.testing.assert_close(atoms[..., m], view(move[None], "td").targets)


def test_shared_fractions_are_one_ascending_draw_for_all_agents_of_a_step():
    keys = COMPOSITIONS["DMIX"]
    networks, batch = random_networks(**keys), random_batch()
    generator = torch.Generator().manual_seed(1)
    encoded = encode(*networks, batch, double_q=True, generator=generator)
    online, target = encoded.online.fractions, encoded.following.fractions
    assert online.shape == (4, 6, 1, 8)
    assert (online.diff(dim=-1) > 0).all()
    assert len(online.unique()) > 0.99 * online.numel()
    assert not torch.equal(online, target)
    # A network per agent with the same weights gives the same numbers.
    atoms = networks[0].atoms_of(encoded.online, batch.actions)
    own = random_networks(**keys | {"parameter_sharing": False})[0]
    for agent in own.agents:
        agent.load_state_dict(networks[0].agents[0].state_dict())
    unroll = own.unroll(own.inputs(batch.obs, batch.actions)).at(slice(None, -1))
    unroll.fractions = online
    torch.testing.assert_close(own.atoms_of(unroll, batch.actions), atoms)
