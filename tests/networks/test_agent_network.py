"""Encoder and head of one agent."""

import pytest
import torch
from torch import nn

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.agent import AgentNetwork
from rllib_risk.networks.arrays import NUMPY, TORCH
from rllib_risk.networks.encoders import StandardEncoder
from rllib_risk.networks.heads import LinearHead

# Every kind of memory, and none.
BODIES = pytest.mark.parametrize(
    ("recurrent", "rnn_cell"),
    [(True, "gru"), (True, "lstm"), (False, "gru")],
    ids=["gru", "lstm", "none"],
)


def agent(num_atoms, *, recurrent=True, rnn_cell="gru", seed=0):
    torch.manual_seed(seed)
    return network_of(7, num_atoms, 16, recurrent, rnn_cell)


def encoder_of(input_size, hidden_size, recurrent=True, rnn_cell="gru"):
    options = StandardEncoder.Options(hidden_size, recurrent, rnn_cell)
    return StandardEncoder(TeamSizes(1, 4, input_size, 0), input_size, options)


def network_of(input_size, num_atoms, hidden_size, *cell):
    encoder = encoder_of(input_size, hidden_size, *cell)
    return AgentNetwork(encoder, LinearHead(hidden_size, 4, num_atoms))


def test_number_of_parameters():
    # 64 * 15 + 64 in, a GRU of 2 * 3 * 64 * 64 + 2 * 3 * 64 = 24 960, 64 * 4 + 4 out:
    # 9 + 4 + 2 = 15 inputs, 4 actions, 1 atom.
    network = network_of(15, 1, 64, True)
    assert sum(p.numel() for p in network.parameters()) == 26_244
    # Without memory a linear layer of 64 * 64 + 64 replaces the GRU.
    network = network_of(15, 1, 64, False)
    assert sum(p.numel() for p in network.parameters()) == 26_244 - 24_960 + 4_160
    # An LSTM has four gates where a GRU has three: 33 280.
    network = network_of(15, 1, 64, True, "lstm")
    assert sum(p.numel() for p in network.parameters()) == 26_244 - 24_960 + 33_280


@pytest.mark.parametrize("recurrent", [True, False])
def test_layer_norm_comes_before_every_relu(recurrent):
    torch.manual_seed(0)
    options = StandardEncoder.Options(16, recurrent, layer_norm=True)
    encoder = StandardEncoder(TeamSizes(1, 4, 7, 0), 7, options)
    with torch.no_grad():
        for norm in encoder.norms:
            norm.weight.normal_()
            norm.bias.normal_()
    inputs = torch.randn(5, 1, 7)

    def layer(linear, norm, rows):
        rows = linear(rows)
        centred = rows - rows.mean(dim=-1, keepdim=True)
        deviation = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return torch.relu(centred / deviation * norm.weight + norm.bias)

    expected = layer(encoder.fc1, encoder.norms[0], inputs)
    if recurrent:
        assert len(encoder.norms) == 1
        expected = encoder.body(expected)[0]
    else:
        expected = layer(encoder.body, encoder.norms[1], expected)
    torch.testing.assert_close(encoder(inputs, None)[0], expected)
    rows = inputs[:, 0].numpy(), torch.zeros(5, 16).numpy()
    acted = torch.from_numpy(encoder.one_step(NUMPY)(*rows))
    torch.testing.assert_close(acted, expected[:, 0])


@BODIES
def test_encoder_step_by_step(recurrent, rnn_cell):
    torch.manual_seed(0)
    encoder = encoder_of(7, 16, recurrent, rnn_cell)
    inputs = torch.randn(5, 9, 7)
    features, last = encoder(inputs, None)
    state = acted = torch.zeros(5, encoder.state_size)
    for t in range(9):
        step, state = encoder(inputs[:, t : t + 1], state)
        torch.testing.assert_close(step[:, 0], features[:, t])
        rows = inputs[:, t].numpy(), acted.numpy()
        acted = encoder.one_step(TORCH)(inputs[:, t], acted).detach()
        arrays = torch.from_numpy(encoder.one_step(NUMPY)(*rows))
        torch.testing.assert_close(arrays, acted)
        torch.testing.assert_close(acted, state)
        torch.testing.assert_close(acted[:, :16], features[:, t])
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("split", [1, 4, 8])
@BODIES
def test_encoder_goes_on_from_the_state_it_reached(recurrent, rnn_cell, split):
    # As after a burn-in: the first steps only compute the state.
    torch.manual_seed(0)
    encoder = encoder_of(7, 16, recurrent, rnn_cell)
    inputs = torch.randn(5, 9, 7)
    features, last = encoder(inputs, None)
    _, middle = encoder(inputs[:, :split], None)
    rest, end = encoder(inputs[:, split:], middle)
    torch.testing.assert_close(rest, features[:, split:])
    torch.testing.assert_close(end, last)
    # Both halves of an LSTM's state matter. Without memory the state does not matter.
    for start in range(0, encoder.state_size, 16):
        other = middle.detach().clone()
        other[:, start : start + 16] = 0.0
        moved = (encoder(inputs[:, split:], other)[0] - rest).abs().max()
        assert (moved > 1e-3) == recurrent


def test_encoder_is_a_linear_layer_and_a_gru_cell():
    torch.manual_seed(1)
    encoder = encoder_of(7, 16)
    cell = nn.GRUCell(16, 16)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict(
        {name: getattr(encoder.body, f"{name}_l0").detach() for name in names}
    )
    inputs = torch.randn(2, 4, 7)
    features, _ = encoder(inputs, None)
    hidden = torch.zeros(2, 16)
    for t in range(4):
        hidden = cell(torch.relu(encoder.fc1(inputs[:, t])), hidden)
        torch.testing.assert_close(features[:, t], hidden)


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize("num_atoms", [1, 2, 10])
@pytest.mark.parametrize("chosen", ["all", "one", "none"])
def test_atoms_of_is_a_gather_of_atoms(num_atoms, chosen, rnn_cell):
    network = agent(num_atoms, rnn_cell=rnn_cell)
    features = torch.randn(3, 5, 2, 16, requires_grad=True)
    actions = torch.randint(4, (3, 5, 2))
    if chosen == "one":
        actions = torch.full_like(actions, 2)  # no rows for the other actions
    if chosen == "none":
        features, actions = features[:0], actions[:0]
    got = network.atoms_of(features, actions)
    index = actions[..., None, None].expand(*actions.shape, 1, num_atoms)
    expected = network.atoms(features).gather(-2, index).squeeze(-2)
    assert got.shape == (*actions.shape, num_atoms)
    torch.testing.assert_close(got, expected)
    weight = torch.randn_like(got)
    wanted = [features, *network.head.parameters()]
    for left, right in zip(
        torch.autograd.grad((got * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(left, right)
