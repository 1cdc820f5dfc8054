"""Centralised critics: their inputs, values and mixing."""

import pytest
import torch

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.critics import CounterfactualCritic, DecomposedCritic

SIZES = TeamSizes(num_agents=3, num_actions=4, obs_size=5, state_size=6)


def coma(seed=0):
    torch.manual_seed(seed)
    return CounterfactualCritic(SIZES, hidden_size=16)


def dop(seed=0, *, bias=False):
    torch.manual_seed(seed)
    return DecomposedCritic(SIZES, hidden_size=16, bias=bias)


def rows(seed=0, episodes=2, steps=4):
    """Observations, states and actions of some episodes."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(episodes, steps, 3, 5, generator=generator)
    state = torch.randn(episodes, steps, 6, generator=generator)
    actions = torch.randint(4, (episodes, steps, 3), generator=generator)
    return obs, state, actions


def test_the_layout_of_comas_input():
    # Golden fact 26: S + O + 2 N A + N = 1 + 2 + 2 * 2 * 3 + 2 = 17. Two agents take
    # (2, 0) and then (1, 2).
    critic = CounterfactualCritic(TeamSizes(2, 3, 2, 1), hidden_size=4)
    assert critic.input_size == 17
    obs = torch.tensor([[[[10.0, 11.0], [20.0, 21.0]], [[12.0, 13.0], [22.0, 23.0]]]])
    state = torch.tensor([[[7.0], [8.0]]])
    actions = torch.tensor([[[2, 0], [1, 2]]])
    expected = [
        # state, observation, joint action without its own, the one before, id
        [7, 10, 11, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        [7, 20, 21, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [8, 12, 13, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0],
        [8, 22, 23, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1],
    ]
    inputs = critic.inputs(obs, state, actions)
    assert inputs.shape == (1, 2, 2, 17)
    assert inputs.reshape(4, 17).tolist() == expected
    assert critic(inputs).shape == (1, 2, 2, 3)


@pytest.mark.parametrize("agent", range(3))
def test_coma_reads_what_the_others_do_and_not_what_the_agent_does(agent):
    # Golden fact 26.
    critic = coma()
    obs, state, actions = rows()
    values = critic(critic.inputs(obs, state, actions))
    changed = actions.clone()
    changed[:, 2, agent] = (changed[:, 2, agent] + 1) % 4
    after = critic(critic.inputs(obs, state, changed))
    others = [i for i in range(3) if i != agent]
    assert torch.equal(after[:, :2], values[:, :2])
    assert torch.equal(after[:, 2, agent], values[:, 2, agent])
    for other in others:
        assert not torch.equal(after[:, 2, other], values[:, 2, other])
    # One step later every agent's input contains it as the last joint action.
    for anyone in range(3):
        assert not torch.equal(after[:, 3, anyone], values[:, 3, anyone])


def test_coma_weighs_all_agents_alike_and_mixes_nothing():
    critic = coma()
    state, values = torch.randn(2, 4, 6), torch.randn(2, 4, 3)
    assert torch.equal(critic.weights(state), torch.ones(2, 4, 3))
    assert critic.mix(values, state) is values
    assert critic.mixing_parameters() == []


def test_number_of_parameters():
    # COMA, width 16: input 6 + 5 + 2 * 3 * 4 + 3 = 38, then 38 * 16 + 16, 16 * 16 + 16,
    # 16 * 4 + 4: 624 + 272 + 68 = 964.
    assert sum(p.numel() for p in coma().parameters()) == 964
    # DOP: input 6 + 5 + 3 = 14, 14 * 16 + 16 + 272 + (16 * 5 + 5) = 597; mixing
    # 6 * 96 + 96 + 6 * 32 + 32 = 896; and b 6 * 32 + 32 + 32 + 1 = 257.
    critic = dop()
    assert sum(p.numel() for p in critic.value_parameters()) == 597
    assert sum(p.numel() for p in critic.mixing_parameters()) == 896
    biased = dop(bias=True)
    assert sum(p.numel() for p in biased.mixing_parameters()) == 896 + 257
    assert sum(p.numel() for p in biased.parameters()) == 597 + 896 + 257


def test_dops_values_do_not_depend_on_any_action():
    critic = dop()
    obs, state, actions = rows()
    inputs = critic.inputs(obs, state, actions)
    assert inputs.shape[-1] == critic.input_size == 14
    assert torch.equal(inputs, critic.inputs(obs, state, (actions + 1) % 4))
    torch.testing.assert_close(inputs[1, 2, 1, :6], state[1, 2])
    torch.testing.assert_close(inputs[1, 2, 1, 6:11], obs[1, 2, 1])
    assert inputs[1, 2, 1, 11:].tolist() == [0, 1, 0]


def test_dops_value_is_advantage_plus_value_without_centring():
    critic = dop()
    with torch.no_grad():
        for parameter in critic.body.parameters():
            parameter.zero_()
        critic.body[-1].bias.copy_(torch.tensor([1.0, 2.0, 4.0, 8.0, 100.0]))
    values = critic(critic.inputs(*rows()))
    assert values[0, 0, 0].tolist() == [101, 102, 104, 108]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bias", [False, True])
def test_dops_total_is_linear_in_the_agents_values(seed, bias):
    # Golden fact 27.
    critic = dop(seed, bias=bias)
    state = torch.randn(2, 4, 6) * 3
    k = critic.weights(state)
    assert (k >= 0).all()
    torch.testing.assert_close(k.sum(dim=-1), torch.ones(2, 4))
    values = torch.randn(2, 4, 3, requires_grad=True)
    total = critic.mix(values, state)
    assert total.shape == (2, 4, 1)
    (slopes,) = torch.autograd.grad(total.sum(), values)
    torch.testing.assert_close(slopes, k)
    at_zero = critic.mix(torch.zeros(2, 4, 3), state)
    linear = (k * values).sum(dim=-1, keepdim=True)
    torch.testing.assert_close(total - at_zero, linear)
    # At values of zero the total is b(s), or 0 without a bias.
    assert bool(at_zero.any()) is bias


def test_dops_weights_depend_on_the_state():
    # Golden fact 27 does not say what k depends on: here on the state alone.
    critic = dop()
    with torch.no_grad():
        for parameter in critic.mixing_parameters():
            parameter.zero_()
        # Agent i's row of the first matrix is -(i + 1); the critic drops the signs.
        critic.first.bias.copy_(-torch.arange(1.0, 4.0).repeat_interleave(32))
        critic.second.bias.fill_(-1.0)
        critic.first.weight[:32, 0] = -2.0
    state = torch.zeros(2, 6)
    state[1, 0] = 1.0
    # (1, 2, 3) / 6; in the second state agent 0 has 1 + 2: (3, 2, 3) / 8.
    expected = torch.tensor([[1 / 6, 2 / 6, 3 / 6], [3 / 8, 2 / 8, 3 / 8]])
    torch.testing.assert_close(critic.weights(state), expected)
