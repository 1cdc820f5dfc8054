"""Policies, targets and losses of COMA and DOP: pencil numbers, loops, invariances."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from critic_cases import CONFIG, pencil_targets

from rllib_risk.algorithms.actor_critic.losses import (
    actor_loss,
    critic_targets,
    taken_values,
    with_last_actions,
)
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.critics import CounterfactualCritic, DecomposedCritic
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.exploration import action_probabilities


# Agents 1 and 2, gamma lambda = 0.25.
# Time limit: G_2 = 3 + 0.5 (4, 3) = 5, 4.5;
#   G_1 = 2 + 0.25 (3 + 5, 7 + 4.5) = 4, 4.875;
#   G_0 = 1 + 0.25 (6 + 4, 8 + 4.875) = 3.5, 4.21875.
# True end: G_2 = 3, 3; G_1 = 2 + 0.25 (3 + 3, 7 + 3) = 3.5, 4.5;
#   G_0 = 1 + 0.25 (6 + 3.5, 8 + 4.5) = 3.375, 4.125.
@pytest.mark.parametrize(
    ("terminated", "expected"),
    [
        (False, [[3.5, 4.21875], [4.0, 4.875], [5.0, 4.5]]),
        (True, [[3.375, 4.125], [3.5, 4.5], [3.0, 3.0]]),
    ],
)
def test_comas_targets(terminated, expected):
    assert pencil_targets("coma", terminated)[0].tolist() == expected


# On-policy. Q_tot of the actions taken: 6/4 + 3 * 8/4 = 7.5, then 3/4 + 21/4 = 6, and
# after the last step 4/4 + 9/4 = 3.25.
# Time limit: G_2 = 3 + 3.25/2 = 4.625; G_1 = 2 + 0.25 (6 + 4.625) = 4.65625;
#   G_0 = 1 + 0.25 (7.5 + 4.65625) = 4.0390625.
# True end: 3; 2 + 0.25 (6 + 3) = 4.25; 1 + 0.25 (7.5 + 4.25) = 3.9375.
#
# Off-policy. The policy is uniform except in the last row, so E Q_tot is
# 4/4 + 18/4 = 5.5, then 2/4 + 18/4 = 5, then 3.25. Every joint action taken has
# probability 1/4, and gamma lambda / 4 = 0.1.
# delta_0 = 1 + 5.5/2 - 0 = 3.75; delta_1 = 2 + 5/2 - 7.5 = -3;
# delta_2 = 3 + 3.25/2 - 6 = -1.375, or 3 - 6 = -3 at a true end.
# Time limit: y_2 = 4.625; y_1 = 4.5 - 0.1375 = 4.3625;
#   y_0 = 3.75 - 0.3 - 0.01375 = 3.43625.
# True end: y_2 = 3; y_1 = 4.5 - 0.3 = 4.2; y_0 = 3.75 - 0.3 - 0.03 = 3.42.
@pytest.mark.parametrize(
    ("terminated", "on", "off"),
    [
        (False, [4.0390625, 4.65625, 4.625], [3.43625, 4.3625, 4.625]),
        (True, [3.9375, 4.25, 3.0], [3.42, 4.2, 3.0]),
    ],
)
def test_dops_targets(terminated, on, off):
    targets = pencil_targets("dop", terminated, episodes=2)
    assert targets.shape == (2, 3, 1)
    assert targets[0].flatten().tolist() == pytest.approx(on, abs=1e-6)
    assert targets[1].flatten().tolist() == pytest.approx(off, abs=1e-6)


def test_two_steps_of_tree_backup_look_no_further():
    # As above without the 0.01 * delta_2.
    config = dataclasses.replace(CONFIG, tree_backup_steps=2)
    targets = pencil_targets("dop", True, episodes=2, config=config)
    assert targets[1, 0].item() == pytest.approx(3.45, abs=1e-6)


def test_rewards_are_scaled_in_targets():
    # With gamma = 0 the target is the scaled reward.
    config = dataclasses.replace(CONFIG, gamma=0.0, reward_scale=0.1)
    targets = pencil_targets("dop", True, episodes=2, config=config)
    for row in targets:
        assert row.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_the_action_after_the_last_step_is_drawn_from_the_policy():
    # One agent. After the last step its two actions have probabilities 0.2 and 0.8. One
    # standard deviation of the share over 20 000 episodes is 0.003.
    episodes = 20_000
    batch = Batch(
        obs=torch.zeros(episodes, 3, 1, 1),
        state=torch.zeros(episodes, 3, 1),
        action_mask=torch.ones(episodes, 3, 1, 2),
        actions=torch.zeros(episodes, 2, 1, dtype=torch.long),
        rewards=torch.zeros(episodes, 2, 1),
        terminateds=torch.zeros(episodes, 2, 1),
        mask=torch.tensor([1.0, 0.0]).reshape(1, 2, 1).expand(episodes, 2, 1),
    )
    probabilities = torch.tensor([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    probabilities = probabilities.reshape(1, 3, 1, 2).expand(episodes, 3, 1, 2)
    drawn = with_last_actions(batch, probabilities, torch.Generator().manual_seed(0))
    assert not drawn[:, 0].any()
    assert drawn[:, 1].float().mean().item() == pytest.approx(0.8, abs=0.015)


# Random data: three agents, four actions, and the last is never legal.

SIZES = TeamSizes(num_agents=3, num_actions=4, obs_size=5, state_size=6)
LENGTHS = [(6, True), (3, False), (1, True), (4, False)]


def random_batch(seed=0, *, padding=0, episodes=0):
    """Four episodes of one to six steps; more padding and empty episodes on request."""
    rng = np.random.default_rng(seed)
    size, longest = len(LENGTHS) + episodes, 6 + padding
    arrays = {
        "obs": np.zeros((size, longest + 1, 3, 5), np.float32),
        "state": np.zeros((size, longest + 1, 6), np.float32),
        "action_mask": np.ones((size, longest + 1, 3, 4), np.float32),
        "actions": np.zeros((size, longest, 3), np.int64),
        "rewards": np.zeros((size, longest, 1), np.float32),
        "terminateds": np.zeros((size, longest, 1), np.float32),
        "mask": np.zeros((size, longest, 1), np.float32),
    }
    for b, (length, terminated) in enumerate(LENGTHS):
        legal = rng.random((length + 1, 3, 4)) < 0.6
        legal[..., 3] = False
        legal[..., 0] |= ~legal.any(axis=-1)
        arrays["action_mask"][b, : length + 1] = legal
        chosen = (rng.random((length, 3, 4)) * legal[:-1]).argmax(axis=-1)
        arrays["actions"][b, :length] = chosen
        arrays["obs"][b, : length + 1] = rng.normal(size=(length + 1, 3, 5))
        arrays["state"][b, : length + 1] = rng.normal(size=(length + 1, 6))
        arrays["rewards"][b, :length] = rng.normal(size=(length, 1))
        arrays["terminateds"][b, length - 1] = terminated
        arrays["mask"][b, :length] = 1.0
    return Batch(**{key: torch.from_numpy(value) for key, value in arrays.items()})


def random_logits(batch, seed=1):
    """Logits that depend on the observation alone, as a network's do."""
    generator = torch.Generator().manual_seed(seed)
    return batch.obs @ torch.randn(5, 4, generator=generator)


