"""Penalties of joint actions: against loops over joint actions, one value at a time."""

import copy
import math

import pytest
import torch
from loss_cases import learning_parts, random_batch, random_networks, view_of

from rllib_risk.algorithms.offline_baselines import OfflineBaselinesConfig
from rllib_risk.parts.penalties.counterfactual import one_departs
from rllib_risk.parts.penalties.sampled_joint import random_actions

NETWORK = {"mixer": "qmix", "recurrent": False}
MIXERS = ["vdn", "qmix", "qplex", "riskq"]


def keys_of(preset):
    """The parts of a preset, on networks without memory."""
    shares = {"dataset_top_share"}
    chosen = OfflineBaselinesConfig.presets[preset]
    return {k: v for k, v in chosen.items() if k not in shares} | {"recurrent": False}


def view(preset, **more):
    keys = keys_of(preset) | more
    found = view_of(random_networks(**keys), random_batch(), **keys)
    return found, learning_parts(**keys).learning


def value(found, joint):
    """The team's value of one joint action at every step, ``[B, T]``."""
    return found.values_of(joint).squeeze(-1)


@pytest.mark.parametrize("mixer", MIXERS)
def test_values_of_many_joint_actions_are_those_of_each(mixer):
    keys = {"mixer": mixer, "recurrent": False}
    found = view_of(random_networks(**keys), random_batch(), **keys)
    joints = one_departs(found.actions, 4)
    values = found.values_of_each(joints)
    assert values.shape == (4, 6, 12, 1)
    each = torch.stack([found.values_of(joints[:, :, k]) for k in range(12)], dim=2)
    torch.testing.assert_close(values, each)
    same_gradients(found, values.square().sum(), each.square().sum())


def same_gradients(found, mine, theirs):
    """Asserts that two losses have the same gradients, also in the agents' networks."""
    parameters = list(found.network.parameters())
    left, right = (
        torch.autograd.grad(x, parameters, retain_graph=True, allow_unused=True)
        for x in (mine, theirs)
    )
    assert left[0].abs().sum() > 0
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_one_agent_departs_at_a_time():
    # Two agents took (0, 1) of two actions: agent 0 takes 0 or 1, then agent 1 does.
    joints = one_departs(torch.tensor([[[0, 1]]]), 2)
    assert joints.tolist() == [[[[0, 1], [1, 1], [0, 0], [0, 1]]]]


def test_random_actions_are_available_and_even():
    mask = torch.ones(5, 4, 2, 4)
    mask[..., 0, 3] = 0
    mask[..., 1, 1:] = 0
    counts = torch.zeros(3)
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        drawn = random_actions(mask, 20, generator)
        assert drawn.shape == (5, 4, 20, 2)
        assert (drawn[..., 1] == 0).all()
        counts += torch.bincount(drawn[..., 0].flatten(), minlength=3)
    # The draws of one update depend on each other, so 300 * 20 are not independent.
    shares = counts / counts.sum()
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    # Rows get different draws, which do not depend on the other rows.
    assert len(drawn[:, 0, :, 0].unique(dim=0)) == 5
    part = random_actions(mask[:3, :2], 20, torch.Generator().manual_seed(299))
    assert torch.equal(part, drawn[:3, :2])


def test_the_sampled_penalty_is_that_of_loops():
    found, learning = view("qmix_cql", conservative_samples=5)
    drawn = random_actions(found.action_mask, 5, torch.Generator().manual_seed(0))
    taken = value(found, found.actions)
    total = taken.exp() + sum(value(found, drawn[:, :, k]).exp() for k in range(5))
    penalty = learning.penalty.penalties(found)
    torch.testing.assert_close(penalty.squeeze(-1), total.log() - taken)
    same_gradients(
        found, found.mean(penalty), found.mean((total.log() - taken)[..., None])
    )
    found, _ = view("qmix_cql", conservative_samples=5)  # the same draws again
    loss, half = learning.team_loss(found), found.mean(found.errors.square()) / 2
    torch.testing.assert_close(loss, half + 3.0 * found.mean(penalty))


