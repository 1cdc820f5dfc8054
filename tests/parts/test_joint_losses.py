"""QTRAN and weighted QMIX: targets, losses and weights by hand, and by loops."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from loss_cases import (
    COMPOSITIONS,
    GAMMA,
    composition,
    learning_parts,
    pass_cells_through,
    plain_batch,
    plain_networks,
    random_batch,
    random_networks,
    set_units,
    view_of,
)

from rllib_risk.parts.encoding import encode
from rllib_risk.parts.losses.td import TDLoss


def whole_loss(networks, batch, **keys):
    """Targets, the loss, and the logged statistics."""
    parts = learning_parts(**{"gamma": GAMMA} | keys)
    view = parts.view(networks, encode(*networks, batch, double_q=True), batch)
    loss = parts.learning.team_loss(view)
    return view.targets[0, :, 0].tolist(), loss.item(), view.logged


# QTRAN's critic as set here: Q_jt = z s + x u_0 + y u_1 + w u_0 u_1 with the actions 0
# and 1 as numbers.
ONLINE_CRITIC = {"z": 1.0, "x": 2.0, "y": 6.0, "w": 4.0}
TARGET_CRITIC = {"z": 2.0, "x": 10.0, "y": 4.0, "w": 3.0}


def set_qtran_critic(critic, z, x, y, w):
    """The critic above, and ``V(s) = 3 s - 1``.

    Its inputs for an agent are the one-hot cell 2 step + agent and the one-hot action.
    "Agent i takes action 1" is the ReLU of two ones less one.
    """
    cells = 8
    took_1 = [
        ({cell: 1.0 for cell in range(agent, cells, 2)} | {cells + 1: 1.0}, -1.0)
        for agent in (0, 1)
    ]
    set_units(critic.embed, took_1, [0.0, 0.0])
    with torch.no_grad():
        critic.embed[-1].weight[:2, :2] = torch.eye(2)
    # Its input is the state, and then the sum over agents: u_0, u_1.
    units = [({0: 1.0}, 0.0), ({1: 1.0}, 0.0), ({2: 1.0}, 0.0), ({1: 1, 2: 1}, -1.0)]
    set_units(critic.joint, units, [z, x, y, w])
    set_units(critic.value, [({0: 1.0}, 0.0)], [3.0], bias=-1.0)


def qtran_networks():
    networks = plain_networks(**composition("QTRAN"))
    for network, numbers in zip(networks, (ONLINE_CRITIC, TARGET_CRITIC), strict=True):
        set_qtran_critic(network.joint_critic, **numbers)
    return networks


# gamma 0.5. Online's greedy actions at steps 0 to 3: (0, 0), (1, 1), (0, 1), (0, 1).
# Taken: (0, 1), (1, 0), (1, 1).
# Next values of the target's critic: 2 + 10 + 4 + 3 = 19, 4 + 4 = 8, 6 + 4 = 10, so
#   y = 1 + 19 / 2, 2 + 8 / 2, 3 + 10 / 2 or 3.
# Q_jt of the actions taken: 6, 1 + 2 = 3, 2 + 2 + 6 + 4 = 14, so L_td is the mean of
#   4.5^2, 3^2, and 6^2, or 11^2 if terminated.
# L_opt: sums of the agents' best utilities 1 + 2, 4 + 3, 2 + 2; Q_jt there 0, 1 + 12,
#   2 + 6; V = -1, 2, 5: 3 - 0 - 1 = 2, 7 - 13 + 2 = -4, 4 - 8 + 5 = 1.
# L_nopt: sums of the utilities taken 1, 5, 3: 1 - 6 - 1 = -6, 5 - 3 + 2 = 4, which
#   has no loss, 3 - 14 + 5 = -6.
QTRAN_OPT, QTRAN_NOPT = (4 + 16 + 1) / 3, (36 + 0 + 36) / 3


@pytest.mark.parametrize(
    ("terminated", "last_target", "critic_loss"),
    [(False, 8.0, (20.25 + 9 + 36) / 3), (True, 3.0, (20.25 + 9 + 121) / 3)],
)
def test_qtran_by_hand(terminated, last_target, critic_loss):
    networks, batch = qtran_networks(), plain_batch(terminated)
    keys = composition("QTRAN")
    targets, loss, stats = whole_loss(networks, batch, **keys)
    assert targets == [10.5, 6.0, last_target]
    assert stats["critic_loss"].item() == pytest.approx(critic_loss, rel=1e-6)
    assert stats["opt_loss"].item() == pytest.approx(QTRAN_OPT, rel=1e-6)
    assert stats["nopt_loss"].item() == pytest.approx(QTRAN_NOPT, rel=1e-6)
    assert stats["critic_taken_mean"].item() == pytest.approx(23 / 3)
    assert stats["q_taken_mean"].item() == pytest.approx(3)
    # PyMARL's weights 1 and 0.1, and others.
    assert loss == pytest.approx(critic_loss + QTRAN_OPT + 0.1 * QTRAN_NOPT, rel=1e-6)
    _, loss, _ = whole_loss(networks, batch, **keys, opt_weight=2.0, nopt_weight=3.0)
    assert loss == pytest.approx(critic_loss + 2 * QTRAN_OPT + 3 * QTRAN_NOPT, rel=1e-6)


def test_no_loss_where_no_slack_is_negative():
    # Fact 22. A higher V lifts all slacks; the lowest are -6.
    networks, batch = qtran_networks(), plain_batch(False)
    for lift, expected in ((5.0, 2 / 3), (6.0, 0.0), (7.0, 0.0)):
        with torch.no_grad():
            networks[0].joint_critic.value[-1].bias.fill_(-1.0 + lift)
        _, _, stats = whole_loss(networks, batch, **composition("QTRAN"))
        assert stats["nopt_loss"].item() == pytest.approx(expected, rel=1e-6)


def by_name(loss, network):
    names, parameters = zip(*network.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(p) if g is None else g
        for name, p, g in zip(names, parameters, grads, strict=True)
    }


def assert_reaches(grads, *parts):
    """Asserts that all parameters of these parts, and no others, have a gradient."""
    for name, grad in grads.items():
        assert bool(grad.any()) == name.startswith(parts), name


def random_pass(name, **keys):
    networks = random_networks(**COMPOSITIONS[name])
    parts, batch = learning_parts(**COMPOSITIONS[name] | keys), random_batch()
    view = parts.view(networks, encode(*networks, batch, double_q=True), batch)
    return networks, parts.learning, view


def test_where_qtrans_losses_send_gradients():
    # Fact 22: the constraints train the agents and V, never Q_jt. The critic's own loss
    # trains Q_jt and, through the features, the agents' encoder, but not their heads.
    (online, _), learning, view = random_pass("QTRAN")
    constraints = learning.loss.loss(view)
    assert_reaches(by_name(constraints, online), "agents", "joint_critic.value")
    (online, _), learning, view = random_pass("QTRAN", opt_weight=0.0, nopt_weight=0.0)
    of_critic = learning.team_loss(view)
    critic_parts = ("joint_critic.embed", "joint_critic.joint", "agents.0.encoder")
    assert_reaches(by_name(of_critic, online), *critic_parts)


def qtran_by_loop(networks, batch, keys):
    """QTRAN's loss as its paper writes it, one step at a time."""
    online, target = networks
    inputs = online.inputs(batch.obs, batch.actions)
    steps = batch.rewards.shape[1]
    team = range(online.sizes.num_agents)

    def parts(network):
        """Per-agent utilities [b][t] -> [N, A], and Q_jt of any joint action."""
        features = network.unroll(inputs).features
        head, critic = network.agents[0].head, network.joint_critic

        def joint(b, t, actions):
            embedded = 0.0
            for i in team:
                one_hot = torch.zeros(online.sizes.num_actions)
                one_hot[actions[i]] = 1.0
                row = torch.cat([features[b, t, i], one_hot])
                embedded = embedded + critic.embed(row)
            return critic.joint(torch.cat([batch.state[b, t], embedded]))[0]

        return head(features), joint

    utilities, joint = parts(online)
    _, target_joint = parts(target)
    td, opt, nopt, count = 0.0, 0.0, 0.0, 0
    for b, t in itertools.product(range(len(batch.rewards)), range(steps)):
        if batch.mask[b, t, 0] == 0:
            continue
        count += 1

        def greedy(t, b=b):
            legal = [
                [a for a in range(4) if batch.action_mask[b, t, i, a]] for i in team
            ]
            return [max(legal[i], key=lambda a: utilities[b, t, i, a]) for i in team]

        taken = batch.actions[b, t].tolist()
        y = batch.rewards[b, t, 0]
        if not batch.terminateds[b, t, 0]:
            y = y + keys["gamma"] * target_joint(b, t + 1, greedy(t + 1)).detach()
        td = td + (joint(b, t, taken) - y) ** 2
        value = online.joint_critic.value(batch.state[b, t])[0]
        best = greedy(t)
        gap = sum(utilities[b, t, i, best[i]] for i in team)
        opt = opt + (gap - joint(b, t, best).detach() + value) ** 2
        slack = sum(utilities[b, t, i, taken[i]] for i in team)
        slack = slack - joint(b, t, taken).detach() + value
        if slack < 0:
            nopt = nopt + slack**2
    return (td + keys["opt_weight"] * opt + keys["nopt_weight"] * nopt) / count


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_qtran_against_a_loop(seed):
    """R5: QTRAN's gradient, whose constraints detach the critic."""
    networks = random_networks(**COMPOSITIONS["QTRAN"])
    batch = random_batch(seed)
    weights = {"opt_weight": 0.7, "nopt_weight": 0.3}
    parts = learning_parts(**COMPOSITIONS["QTRAN"], **weights)
    encoded = encode(*networks, batch, double_q=True)
    loss, stats = parts.loss(networks, encoded, batch)
    expected = qtran_by_loop(networks, batch, parts.keys)
    assert stats["nopt_loss"] > 0
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = by_name(loss, networks[0]), by_name(expected, networks[0])
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3)


