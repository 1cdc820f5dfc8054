"""Implicit constraint Q-learning: numbers by hand, and loops over agents and steps."""

import math

import pytest
import torch
from loss_cases import learning_parts, random_batch, random_networks, view_of
from torch import Tensor

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.team import TeamNetwork

KEYS = {
    "mixer": "none",
    "loss": "icq",
    "joint_critic": "icq",
    "recurrent": False,
}


def by_hand_network(**keys):
    """Two agents, two actions: pi = (1/4, 3/4), Q_i = (0, 1), k = (1/4, 3/4)."""
    network = TeamNetwork(TeamSizes(2, 2, 3, 2), {**KEYS, "hidden_size": 4, **keys})
    critic = network.joint_critic.values
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.agents[0].head.bias.copy_(torch.tensor([0.0, math.log(3)]))
        critic.body[-1].bias.copy_(torch.tensor([0.0, 1.0, 0.0]))  # v_i = 0
        critic.first.bias.copy_(torch.tensor([1.0, 3.0]).repeat_interleave(32))
        critic.second.bias.fill_(1.0)
    return network


def by_hand_batch(actions, *, terminated):
    """Two episodes of two steps with rewards 1 and 2; actions ``[2, 2, 2]``."""
    ends = torch.zeros(2, 2, 1)
    ends[:, -1] = float(terminated)
    return Batch(
        obs=torch.zeros(2, 3, 2, 3),
        state=torch.zeros(2, 3, 2),
        action_mask=torch.ones(2, 3, 2, 2),
        actions=torch.tensor(actions),
        rewards=torch.tensor([[[1.0], [2.0]], [[1.0], [2.0]]]),
        terminateds=ends,
        mask=torch.ones(2, 2, 1),
    )


ACTIONS = [[[1, 0], [1, 1]], [[0, 0], [1, 0]]]


def test_the_policys_loss_by_hand():
    # At the first step agent 0 took 1 and 0: advantages 1 - 3/4 and 0 - 3/4, weights 2
    # softmax(1/4, -3/4) = 1.462117 and 0.537883; minus log-likelihoods 0.287682 and
    # 1.386294. Agent 1 took 0 twice: weights 1. At the second step agent 0 took 1
    # twice, agent 1 took 1 and 0. Mean over rows, steps, agents, times k = (1/4, 3/4):
    first = (1.462117 * 0.287682 + 0.537883 * 1.386294) / 4 + 3 / 4 * 2 * 1.386294
    second = 2 * 0.287682 / 4 + 3 / 4 * (1.462117 * 0.287682 + 0.537883 * 1.386294)
    networks = by_hand_network(), by_hand_network()
    batch = by_hand_batch(ACTIONS, terminated=True)
    view = view_of(networks, batch, **KEYS, icq_policy_temperature=1.0)
    parts = learning_parts(**KEYS, icq_policy_temperature=1.0).learning
    loss = parts.loss.loss(view)
    assert loss.item() == pytest.approx((first + second) / 8, abs=1e-5)
    assert view.logged["advantage_mean"].item() == pytest.approx(-0.25)


@pytest.mark.parametrize("terminated", [True, False])
def test_the_critics_targets_by_hand(terminated):
    # Q_tot of the next actions taken: 1/4 + 3/4 = 1 and 1/4 + 0. Weights 2
    # softmax(1, 1/4) = 1.358357 and 0.641643. Targets 1 + (1.358357 * 1) / 2 and
    # 1 + (0.641643 / 4) / 2. No action after the last step is known. There a truncated
    # episode takes the policy's expectation, 3/4 per agent and for the team: 2 + 3 / 8.
    networks = [by_hand_network(icq_value_temperature=1.0) for _ in range(2)]
    batch = by_hand_batch(ACTIONS, terminated=terminated)
    keys = KEYS | {"icq_value_temperature": 1.0, "gamma": 0.5}
    view = view_of(networks, batch, **keys)
    last = 2.0 if terminated else 2.375
    expected = [1.679179, last, 1.080205, last]
    assert view.targets.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    # Q_tot(u) = 1/4, 1, 0, 1/4; the critic's squared errors are added.
    errors = [1.429179, last - 1, 1.080205, last - 0.25]
    parts = learning_parts(**keys).learning
    loss, policy = parts.team_loss(view), parts.loss.loss(view)
    mean = sum(e * e for e in errors) / 4
    assert (loss - policy).item() == pytest.approx(mean, abs=1e-5)


