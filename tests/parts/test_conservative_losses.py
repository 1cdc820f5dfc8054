"""MA-CQR by composition: quantiles that add up, tails, and the conservative penalty."""

import itertools

import numpy as np
import pytest
import torch
from loss_cases import (
    learning_parts,
    network_config,
    random_batch,
    random_networks,
    table_batch,
    tabular_network,
    view_of,
)

from rllib_risk.algorithms.ma_cqr import MACQRConfig
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.conservative import conservative_penalty
from rllib_risk.parts.encoding import encode
from rllib_risk.parts.team import TeamNetwork

QUANTILE = {"loss": "quantile", "num_atoms": 8, "recurrent": False}
INDEPENDENT = QUANTILE | {"mixer": "none", "parameter_sharing": False}
CENTRAL = QUANTILE | {"mixer": "vdn", "parameter_sharing": False}
SCALAR = {"mixer": "none", "recurrent": False, "parameter_sharing": False}


def losses(networks, batch, **keys):
    keys = {"gamma": 0.9} | keys
    encoded = encode(*networks, batch, double_q=False)
    loss, stats = learning_parts(**keys).loss(networks, encoded, batch)
    return loss, {key: value.item() for key, value in stats.items()}


def by_the_book(networks, batch, *, central, weight, xi, on, gamma=0.9):
    """MA-CIQR's and MA-CCQR's loss as the paper writes it, pair by pair.

    1 / (2 N^2) sum_j sum_k rho_j(T_k - theta_j), plus the penalty; independent losses
    are averaged over the agents.
    """
    online, target = networks
    inputs = online.inputs(batch.obs, batch.actions)
    theta, theta_bar = (n.atoms(n.unroll(inputs)) for n in (online, target))
    num_agents, num_atoms = theta.shape[2], theta.shape[-1]
    tau = [xi * (2 * j + 1) / (2 * num_atoms) for j in range(num_atoms)]

    def rho(level, u):
        size = u.abs()
        h = u * u / 2 if size <= 1 else size - 0.5
        return abs(level - float(u < 0)) * h

    total, steps = 0.0, 0
    for b, t in itertools.product(*map(range, batch.rewards.shape[:2])):
        if not batch.mask[b, t, 0]:
            continue
        steps += 1
        r, d = batch.rewards[b, t, 0], batch.terminateds[b, t, 0]
        taken, following = [], []
        for i in range(num_agents):
            taken.append(theta[b, t, i, batch.actions[b, t, i]])
            means = theta_bar[b, t + 1, i].mean(dim=-1)
            means[batch.action_mask[b, t + 1, i] == 0] = -torch.inf
            following.append(theta_bar[b, t + 1, i, means.argmax()])
        if central:
            pairs = [(sum(taken), r + gamma * (1 - d) * sum(following))]
        else:
            pairs = [
                (z, r + gamma * (1 - d) * f)
                for z, f in zip(taken, following, strict=True)
            ]
        parts = []
        for z, goals in pairs:
            both = [
                rho(tau[j], goals[k].detach() - z[j])
                for j, k in itertools.product(range(num_atoms), repeat=2)
            ]
            parts.append(sum(both) / (2 * num_atoms**2))
        penalties = []
        for i in range(num_agents):
            legal = theta[b, t, i][batch.action_mask[b, t, i] > 0]
            if on == "mean":
                q, own = legal.mean(dim=-1), taken[i].mean()
                penalties.append(torch.log(q.exp().sum()) - own)
            else:
                each = torch.log(legal.exp().sum(dim=0)) - taken[i]
                penalties.append(each.mean())
        if central:
            total = total + parts[0] + weight * sum(penalties)
        else:
            total = (
                total
                + sum(p + weight * c for p, c in zip(parts, penalties, strict=True))
                / num_agents
            )
    return total / steps