def critic_of(kind):
    torch.manual_seed(7)
    if kind == "coma":
        return CounterfactualCritic(SIZES, hidden_size=8)
    return DecomposedCritic(SIZES, hidden_size=8, bias=True)


KINDS = pytest.mark.parametrize("kind", ["coma", "dop"])


def targets_and_loss(kind, batch, logits, on_policy=2):
    """Targets, the actor's loss and its gradient with respect to the logits."""
    logits = logits.clone().requires_grad_()
    critic = critic_of(kind)
    probabilities = action_probabilities(logits, batch.action_mask, 0.2)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        actions = with_last_actions(batch, probabilities, generator)
    targets = critic_targets(
        critic,
        batch,
        actions,
        probabilities,
        CONFIG,
        on_policy if kind == "dop" else len(batch.obs),
    )
    taken = slice(None, -1)
    inputs = critic.inputs(batch.obs[:, taken], batch.state[:, taken], batch.actions)
    values = critic(inputs)
    weights = critic.weights(batch.state[:, taken])
    loss, stats = actor_loss(probabilities[:, taken], values, weights, batch)
    loss.backward()
    assert all(p.grad is None for p in critic.parameters())
    assert logits.grad is not None
    return targets, loss.item(), logits.grad, stats


@KINDS
@pytest.mark.parametrize(("padding", "episodes"), [(1, 0), (7, 0), (0, 1), (3, 2)])
def test_padding_changes_nothing(kind, padding, episodes):
    """R7: padded steps and episodes, and the action drawn after the last step."""
    small, large = random_batch(), random_batch(padding=padding, episodes=episodes)
    one = targets_and_loss(kind, small, random_logits(small))
    two = targets_and_loss(kind, large, random_logits(large))
    real = small.mask.bool().expand_as(one[0])
    torch.testing.assert_close(two[0][:4, :6][real], one[0][real])
    assert two[1] == pytest.approx(one[1], abs=1e-6)
    torch.testing.assert_close(two[2][:4, :7], one[2])
    assert not two[2][:, 7:].any() and not two[2][4:].any()
    for key, value in one[3].items():
        assert two[3][key].item() == pytest.approx(value.item(), abs=1e-6), key