# Values of WQMIX's central agents, [step][agent][action], all >= 0. The central mixer
# is 2 c_0 - c_1 + z s with z = 1 online and 2 in the target network.
ONLINE_CENTRAL = [
    [[1, 0], [0, 3]],
    [[2, 4], [1, 0]],
    [[0, 2], [1, 5]],
    [[0, 0], [0, 0]],
]
TARGET_CENTRAL = [
    [[4, 1], [1, 0]],
    [[0, 6], [2, 4]],
    [[5, 0], [1, 4]],
    [[8, 0], [0, 6]],
]


def wqmix_networks(name):
    networks = plain_networks(**composition(name))
    tables = (ONLINE_CENTRAL, 1.0), (TARGET_CENTRAL, 2.0)
    for network, (table, z) in zip(networks, tables, strict=True):
        critic = network.joint_critic
        pass_cells_through(critic.encoder)
        with torch.no_grad():
            cells = torch.tensor(table, dtype=torch.float32).reshape(8, 2)
            critic.head.weight.copy_(cells.T)
            critic.head.bias.zero_()
        # Its input is the state and the two numbers. V(s) holds the state's part.
        set_units(critic.joint, [({1: 1.0}, 0.0), ({2: 1.0}, 0.0)], [2.0, -1.0])
        set_units(critic.value, [({0: 1.0}, 0.0)], [z])
    return networks


