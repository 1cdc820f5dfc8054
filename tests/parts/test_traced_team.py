"""A traced team acts as the network from which it was traced."""

import numpy as np
import pytest
import torch
from exported import KINDS
from team_cases import make_network

from rllib_risk.deploy.graph import Graph
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.tracing import UntraceableError
from rllib_risk.parts.acting import make_actor
from rllib_risk.parts.traced_team import trace_team

ENVS, AGENTS, ACTIONS, OBS = 3, 3, 4, 5


def play(network, traced, window, padded, steps=8):
    """Compares both for some steps. Episode 1 ends after the fifth step."""
    graphs = [Graph(record, traced.tensors) for record in traced.networks]
    actor = make_actor(network, ENVS, window, padded=padded)
    rng = np.random.default_rng(0)
    memory = np.tile(traced.memory, (ENVS, 1, 1))
    last = np.full((ENVS, AGENTS), traced.first_action)
    agent = np.tile(np.arange(AGENTS), (ENVS, 1))
    known = np.array(network.risk.levels, np.float32)
    for step in range(steps):
        if step == 5:
            actor.reset(np.array([1]))
            memory[1], last[1] = traced.memory, traced.first_action
        obs = rng.normal(size=(ENVS, AGENTS, OBS)).astype(np.float32)
        mask = rng.random((ENVS, AGENTS, ACTIONS)) < 0.7
        mask[..., 0] = True
        utilities, levels = actor.act(obs, mask.astype(np.uint8))
        given = {
            "obs": obs,
            "action_mask": mask,
            "last_action": last,
            "agent": agent,
            "memory": memory,
        }
        for i in range(AGENTS):
            out = graphs[i % len(graphs)]({k: v[:, i] for k, v in given.items()})
            np.testing.assert_allclose(out["utilities"], utilities[:, i], atol=1e-5)
            assert (out["action"] == utilities[:, i].argmax(-1)).all()
            expected = known[0] if levels is None else known[levels[:, i]]
            assert (out["risk_level"] == expected).all()
            memory[:, i] = out["next_memory"]
        last = utilities.argmax(-1)
        actor.remember(last)


@pytest.mark.parametrize(
    ("window", "padded"), [(None, False), (1, False), (3, False), (3, True)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_traced_team_acts_as_its_network(kind, window, padded):
    network = make_network(3, num_agents=AGENTS, num_actions=ACTIONS, **KINDS[kind])
    traced = trace_team(network, window, padded=padded)
    play(network, traced, window, padded)


class Sum(Encoder):
    """A user's own encoder that sums its features and has `one_step`."""

    def __init__(self, sizes, input_size, options=None):
        super().__init__(sizes, input_size, options)
        self.layer = torch.nn.Linear(input_size, 6)
        self.feature_size = 6

    def forward(self, inputs, state):
        state = inputs.new_zeros(inputs.shape[0], 6) if state is None else state
        features = state.unsqueeze(1) + self.layer(inputs).relu().cumsum(dim=1)
        return features, features[:, -1]

    def one_step(self, xp):
        linear = xp.linear(self.layer)
        return lambda inputs, state: state + xp.relu(linear(inputs))


class Stepless(Sum):
    """The same encoder without `one_step`."""

    one_step = Encoder.one_step


class Branching(Sum):
    """Its `one_step` branches on values, which a list of operations cannot do."""

    def one_step(self, xp):
        return lambda inputs, state: inputs if (state > 0.0) else state


def test_an_encoder_of_ones_own_is_exported():
    network = make_network(encoder=f"{__name__}:Sum")
    play(network, trace_team(network), None, False)


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [("Stepless", "test_traced_team:Stepless defines no one_step"), ("Branching", "")],
)
def test_what_is_no_list_of_operations_is_refused(encoder, reason, monkeypatch):
    # Such an encoder cannot act either, so the check of its shape refuses it first.
    network = make_network(encoder=f"{__name__}:Sum")
    monkeypatch.setattr(Sum, "one_step", globals()[encoder].one_step)
    if encoder == "Stepless":
        network = make_network(encoder=f"{__name__}:Stepless")
    with pytest.raises(UntraceableError, match=f"cannot be exported: .*{reason}"):
        trace_team(network)
