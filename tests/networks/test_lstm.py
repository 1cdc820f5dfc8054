"""Agents with an LSTM, as in DrIGM: sizes, ReLU, state; and agents without ids."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from team_cases import all_utilities, make_inputs, make_network, of_keys, unroll
from torch import nn

from rllib_risk.core.model import TeamModel
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.encoders import StandardEncoder
from rllib_risk.parts.unroll import Unroll

RISK = {
    "num_atoms": 10,
    "risk_measure": "cvar",
    "risk_mode": "dynamic",
    "risk_levels": 5,
}
HEADS = {
    "values": {},
    "atoms": {"num_atoms": 10, "risk_measure": "cvar", "alpha": 0.3},
    "sampled": {"num_atoms": 6, "quantiles": "sampled"},
}
HIDDEN_SIZE = 16


def parameter_count(module):
    return sum(p.numel() for p in module.parameters())


def test_number_of_parameters_of_the_authors_agents():
    # Six zones, each with 5 observed numbers and 200 actions, a network each and no
    # ids: 205 * 64 + 64 = 13 184 in; an LSTM of 4 * (2 * 64 * 64 + 2 * 64) = 33 280;
    # 64 * 200 + 200 = 13 000 out.
    keys = {"rnn_cell": "lstm", "agent_ids": False, "parameter_sharing": False}
    network = of_keys(TeamSizes(6, 200, 5, 10), **keys)
    assert network.input_size == 205
    assert len(network.agents) == 6
    assert [parameter_count(agent) for agent in network.agents] == [59_464] * 6
    agent = network.agents[0]
    assert parameter_count(agent.encoder.fc1) == 13_184
    assert parameter_count(agent.encoder.body) == 33_280
    assert parameter_count(agent.head) == 13_000
    assert parameter_count(network) == 6 * 59_464


def test_an_id_is_a_column_per_agent():
    sizes = TeamSizes(6, 200, 5, 10)
    with_ids, without = (of_keys(sizes, agent_ids=ids) for ids in (True, False))
    assert with_ids.input_size == without.input_size + 6
    assert parameter_count(with_ids) == parameter_count(without) + 6 * 64


class AuthorsAgent(nn.Module):
    """Linear, ReLU, LSTM, ReLU, linear, from PyTorch's own modules."""

    def __init__(self, agent):
        super().__init__()
        hidden_size, input_size = agent.encoder.fc1.weight.shape
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, batch_first=True)
        self.fc2 = nn.Linear(hidden_size, agent.head.weight.shape[0])
        self.fc1.load_state_dict(agent.encoder.fc1.state_dict())
        self.lstm.load_state_dict(agent.encoder.body.state_dict())
        self.fc2.load_state_dict(agent.head.state_dict())

    def forward(self, inputs):
        output, _ = self.lstm(torch.relu(self.fc1(inputs)))
        return self.fc2(torch.relu(output))


def test_values_are_those_of_the_authors_network():
    network = make_network(rnn_cell="lstm", agent_ids=False, parameter_sharing=False)
    obs, _, actions, _ = make_inputs(network)
    inputs = network.inputs(obs, actions[:, :-1])
    values = all_utilities(network, network.unroll(inputs))
    for i, agent in enumerate(network.agents):
        expected = AuthorsAgent(agent)(inputs[:, :, i])
        torch.testing.assert_close(values[:, :, i], expected.detach())
        # The authors train on windows with a zero state and use only the last step.
        window = AuthorsAgent(agent)(inputs[:, 1:, i])[:, -1].detach()
        ours = agent.atoms(agent.encoder(inputs[:, 1:, i], None)[0])[:, -1, :, 0]
        torch.testing.assert_close(ours.detach(), window)
        assert (window - expected[:, -1]).abs().max() > 1e-4


@pytest.mark.parametrize("keys", HEADS.values(), ids=HEADS.keys())
def test_the_head_reads_the_relu_and_the_features_are_before_it(keys):
    network = make_network(**keys, rnn_cell="lstm")
    obs, _, actions, _ = make_inputs(network)
    encoded = unroll(network, obs, actions)
    assert (encoded.features < -0.1).any() and (encoded.features > 0.1).any()
    atoms, chosen = network.atoms(encoded), network.atoms_of(encoded, actions)
    encoded = Unroll(encoded.features.clamp(min=0), fractions=encoded.fractions)
    assert torch.equal(network.atoms(encoded), atoms)
    assert torch.equal(network.atoms_of(encoded, actions), chosen)
    # The GRU's head reads the features without a ReLU.
    network = make_network(**keys)
    encoded = unroll(network, obs, actions)
    atoms = network.atoms(encoded)
    encoded = Unroll(encoded.features.clamp(min=0), fractions=encoded.fractions)
    assert not torch.equal(network.atoms(encoded), atoms)


def test_qtran_reads_the_output_before_the_relu():
    network = make_network(rnn_cell="lstm", joint_critic="qtran")
    obs, state, actions, _ = make_inputs(network)
    encoded = unroll(network, obs, actions)
    assert encoded.joint is encoded.features
    before = network.joint_values_of(encoded, actions, state)
    encoded.joint = encoded.joint.clamp(min=0)
    after = network.joint_values_of(encoded, actions, state)
    assert (after - before).abs().max() > 1e-3