# gamma 0.5; greedy and taken actions as above. Next values, at (1, 1), (0, 1), (0, 1):
#   12 - 4 + 2 = 10, 10 - 4 + 4 = 10, 16 - 6 + 6 = 16; y = 6, 7, 11 or 3.
# Central values taken: 2 - 3 = -1, 8 - 1 + 1 = 8, 4 - 5 + 2 = 1; squares 49 + 1 + 100
#   over 3; at the end 4 if terminated.
# Q_tot of the actions taken: 2, 12, 10, as in QMIX; errors 4, -5, 1 or -7.
# OW: 1 where Q_tot < y: 1, 0.1, 1 or 0.1: 16 + 2.5 + 1 over 3; at the end 4.9.
# CW: at no step were both greedy. The target's central value of greedy actions (0, 0),
#   (1, 1), (0, 1): 8 - 1 = 7, 10, 10. y is not above the first two but above the third,
#   unless terminated: 1.6 + 2.5 + 1 over 3; at the end 4.9.
WQMIX = {
    ("OWQMIX", False): ([6.0, 7.0, 11.0], 19.5 / 3, 50.0, 2.1 / 3),
    ("OWQMIX", True): ([6.0, 7.0, 3.0], 23.4 / 3, 18.0, 1.2 / 3),
    ("CWQMIX", False): ([6.0, 7.0, 11.0], 5.1 / 3, 50.0, 1.2 / 3),
    ("CWQMIX", True): ([6.0, 7.0, 3.0], 9.0 / 3, 18.0, 0.3 / 3),
}


@pytest.mark.parametrize(("name", "terminated"), WQMIX)
def test_wqmix_by_hand(name, terminated):
    expected_targets, td, critic, weight = WQMIX[name, terminated]
    networks, batch = wqmix_networks(name), plain_batch(terminated)
    targets, loss, stats = whole_loss(networks, batch, **composition(name))
    assert targets == expected_targets
    assert stats["td_loss"].item() == pytest.approx(td, rel=1e-6)
    assert stats["critic_loss"].item() == pytest.approx(critic, rel=1e-6)
    assert stats["td_weight_mean"].item() == pytest.approx(weight, rel=1e-6)
    assert loss == pytest.approx(td + critic, rel=1e-6)


