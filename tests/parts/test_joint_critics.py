"""Joint critics: their sizes, what they read, and that nothing restricts them."""

import functools

import pytest
import torch
from team_cases import choose
from torch.nn import functional as F

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.arrays import TORCH
from rllib_risk.networks.encoders import StandardEncoder
from rllib_risk.parts.agent_parts import make_encoder
from rllib_risk.parts.critics import QtranCritic, WqmixCritic
from rllib_risk.parts.critics.base import make_joint_critic

KINDS = pytest.mark.parametrize("kind", ["qtran", "wqmix"])
INPUT_SIZE, HIDDEN_SIZE = 11, 16


def make(
    kind,
    sizes=None,
    *,
    hidden_size=HIDDEN_SIZE,
    recurrent=True,
    rnn_cell="gru",
    input_size=None,
):
    sizes = sizes or TeamSizes(3, 4, 5, 6)
    input_size = input_size or INPUT_SIZE
    encoder = choose(
        "encoder",
        "standard",
        hidden_size=hidden_size,
        recurrent=recurrent,
        rnn_cell=rnn_cell,
    )
    return make_joint_critic(
        choose("joint_critic", kind),
        sizes,
        input_size,
        hidden_size,
        functools.partial(make_encoder, encoder, sizes, input_size),
    )


def make_critic(kind, seed=0, **keys):
    torch.manual_seed(seed)
    critic = make(kind, **keys).double()
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.normal_(0, 0.5)
    return critic


def make_inputs(seed=0, episodes=2, steps=5):
    """Inputs, features, actions and state of three agents with four actions."""
    generator = torch.Generator().manual_seed(seed)
    lead = (episodes, steps)

    def normal(*shape):
        return torch.randn(*lead, *shape, generator=generator).double()

    actions = torch.randint(4, (*lead, 3), generator=generator)
    return normal(3, INPUT_SIZE), normal(3, HIDDEN_SIZE), actions, normal(6)


def number_of_parameters(module):
    return sum(p.numel() for p in module.parameters())


# MACN's sizes: N = 2, A = 4, S = 56, D = 9, so I = 9 + 4 + 2 = 15; H = 64.
SIZES = TeamSizes(2, 4, 9, 56)


def test_number_of_parameters_of_qtran():
    # e: twice 68 * 68 + 68 = 4692: 9384. Q_jt: (56 + 68) * 64 + 64 = 8000, 64 * 65 =
    # 4160, 65: 12225. V: 56 * 64 + 64 = 3648, 4160, 65: 7873.
    critic = make("qtran", SIZES, hidden_size=64, input_size=15)
    assert number_of_parameters(critic.embed) == 9_384
    assert number_of_parameters(critic.joint) == 12_225
    assert number_of_parameters(critic.value) == 7_873
    assert number_of_parameters(critic) == 9_384 + 12_225 + 7_873


def test_number_of_parameters_of_wqmix():
    # Central agent: 15 * 64 + 64 = 1024, GRU 2 * 3 * (64 * 64 + 64) = 24960, head
    # 65 * 4 = 260: 26244. Mixer: (56 + 2) * 256 + 256 = 15104, twice 256 * 257 = 65792,
    # 257: 146945. V: 56 * 256 + 256 = 14592, 257: 14849.
    critic = make("wqmix", SIZES, hidden_size=64, input_size=15)
    of_agent = number_of_parameters(critic.encoder) + number_of_parameters(critic.head)
    assert of_agent == 26_244
    assert number_of_parameters(critic.joint) == 146_945
    assert number_of_parameters(critic.value) == 14_849
    assert number_of_parameters(critic) == 26_244 + 146_945 + 14_849


@KINDS
@pytest.mark.parametrize("recurrent", [True, False])
def test_shapes(kind, recurrent):
    critic = make_critic(kind, recurrent=recurrent)
    inputs, features, actions, state = make_inputs()
    encoded = critic.encode(inputs, features)
    assert encoded.shape == (2, 5, 3, HIDDEN_SIZE)
    assert critic(encoded, actions, state).shape == (2, 5, 1)
    # The losses read only some of the steps.
    later = critic(encoded[:, 1:], actions[:, 1:], state[:, 1:])
    torch.testing.assert_close(later, critic(encoded, actions, state)[:, 1:])


def relu_layers(network, x):
    """A network of Linear, ReLU, Linear ... from its parameters alone."""
    parameters = list(network.parameters())
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for k, (weight, bias) in enumerate(layers):
        x = weight @ x + bias
        if k < len(layers) - 1:
            x = x.clamp(min=0)
    return x