def departures(found, behaviour, temperature):
    """The counterfactual penalty of every real step, action by action."""
    result = torch.zeros(found.actions.shape[:2])
    for b, t in found.mask.squeeze(-1).nonzero().tolist():
        sums, powers = [], []
        for i in range(3):
            legal = [a for a in range(4) if found.action_mask[b, t, i, a]]
            values = []
            for a in legal:
                joint = found.actions.clone()
                joint[b, t, i] = a
                values.append(value(found, joint)[b, t])
            total = sum(v.exp() for v in values)
            sums.append(total.log())
            likely = sum(math.exp(behaviour[b, t, i, a]) for a in legal)
            divergence = 0.0
            for a, v in zip(legal, values, strict=True):
                mu = (v.exp() / total).item() + 1e-5
                beta = math.exp(behaviour[b, t, i, a]) / likely + 1e-5
                divergence += mu * math.log(mu / beta)
            powers.append(math.exp(temperature * divergence))
        weighted = sum(s * p for s, p in zip(sums, powers, strict=True)) / sum(powers)
        result[b, t] = weighted - value(found, found.actions)[b, t]
    return result


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_the_counterfactual_penalty_is_that_of_loops(temperature):
    found, learning = view("cfcql", divergence_temperature=temperature)
    found.dual = learning.penalty.make_dual(random_networks(**keys_of("cfcql"))[1])
    logits = torch.zeros(4, 6, 3, 4)
    if found.dual is not None:
        inputs = found.dual.inputs(found.batch.obs, found.batch.actions)
        logits = found.dual.atoms(found.dual.unroll(inputs[:, :-1])).squeeze(-1)
    expected = departures(found, logits.detach().numpy(), temperature or 0.0)
    penalty = learning.penalty.penalties(found).squeeze(-1)
    real = found.mask.squeeze(-1) > 0
    torch.testing.assert_close(penalty[real], expected[real], atol=1e-4, rtol=1e-4)
    same_gradients(found, penalty[real].mean(), expected[real].mean())


def test_the_model_of_the_data_is_behaviour_cloning_and_leaves_the_values_alone():
    found, learning = view("cfcql")
    network = found.network
    before = [p.clone() for p in network.parameters()]
    found.dual = model = learning.penalty.make_dual(network)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(300):
        loss = learning.penalty.dual_loss(found)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    cloning = view_of((model, model), found.batch, **keys_of("bc"), double_q=False)
    parts = learning_parts(**keys_of("bc")).learning
    assert parts.loss.loss(cloning).item() == pytest.approx(losses[-1], abs=0.02)
    assert losses[-1] < losses[0] / 4
    assert all(p.grad is None for p in network.parameters())
    for a, b in zip(before, network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_one_auxiliary_module_is_allowed():
    online, _ = random_networks(**keys_of("cfcql"))
    robust = {"target": "tv", "rho": 0.2}
    learning = learning_parts(**keys_of("cfcql")).learning
    assert learning.dual_learner is learning.penalty
    assert learning.make_dual(online) is not None
    learning = learning_parts(**keys_of("qmix_cql") | robust).learning
    assert learning.dual_learner is learning.target
    assert learning.make_dual(online) is not None
    with pytest.raises(ValueError, match="both train an auxiliary module"):
        learning_parts(**keys_of("cfcql") | robust).learning.make_dual(online)


def test_padding_changes_no_penalty():
    for preset in ("qmix_cql", "cfcql"):
        keys = keys_of(preset)
        networks = random_networks(**keys)
        parts, batch = learning_parts(**keys).learning, random_batch()
        found = view_of(networks, batch, **keys)
        longer = copy.copy(batch)
        for name, ones in (("action_mask", True), ("obs", False), ("state", False)):
            tensor = getattr(batch, name)
            filler = torch.full_like(tensor[:, :2], float(ones))
            setattr(longer, name, torch.cat([tensor, filler], dim=1))
        for name in ("actions", "rewards", "terminateds", "mask"):
            tensor = getattr(batch, name)
            filler = torch.zeros_like(tensor[:, :2])
            setattr(longer, name, torch.cat([tensor, filler], dim=1))
        padded = view_of(networks, longer, **keys)
        torch.testing.assert_close(parts.team_loss(padded), parts.team_loss(found))