@pytest.mark.parametrize("name", ["OWQMIX", "CWQMIX"])
def test_with_alpha_one_it_is_qmix_with_the_central_target(name):
    # Fact 21.
    networks, learning, view = random_pass(name, td_weighting_alpha=1.0)
    plain = learning_parts(**COMPOSITIONS["QMIX"])
    same = plain.view(networks, view.encoded, view.batch)
    ours, theirs = learning.loss.loss(view), plain.learning.loss.loss(same)
    assert ours.item() == theirs.item()
    without = networks[0], qmix_of(networks[1])
    other = plain.view(without, view.encoded, view.batch)
    assert not torch.equal(view.targets, other.targets)


def qmix_of(network):
    """The same agents and mixer without the critic."""
    plain = copy.deepcopy(network)
    plain.joint_critic = None
    return plain


def test_ow_weighs_in_full_what_is_below_its_target():
    # Fact 21: w is 1 where Q_tot < y, else alpha.
    networks = random_networks(**COMPOSITIONS["OWQMIX"])
    keys = COMPOSITIONS["OWQMIX"] | {"td_weighting_alpha": 0.3}
    seen = set()
    for seed in range(5):
        batch = random_batch(seed)
        view = view_of(networks, batch, **keys)
        targets, values = view.targets, view.values
        total, weights = 0.0, []
        for b, t in itertools.product(range(4), range(6)):
            if batch.mask[b, t, 0]:
                error = (targets - values)[b, t, 0].item()
                weights.append(1.0 if error > 0 else 0.3)
                total += weights[-1] * error**2
        loss = TDLoss().loss(view)
        assert loss.item() == pytest.approx(total / len(weights), rel=1e-5)
        mean = sum(weights) / len(weights)
        assert view.logged["td_weight_mean"].item() == pytest.approx(mean, rel=1e-6)
        seen.update(weights)
    assert seen == {1.0, 0.3}


@pytest.mark.parametrize("seed", range(5))
def test_cw_weighs_the_greedy_joint_action_in_full(seed):
    # Fact 21: 1 on the greedy joint action, whatever the error's sign; elsewhere where
    # y is above the target critic's value of the greedy joint action at the same step.
    networks = random_networks(**COMPOSITIONS["CWQMIX"])
    batch = random_batch(seed)
    view = view_of(networks, batch, **COMPOSITIONS["CWQMIX"])
    best = networks[1].joint_values_of(view.encoded.target, view.greedy, view.state)

    def weights_at(targets):
        view.targets = targets
        return view.weighting.weights(torch.zeros_like(targets), view)

    for shift in (-1.0, 0.0, 1.0):
        weights = weights_at(best.detach() + shift)
        expected = torch.full_like(weights, 1.0 if shift > 0 else 0.1)
        took_best = (batch.actions == view.greedy).all(dim=-1)
        expected[took_best] = 1.0
        assert torch.equal(weights, expected)
    batch.actions = view.greedy.clone()
    assert (weights_at(best.detach() - 9) == 1.0).all()


@pytest.mark.parametrize("name", ["OWQMIX", "CWQMIX"])
def test_wqmix_sends_no_gradient_from_one_value_into_the_other(name):
    # Fact 21.
    networks, learning, view = random_pass(name)
    of_qmix = learning.loss.loss(view)
    assert_reaches(by_name(of_qmix, networks[0]), "agents", "mixer")
    whole = learning.team_loss(view)
    assert_reaches(by_name(whole - of_qmix, networks[0]), "joint_critic")


def test_targets_come_from_the_critic_and_not_from_the_mixed_value():
    # Fact 21: QMIX's own target mixer and target agents are not used in the target.
    for name in ("OWQMIX", "CWQMIX"):
        networks, _, view = random_pass(name)
        before = view.targets
        with torch.no_grad():
            for part in (networks[1].agents, networks[1].mixer):
                for parameter in part.parameters():
                    parameter.add_(1.0)
        again = view_of(networks, view.batch, **COMPOSITIONS[name])
        assert torch.equal(again.targets, before)


def test_lambda_returns_of_the_critic():
    # Next values 10, 10, 16, lambda 0.8: 3 + 8 = 11; 2 + (2 + 8.8) / 2 = 7.4;
    # 1 + (2 + 0.8 * 7.4) / 2 = 4.96.
    networks, batch = wqmix_networks("OWQMIX"), plain_batch(False)
    keys = composition("OWQMIX") | {"td_lambda": 0.8}
    targets, _, _ = whole_loss(networks, batch, **keys)
    assert targets == pytest.approx([4.96, 7.4, 11.0], rel=1e-6)