def test_qtran_by_hand():
    critic = make_critic("qtran")
    inputs, features, actions, state = make_inputs()
    got = critic(critic.encode(inputs, features), actions, state)
    values = critic.state_value(state)
    assert values.shape == (2, 5, 1)
    for b in range(2):
        for t in range(5):
            total = torch.zeros(HIDDEN_SIZE + 4, dtype=torch.float64)
            for i in range(3):
                taken = torch.zeros(4, dtype=torch.float64)
                taken[actions[b, t, i]] = 1.0
                total += relu_layers(
                    critic.embed, torch.cat([features[b, t, i], taken])
                )
            s = state[b, t]
            expected = relu_layers(critic.joint, torch.cat([s, total]))
            torch.testing.assert_close(got[b, t], expected)
            torch.testing.assert_close(values[b, t], relu_layers(critic.value, s))


@pytest.mark.parametrize("recurrent", [True, False])
def test_wqmix_by_hand(recurrent):
    critic = make_critic("wqmix", recurrent=recurrent)
    inputs, features, actions, state = make_inputs()
    got = critic(critic.encode(inputs, features), actions, state)
    for b in range(2):
        hidden = [torch.zeros(1, HIDDEN_SIZE).double() for _ in range(3)]
        for t in range(5):
            taken = []
            for i in range(3):
                hidden[i] = critic.encoder.one_step(TORCH)(
                    inputs[b, t, i][None], hidden[i]
                )
                taken.append(critic.head(hidden[i])[0, actions[b, t, i]])
            s = state[b, t]
            expected = relu_layers(critic.joint, torch.cat([s, torch.stack(taken)]))
            expected = expected + relu_layers(critic.value, s)
            torch.testing.assert_close(got[b, t], expected)


def test_what_trains_the_agents():
    """QTRAN's joint loss reaches the agents' encoder; WQMIX has its own encoder."""
    inputs, _, actions, state = make_inputs()
    for kind, reached in (("qtran", True), ("wqmix", False)):
        torch.manual_seed(0)
        options = StandardEncoder.Options(HIDDEN_SIZE)
        sizes = TeamSizes(3, 4, 5, 6)
        agents = StandardEncoder(sizes, INPUT_SIZE, options).double()
        critic = make_critic(kind)
        rows = inputs.transpose(1, 2).flatten(0, 1)
        features = agents(rows, None)[0].unflatten(0, (2, 3)).transpose(1, 2)
        critic(critic.encode(inputs, features), actions, state).sum().backward()
        of_agents = [p.grad is not None for p in agents.parameters()]
        assert of_agents == [reached] * 6
        own = {n for n, p in critic.named_parameters() if p.grad is not None}
        # Q_jt alone leaves QTRAN's V(s) untouched.
        missing = {
            n.split(".")[0] for n, _ in critic.named_parameters() if n not in own
        }
        assert missing == ({"value"} if kind == "qtran" else set())


def test_wqmix_is_not_monotone():
    """Somewhere a higher central utility lowers the value, elsewhere it raises it."""
    critic = make_critic("wqmix")
    inputs, features, actions, state = make_inputs()
    values = critic.head(critic.encode(inputs, features)).detach()
    taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1).requires_grad_(True)
    total = critic.joint(torch.cat([state, taken], dim=-1)).sum()
    slopes = torch.autograd.grad(total, taken)[0]
    assert (slopes < 0).any()
    assert (slopes > 0).any()


@KINDS
def test_joint_critic_fits_what_no_sum_can(kind):
    """An exclusive or: 1 where two agents differ. The best sum is 1/2, error 1/4."""
    torch.manual_seed(0)
    critic = make(kind, TeamSizes(2, 2, 1, 1), recurrent=False, input_size=5)
    inputs = torch.cat([torch.ones(2, 1), torch.zeros(2, 2), torch.eye(2)], dim=-1)
    features = torch.cat([inputs, torch.zeros(2, HIDDEN_SIZE - 5)], dim=-1)
    actions = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).unsqueeze(1)
    payoffs = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(4, 1, 1)
    state = torch.ones(4, 1, 1)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(300):
        encoded = critic.encode(
            inputs.expand(4, 1, 2, 5), features.expand(4, 1, 2, HIDDEN_SIZE)
        )
        loss = F.mse_loss(critic(encoded, actions, state), payoffs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


@KINDS
def test_order_of_agents(kind):
    """R9: QTRAN sums over agents; WQMIX's mixer depends on their order."""
    critic = make_critic(kind)
    inputs, features, actions, state = make_inputs()
    order = [2, 0, 1]
    plain = critic(critic.encode(inputs, features), actions, state)
    encoded = critic.encode(inputs[:, :, order], features[:, :, order])
    permuted = critic(encoded, actions[:, :, order], state)
    assert torch.allclose(plain, permuted) == (kind == "qtran")


def test_which_is_made():
    assert make("none") is None
    assert isinstance(make("qtran"), QtranCritic)
    assert isinstance(make("wqmix"), WqmixCritic)


def test_critics_that_cannot_be_made():
    with pytest.raises(ValueError, match="joint_critic: 'vdn' is not a known name"):
        make("vdn")
    for kind in ("qtran", "wqmix"):
        with pytest.raises(ValueError, match=f"'{kind}' needs a state"):
            make(kind, TeamSizes(2, 3, 4, 0))