@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize(
    ("weight", "xi", "on"),
    [
        (0.0, 1.0, "quantiles"),
        (1.0, 1.0, "quantiles"),
        (0.3, 0.15, "quantiles"),
        (2.0, 0.5, "mean"),
    ],
)
def test_the_papers_losses(central, weight, xi, on):
    """R5: MA-CQR's losses and gradients, pair by pair."""
    networks = random_networks(**(CENTRAL if central else INDEPENDENT))
    networks = [n.double() for n in networks]
    batch = random_batch()
    for name in ("obs", "state", "rewards", "terminateds", "mask"):
        setattr(batch, name, getattr(batch, name).double())
    loss, stats = losses(
        networks,
        batch,
        **(CENTRAL if central else INDEPENDENT),
        conservative_weight=weight,
        conservative_on=on,
        tail_level=xi,
    )
    expected = by_the_book(
        networks, batch, central=central, weight=weight, xi=xi, on=on
    )
    torch.testing.assert_close(loss, expected)
    mine, theirs = (
        torch.autograd.grad(x, list(networks[0].parameters()), allow_unused=True)
        for x in (loss, expected)
    )
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)
    assert stats["conservative_penalty"] > 0 and stats["ood_gap"] >= 0
    assert stats["ood_gap"] == pytest.approx(
        stats["q_max_mean"] - stats["q_data_mean"], abs=1e-6
    )
    assert stats["head_spread"] > 0


def test_scalar_values_have_half_the_squared_error():
    networks = random_networks(**SCALAR)
    batch = random_batch()
    plain, plain_stats = losses(networks, batch, **SCALAR)
    loss, stats = losses(networks, batch, **SCALAR, conservative_weight=0.7)
    encoded = encode(*networks, batch, double_q=False)
    atoms = networks[0].atoms(encoded.online)
    penalty = conservative_penalty(
        atoms.squeeze(-1), batch.actions, batch.action_mask[:, :-1]
    )
    real = batch.mask.bool().expand_as(penalty)
    expected = plain / 2 + 0.7 * penalty[real].mean()
    torch.testing.assert_close(loss, expected)
    assert stats["td_loss"] == plain_stats["td_loss"]


@pytest.mark.parametrize("keys", [SCALAR, INDEPENDENT, CENTRAL])
def test_without_weight_the_gradient_is_the_plain_one(keys):
    networks, batch = random_networks(**keys), random_batch()
    parameters = list(networks[0].parameters())
    plain, _ = losses(networks, batch, **keys)
    zero, _ = losses(networks, batch, **keys, conservative_weight=0.0)
    halves = 2 * keys.get("num_atoms", 1)
    for mine, theirs in zip(
        torch.autograd.grad(zero, parameters),
        torch.autograd.grad(plain, parameters),
        strict=True,
    ):
        torch.testing.assert_close(mine * halves, theirs)


MEMBERS = MACQRConfig.presets


@pytest.mark.parametrize(
    ("member", "sibling"),
    [
        ("ma_dqn", "ma_ciql"),
        ("ma_dqn_sum", "ma_ccql"),
        ("ma_qr_dqn", "ma_ciqr"),
        ("ma_qr_dqn_sum", "ma_ccqr"),
    ],
)
def test_members_without_a_penalty_have_their_siblings_loss_without_it(member, sibling):
    shared = {"recurrent": False, "parameter_sharing": False}
    networks, batch = random_networks(**shared, **MEMBERS[member]), random_batch()
    loss, stats = losses(networks, batch, **shared, **MEMBERS[member])
    other, others = losses(networks, batch, **shared, **MEMBERS[sibling])
    torch.testing.assert_close(loss, other - others["conservative_penalty"])
    assert stats == pytest.approx(others)


def test_the_loss_without_a_penalty_by_hand():
    # Theta (0, 1), targets (-1, 3), fractions (1/4, 3/4): the four pairs' losses are
    # 3/8, 5/8, 3/8 and 9/8, their sum 5/2 over 2 M^2 = 8. One value 0 and the target
    # -1: half of 1. All other outputs of the networks are zero; the discount is 0.5.
    for preset, theta, target, expected in (
        ("ma_qr_dqn", [0.0, 1.0], [-2.0, 6.0], 5 / 16),
        ("ma_dqn", [0.0], [-2.0], 0.5),
    ):
        keys = MEMBERS[preset] | {"num_atoms": len(theta)}
        tables = torch.zeros(2, 2, 1, 1, len(theta))  # [network, step, N, A, M]
        tables[0, 0], tables[1, 1] = torch.tensor(theta), torch.tensor(target)
        networks = [tabular_network(table, **keys) for table in tables]
        batch = table_batch(tables[0], [[0]], [0.0], terminated=False)
        loss, _ = losses(networks, batch, gamma=0.5, **keys)
        assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("weight", [None, 0.5])