@KINDS
def test_what_stands_in_the_padding_does_not_matter(kind):
    batch = random_batch()
    expected = targets_and_loss(kind, batch, random_logits(batch))
    odd = random_batch()
    padded = odd.mask[..., 0] == 0
    odd.rewards[padded] = math.nan
    # The row after the last step is real, too.
    beyond = torch.cat([torch.zeros(4, 2, dtype=torch.bool), padded[:, 1:]], dim=1)
    odd.obs[beyond] = 1e3
    odd.state[beyond] = -1e3
    odd.actions[padded] = 2
    got = targets_and_loss(kind, odd, random_logits(odd))
    real = batch.mask.bool().expand_as(expected[0])
    torch.testing.assert_close(got[0][real], expected[0][real])
    assert got[1] == pytest.approx(expected[1], abs=1e-6)
    torch.testing.assert_close(got[2][~beyond], expected[2][~beyond])
    assert not got[2][beyond].any()


@KINDS
@pytest.mark.parametrize("shift", [1e6, -1e6])
def test_illegal_actions_do_not_matter(kind, shift):
    """R8: their logits do not matter, also in the row after the last step."""
    batch = random_batch()
    logits = random_logits(batch)
    shifted = torch.where(batch.action_mask > 0, logits, logits + shift)
    one = targets_and_loss(kind, batch, logits)
    two = targets_and_loss(kind, batch, shifted)
    for mine, other in zip(one[:3], two[:3], strict=True):
        torch.testing.assert_close(torch.as_tensor(mine), torch.as_tensor(other))


@KINDS
@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_a_single_legal_action_has_probability_one_and_no_gradient(kind, shift):
    """R8: one legal action."""
    batch = random_batch()
    batch.action_mask[:] = 0
    batch.action_mask[..., 1] = 1
    batch.actions[:] = 1
    logits = random_logits(batch)
    logits[..., 0] += shift
    targets, loss, gradient, stats = targets_and_loss(kind, batch, logits)
    assert targets.isfinite().all()
    assert loss == 0.0
    assert not gradient.any()
    assert stats["policy_max"] == 1.0 and stats["policy_entropy"] == 0.0


def test_unavailable_actions_have_probability_zero_and_the_others_sum_to_one():
    # Golden fact 26.
    batch = random_batch()
    for epsilon in (0.0, 0.3, 1.0):
        p = action_probabilities(random_logits(batch), batch.action_mask, epsilon)
        assert (p[batch.action_mask == 0] == 0).all()
        torch.testing.assert_close(p.sum(dim=-1), torch.ones(p.shape[:-1]))


def test_hand_worked_probabilities():
    # The third action is not available, the fourth has a very low logit: the softmax
    # is (1/4, 3/4, -, 0). epsilon 0.4 gives each of four actions 0.1:
    # 0.6 (1/4, 3/4, 0) + 0.1 = 0.25, 0.55, 0.1, which sum to 0.9.
    logits = torch.tensor([0.0, math.log(3), 5.0, -1e9])
    p = action_probabilities(logits, torch.tensor([1, 1, 0, 1]), 0.4)
    expected = torch.tensor([0.25, 0.55, 0.0, 0.1]) / 0.9
    torch.testing.assert_close(p, expected)


def test_advantages_have_mean_zero_under_the_policy():
    # Golden fact 26: sum_a pi(a) A(a) = 0.
    batch = random_batch()
    p = action_probabilities(random_logits(batch), batch.action_mask, 0.1)[:, :-1]
    values = torch.randn(p.shape) * 10
    mean = torch.zeros(p.shape[:-1])
    for action in range(4):
        taken = dataclasses.replace(
            batch, actions=torch.full_like(batch.actions, action)
        )
        baseline = (p * values).sum(dim=-1)
        mean += p[..., action] * (taken_values(values, taken.actions) - baseline)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)