def in_loops(networks, batch, beta, value_beta, gamma):
    """A second implementation of the loss with TD(0), one number at a time."""
    online, target = networks
    inputs = online.inputs(batch.obs, batch.actions, batch.previous)
    size = online.sizes.obs_size

    def parts(network: TeamNetwork) -> tuple[Tensor, Tensor, Tensor]:
        logits = network.atoms(network.unroll(inputs)).squeeze(-1)
        policy = logits.masked_fill(batch.action_mask == 0, -torch.inf).softmax(-1)
        critic = network.joint_critic
        values = critic.of_all_actions(inputs[..., :size], batch.state)
        return policy, values, critic.values.weights(batch.state)

    pi, q, k = parts(online)
    target_pi, target_q, target_k = parts(target)
    rows, steps, agents = batch.actions.shape
    real = batch.mask[..., 0] > 0
    policy_loss = critic_loss = 0.0
    for t in range(steps):
        here = [b for b in range(rows) if real[b, t]]
        following = [b for b in here if t + 1 < steps and real[b, t + 1]]

        def taken(b, t):
            return sum(
                target_k[b, t, i] * target_q[b, t, i, batch.actions[b, t, i]]
                for i in range(agents)
            )

        after = {b: taken(b, t + 1) for b in following}
        total = sum(math.exp(v.item() / value_beta) for v in after.values())
        for b in here:
            if b in after:
                weight = len(after) * math.exp(after[b].item() / value_beta) / total
                then = weight * after[b]
            else:
                then = sum(
                    target_k[b, t + 1, i]
                    * (target_pi[b, t + 1, i] * target_q[b, t + 1, i]).sum()
                    for i in range(agents)
                )
            goal = batch.rewards[b, t, 0]
            goal = goal + gamma * (1 - batch.terminateds[b, t, 0]) * then
            mine = sum(
                k[b, t, i] * q[b, t, i, batch.actions[b, t, i]] for i in range(agents)
            )
            critic_loss = critic_loss + (mine - goal.detach()) ** 2
        for i in range(agents):
            scores = {}
            for b in here:
                done = batch.actions[b, t, i]
                advantage = q[b, t, i, done] - (pi[b, t, i] * q[b, t, i]).sum()
                scores[b] = math.exp(advantage.item() / beta)
            for b in here:
                weight = len(here) * scores[b] / sum(scores.values())
                chance = pi[b, t, i, batch.actions[b, t, i]]
                policy_loss -= k[b, t, i].detach() * weight * chance.log() / agents
    number = real.sum()
    return policy_loss / number + critic_loss / number


def test_the_loss_and_its_gradient_are_those_of_loops():
    temperatures = {"icq_policy_temperature": 0.5, "icq_value_temperature": 3.0}
    networks, batch = random_networks(**KEYS, **temperatures), random_batch()
    view = view_of(networks, batch, **KEYS, **temperatures)
    loss = learning_parts(**KEYS, **temperatures).learning.team_loss(view)
    expected = in_loops(networks, batch, 0.5, 3.0, gamma=0.9)
    torch.testing.assert_close(loss, expected)
    parameters = list(networks[0].parameters())
    mine, theirs = (
        torch.autograd.grad(x, parameters, allow_unused=True) for x in (loss, expected)
    )
    assert sum(p is not None for p in mine) > 6
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