def test_wqmix_has_central_agents_of_the_same_kind():
    network = make_network(rnn_cell="lstm", joint_critic="wqmix")
    critic = network.joint_critic
    obs, state, actions, _ = make_inputs(network)
    inputs = network.inputs(obs, actions[:, :-1])
    encoded = network.unroll(inputs)
    got = network.joint_values_of(encoded, actions, state)
    body = nn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE, batch_first=True)
    body.load_state_dict(critic.encoder.body.state_dict())
    taken = []
    for i in range(3):
        output, _ = body(torch.relu(critic.encoder.fc1(inputs[:, :, i])))
        values = critic.head(torch.relu(output))
        taken.append(values.gather(-1, actions[:, :, i, None]))
    joint = critic.joint(torch.cat([state, *taken], dim=-1))
    # Two sums in another order; float32 rounding depends on the processor.
    torch.testing.assert_close(got, joint + critic.value(state), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tie", [True, False])
def test_embeddings_are_those_of_the_atoms(tie):
    # The predictor multiplies the linear maps first; this test applies them in turn.
    network = make_network(**RISK, risk_tie_femb=tie, rnn_cell="lstm").double()
    agent = network.agents[0]
    predictor = agent.predictor
    generator = torch.Generator().manual_seed(0)
    features, history = torch.randn(
        2, 5, 7, HIDDEN_SIZE, generator=generator, dtype=torch.float64
    )
    now, expected = agent.atoms(features), agent.atoms(history)
    side = predictor.embed_history(expected.flatten(-2)).unflatten(-1, (-1, 5))
    if tie:
        current = predictor.embed_history(now.flatten(-2)).unflatten(-1, (-1, 5))
    else:
        current = predictor.embed_current(now.flatten(-2)).unsqueeze(-1)
    logits = (current * side).sum(dim=-2) * HIDDEN_SIZE**-0.5
    assert isinstance(predictor.history.body, nn.LSTM)
    torch.testing.assert_close(predictor(features, history, agent.head), logits)


def test_state_is_output_and_cell():
    torch.manual_seed(0)
    options = StandardEncoder.Options(HIDDEN_SIZE, rnn_cell="lstm")
    encoder = StandardEncoder(TeamSizes(1, 1, 7, 0), 7, options)
    cell = nn.LSTMCell(HIDDEN_SIZE, HIDDEN_SIZE)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict(
        {name: getattr(encoder.body, f"{name}_l0").detach() for name in names}
    )
    inputs = torch.randn(2, 4, 7)
    features, last = encoder(inputs, None)
    state = None
    for t in range(4):
        state = cell(torch.relu(encoder.fc1(inputs[:, t])), state)
        torch.testing.assert_close(features[:, t], state[0])
    torch.testing.assert_close(last, torch.cat(state, dim=-1))


@pytest.mark.parametrize(
    ("keys", "size"),
    [({}, 16), ({"rnn_cell": "lstm"}, 32), ({"recurrent": False}, 16)],
    ids=["gru", "lstm", "none"],
)
def test_sizes_of_the_hidden_state(keys, size):
    network = make_network(**keys, **RISK)
    assert network.agents[0].encoder.state_size == size
    shapes = [tuple(part.shape) for part in network.initial_carry(2)]
    # Last action, state, history's state, previous input, and whether there is one.
    assert shapes == [(2, 3, 4), (2, 3, size), (2, 3, size), (2, 3, 12), (2, 1, 1)]
    # Without memory `rnn_cell` has no effect.
    if keys == {"recurrent": False}:
        other = make_network(**keys, **RISK, rnn_cell="lstm")
        assert other.agents[0].encoder.state_size == size
        assert other.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("keys", [{}, RISK], ids=["values", "levels"])
def test_rllibs_model_carries_the_state(keys):
    team = spaces.Dict(
        obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
        state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
        action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
    )
    torch.manual_seed(0)
    model = TeamModel(
        team,
        spaces.MultiDiscrete([4] * 3),
        12,
        {},
        "team",
        hidden_size=HIDDEN_SIZE,
        rnn_cell="lstm",
        agent_ids=False,
        **keys,
    )
    obs, _, actions, mask = make_inputs(model.network)
    expected = all_utilities(model.network, unroll(model.network, obs, actions))
    state = [torch.stack([part] * 3) for part in model.get_initial_state()]
    for t in range(obs.shape[1]):
        observed = {"obs": obs[:, t], "action_mask": mask[:, t]}
        utilities, state = model({"obs": observed}, state, torch.ones(3))
        model.network.remember(state, actions[:, t])
        legal = mask[:, t].bool()
        got = utilities.unflatten(-1, (3, 4))[legal]
        torch.testing.assert_close(got, expected[:, t][legal], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
def test_without_ids_agents_of_one_network_and_equal_histories_are_equal(rnn_cell):
    obs, _, actions, _ = make_inputs(make_network())
    obs[:, :, 1], actions[:, :, 1] = obs[:, :, 0], actions[:, :, 0]

    def utilities(**keys):
        network = make_network(rnn_cell=rnn_cell, **keys)
        return all_utilities(network, unroll(network, obs, actions))

    alike = utilities(agent_ids=False)
    assert torch.equal(alike[:, :, 0], alike[:, :, 1])
    assert not torch.equal(alike[:, :, 0], alike[:, :, 2])
    for keys in ({"agent_ids": True}, {"agent_ids": False, "parameter_sharing": False}):
        apart = utilities(**keys)
        assert not torch.equal(apart[:, :, 0], apart[:, :, 1])