def test_one_agent_alone_is_its_own_team_bit_for_bit(weight):
    batch, found = random_batch(), []
    batch.obs, batch.action_mask = batch.obs[:, :, :1], batch.action_mask[:, :, :1]
    batch.actions, batch.previous = batch.actions[..., :1], None
    for keys in (INDEPENDENT, CENTRAL):
        networks = []
        for seed in range(2):
            torch.manual_seed(seed)
            sizes = TeamSizes(num_agents=1, num_actions=4, obs_size=5, state_size=6)
            networks.append(TeamNetwork(sizes, network_config(**keys)))
        loss, _ = losses(networks, batch, **keys, conservative_weight=weight)
        loss.backward()
        found.append((loss, [p.grad for p in networks[0].parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    for mine, theirs in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(mine, theirs)


def test_the_whole_tail_is_the_plain_loss_bit_for_bit():
    networks, batch = random_networks(**CENTRAL), random_batch()
    plain, _ = losses(networks, batch, **CENTRAL)
    whole, _ = losses(networks, batch, **CENTRAL, tail_level=1.0)
    tail, _ = losses(networks, batch, **CENTRAL, tail_level=0.15)
    assert torch.equal(plain, whole) and not torch.equal(plain, tail)


def test_the_reward_enters_once():
    # With gamma = 0 the target is the reward, for any number of agents.
    networks, batch = random_networks(**CENTRAL), random_batch()
    view = view_of(networks, batch, double_q=False, gamma=0.0, **CENTRAL)
    real = batch.mask.bool()
    assert view.mean(view.target_atoms.mean(dim=-1)).item() == pytest.approx(
        batch.rewards[real].mean().item()
    )


def test_the_sum_of_quantiles_keeps_the_agents_choices():
    # The mean of a sum is the sum of means, for all quantiles and for tails. So the
    # agents' own best actions are the best joint action by the mean of summed atoms.
    network = random_networks(**CENTRAL)[0]
    batch = random_batch()
    encoded = encode(network, network, batch, double_q=False)
    atoms = network.atoms(encoded.online)  # [B, T+1, N, A, M]
    num_actions = atoms.shape[3]
    greedy = atoms.mean(dim=-1).argmax(dim=-1)  # [B, T+1, N]
    joints = list(itertools.product(range(num_actions), repeat=atoms.shape[2]))
    values = torch.stack(
        [sum(atoms[:, :, i, a] for i, a in enumerate(j)).mean(dim=-1) for j in joints],
        dim=-1,
    )
    best = torch.tensor(joints)[values.argmax(dim=-1)]
    assert torch.equal(best, greedy)


@pytest.mark.parametrize("keys", [INDEPENDENT, CENTRAL])
def test_agents_taken_atoms_share_the_teams_gradient(keys):
    """With a sum all agents' atoms j have one TD gradient; otherwise they differ."""
    networks, batch = random_networks(**keys), random_batch()
    captured = []
    original = type(networks[0]).atoms_of

    def capture(self, unroll, actions):
        atoms = original(self, unroll, actions)
        if atoms.requires_grad:
            atoms.retain_grad()
            captured.append(atoms)
        return atoms

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(networks[0]), "atoms_of", capture)
        loss, _ = losses(networks, batch, **keys)
    loss.backward()
    (atoms,) = captured
    gradients = atoms.grad  # [B, T, N, M]
    same = np.allclose(gradients, gradients[:, :, :1].expand_as(gradients))
    assert same is (keys is CENTRAL)
