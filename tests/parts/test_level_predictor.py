"""Where the risk level predictor's gradients go, and when it recomputes."""

import copy

import pytest
import torch
from team_cases import gradients, make_inputs, make_network, unroll

from rllib_risk.parts.mixers import MixerInputs

RMIX = {
    "num_atoms": 10,
    "risk_measure": "cvar",
    "risk_mode": "dynamic",
    "risk_levels": 5,
    "mixer": "qmix",
}


def is_zero(gradient):
    return gradient is None or not gradient.any()


def value_gradients(**keys):
    network = make_network(**{**RMIX, **keys}).double()
    obs, state, actions, _ = make_inputs(network)
    encoded = unroll(network, obs, actions)
    utilities = network.utilities_of(encoded, actions)
    network.mixer(MixerInputs(utilities, state, actions)).sum().backward()
    return gradients(network)


def of_predictor(grads):
    return {k: v for k, v in grads.items() if "predictor" in k}


@pytest.mark.parametrize("sharing", [True, False])
def test_frozen_predictor_does_not_learn(sharing):
    grads = value_gradients(risk_grad="frozen", parameter_sharing=sharing)
    predictor = of_predictor(grads)
    assert predictor
    assert all(is_zero(gradient) for gradient in predictor.values())
    assert all(grads[k].any() for k in grads if k not in predictor)


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("tie", [True, False])
def test_straight_through_predictor_learns(sharing, tie, rnn_cell):
    grads = value_gradients(
        parameter_sharing=sharing, risk_tie_femb=tie, rnn_cell=rnn_cell
    )
    predictor = of_predictor(grads)
    # Per agent: the history's fc1 (2), GRU or LSTM (4) and one or two embeddings.
    assert len(predictor) == (1 if sharing else 3) * (7 if tie else 8)
    assert all(not is_zero(gradient) for gradient in predictor.values())


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
def test_history_may_be_kept_from_learning(rnn_cell):
    grads = value_gradients(risk_history_trains=False, rnn_cell=rnn_cell)
    predictor = of_predictor(grads)
    for name, gradient in predictor.items():
        assert is_zero(gradient) == ("history.fc1" in name or "history.body" in name)


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize("tie", [True, False])
def test_predictor_sends_nothing_into_the_agent(tie, rnn_cell):
    network = make_network(**RMIX, risk_tie_femb=tie, rnn_cell=rnn_cell)
    obs, _, actions, _ = make_inputs(network)
    unroll(network, obs, actions).level_logits.square().sum().backward()
    grads = gradients(network)
    for name in of_predictor(grads):
        assert not is_zero(grads[name]), name
    for name in grads.keys() - of_predictor(grads).keys():
        assert is_zero(grads[name]), name


def test_agent_learns_the_same_whether_or_not_the_predictor_does():
    trained, frozen = value_gradients(), value_gradients(risk_grad="frozen")
    for name in trained.keys() - of_predictor(trained).keys():
        torch.testing.assert_close(trained[name], frozen[name])


def test_default_scale_and_embedding_size():
    network = make_network(**RMIX)
    predictor = network.agents[0].predictor
    assert predictor.scale == 16**-0.5
    assert predictor.embed_dim == network.sizes.num_agents
    assert make_network(**RMIX, risk_logit_scale=2.0).agents[0].predictor.scale == 2.0
    assert make_network(**RMIX, risk_embed_dim=7).agents[0].predictor.embed_dim == 7


def logits_without_gradient(network):
    obs, _, actions, _ = make_inputs(network)
    with torch.no_grad():
        return unroll(network, obs, actions).level_logits


def logits_with_gradient(network):
    # With gradients the predictor caches nothing between calls.
    obs, _, actions, _ = make_inputs(network)
    return unroll(network, obs, actions).level_logits.detach()


def optimizer_step(network):
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    obs, _, actions, _ = make_inputs(network)
    encoded = unroll(network, obs, actions)
    network.utilities_of(encoded, actions).sum().backward()
    optimizer.step()


def load_other_weights(network):
    network.load_state_dict(make_network(seed=1, **RMIX).state_dict())


def polyak_step(network):
    other = make_network(seed=1, **RMIX)
    with torch.no_grad():
        torch._foreach_lerp_(list(network.parameters()), list(other.parameters()), 0.5)


@pytest.mark.parametrize("change", [optimizer_step, load_other_weights, polyak_step])
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_acting_notices_new_weights(change, guard):
    network = make_network(**RMIX)
    with guard():
        before = logits_without_gradient(network)
        assert torch.equal(logits_without_gradient(network), before)
    change(network)
    with guard():
        after = logits_without_gradient(network)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, logits_with_gradient(network))


def test_a_copied_network_keeps_its_weights():
    network = make_network(**RMIX)
    before = logits_without_gradient(network)
    target = copy.deepcopy(network)
    optimizer_step(network)
    torch.testing.assert_close(logits_without_gradient(target), before)
    torch.testing.assert_close(
        logits_without_gradient(network), logits_with_gradient(network)
    )
