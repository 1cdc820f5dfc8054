"""The reward model: its size and its inputs."""

import pytest
import torch
from torch.nn import functional as F

from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.networks.reward_model import RewardModel


def make_model(num_groups=3, seed=0):
    """Two agents with three actions, a state of four numbers."""
    torch.manual_seed(seed)
    return RewardModel(TeamSizes(2, 3, 5, 4), num_groups).double()


def make_inputs(episodes=2, steps=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(episodes, steps, 4, generator=generator).double()
    actions = torch.randint(3, (episodes, steps, 2), generator=generator)
    return state, actions, torch.arange(steps).double().expand(episodes, steps)


def test_number_of_parameters():
    # OfficeSmall with six cities: six agents, 200 actions each, a state of 10. State
    # 10 * 64 + 64 = 704, joint action 1200 * 64 + 64 = 76 864, time 64 + 64 = 128, all
    # three 192 * 64 + 64 = 12 352, output 64 * 6 + 6 = 390; and the time's scale.
    model = RewardModel(TeamSizes(6, 200, 5, 10), 6)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 704 + 76_864 + 128 + 12_352 + 390 == 90_438
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        "time_scale"
    ]


def test_it_is_the_network_of_one_hot_actions():
    model, (state, actions, steps) = make_model(), make_inputs()
    model.set_time_scale(8)
    one_hot = F.one_hot(actions, 3).flatten(-2).double()  # [B, T, 6]
    time = steps.unsqueeze(-1) / 8.0
    encoded = [model.state(state), model.joint(one_hot), model.time(time)]
    hidden = model.hidden(torch.cat(encoded, dim=-1).relu()).relu()
    expected = model.output(hidden)
    predicted = model(state, actions, steps)
    assert predicted.shape == (2, 5, 3)
    torch.testing.assert_close(predicted, expected)


def test_time_is_divided_by_its_scale():
    model, (state, actions, steps) = make_model(), make_inputs()
    model.set_time_scale(10)
    slow = model(state, actions, 3 * steps)
    model.set_time_scale(30)
    torch.testing.assert_close(model(state, actions, 9 * steps), slow)
    assert not torch.allclose(model(state, actions, 3 * steps), slow)


def test_state_and_groups_are_needed():
    with pytest.raises(NeedsStateError, match="needs a state"):
        RewardModel(TeamSizes(2, 3, 5, 0), 2)
    with pytest.raises(ValueError, match="at least two groups, not 1"):
        RewardModel(TeamSizes(2, 3, 5, 4), 1)