def test_with_one_agent_it_is_the_usual_policy_gradient():
    # Golden fact 26: A = Q(u) - V with V = E Q. One step, pi = (1/4, 3/4), Q = (8, 4):
    # V = 5, and the advantage of the first action is 3; L = -3 log(1/4). The gradient
    # with respect to the logits is -A (1_u - pi) = -3 (3/4, -3/4).
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2).requires_grad_()
    batch = Batch(
        obs=torch.zeros(1, 2, 1, 1),
        state=torch.zeros(1, 2, 1),
        action_mask=torch.ones(1, 2, 1, 2),
        actions=torch.zeros(1, 1, 1, dtype=torch.long),
        rewards=torch.zeros(1, 1, 1),
        terminateds=torch.ones(1, 1, 1),
        mask=torch.ones(1, 1, 1),
    )
    p = action_probabilities(logits, batch.action_mask[:, :1], 0.0)
    values = torch.tensor([8.0, 4.0]).reshape(1, 1, 1, 2)
    loss, stats = actor_loss(p, values, torch.ones(1, 1, 1), batch)
    loss.backward()
    assert stats["advantage_mean"].item() == pytest.approx(3.0)
    assert loss.item() == pytest.approx(3 * math.log(4))
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-2.25, 2.25])


@KINDS
def test_the_actors_loss_as_a_loop(kind):
    batch = random_batch()
    critic = critic_of(kind)
    p = action_probabilities(random_logits(batch), batch.action_mask, 0.2)[:, :-1]
    values = torch.randn(p.shape)
    k = critic.weights(batch.state[:, :-1]).detach()
    total, count = 0.0, 0
    for b, (length, _) in enumerate(LENGTHS):
        for t in range(length):
            for i in range(3):
                u = int(batch.actions[b, t, i])
                mean = sum(float(p[b, t, i, a] * values[b, t, i, a]) for a in range(4))
                advantage = float(values[b, t, i, u]) - mean
                total -= float(k[b, t, i]) * advantage * math.log(p[b, t, i, u])
                count += 1
    loss, _ = actor_loss(p, values, k, batch)
    assert count == 14 * 3
    assert loss.item() == pytest.approx(total / count, abs=1e-5)


@KINDS
def test_the_actors_gradient_by_finite_differences(kind):
    """R5: the gradient of `-k A log pi` with a constant advantage, in float64."""
    batch = random_batch()
    batch.mask = batch.mask.double()
    weights = critic_of(kind).weights(batch.state[:, :-1]).detach().double()
    logits = random_logits(batch).double().requires_grad_()
    values = torch.randn(4, 6, 3, 4, dtype=torch.float64)

    def policy(logits):
        return action_probabilities(logits, batch.action_mask, 0.2)[:, :-1]

    loss, _ = actor_loss(policy(logits), values, weights, batch)
    (gradient,) = torch.autograd.grad(loss, logits)
    with torch.no_grad():
        baseline = (policy(logits) * values).sum(dim=-1)
        held = weights * (taken_values(values, batch.actions) - baseline)

    def surrogate(logits):
        taken = taken_values(policy(logits), batch.actions).log()
        real = batch.mask.bool().expand_as(taken)
        return -(held * taken)[real].mean().item()

    torch.manual_seed(0)
    for _ in range(5):
        step = 1e-6 * torch.randn_like(logits)
        with torch.no_grad():
            change = surrogate(logits + step) - surrogate(logits - step)
        expected = 2 * (gradient * step).sum().item()
        assert change == pytest.approx(expected, rel=1e-4, abs=1e-10)


def test_a_probability_that_underflows_leaves_the_loss_finite():
    whole = random_batch()
    first = {k: v[:1] for k, v in vars(whole).items() if v is not None}
    batch = dataclasses.replace(whole, **first)
    logits = torch.zeros(1, 7, 3, 4)
    logits.scatter_(-1, batch.actions[:, :1].expand(-1, 7, -1).unsqueeze(-1), -1e6)
    logits.requires_grad_()
    p = action_probabilities(logits, batch.action_mask, 0.0)[:, :-1]
    loss, _ = actor_loss(p, torch.randn(p.shape), torch.ones(1, 6, 3), batch)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None
    assert logits.grad.isfinite().all()
