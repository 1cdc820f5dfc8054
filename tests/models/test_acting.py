"""The two actors do the same thing, and the same as the network over whole episodes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rllib_risk.models.acting import NumpyActor, TorchActor, make_actor
from rllib_risk.models.team import TeamNetwork, TeamNetworkConfig, TeamSizes

SIZES = TeamSizes(num_agents=3, num_actions=4, obs_size=5, state_size=0)
ENVS, STEPS = 4, 6

CONFIGS = {
    "plain values": {},
    "atoms, mean": {"num_atoms": 7},
    "static level": {"num_atoms": 7, "risk_mode": "static", "alpha": 0.3},
    "dynamic level": {"num_atoms": 7, "risk_mode": "dynamic", "risk_levels": 5},
    "no lag": {"num_atoms": 7, "risk_mode": "dynamic", "risk_history_lag": 0},
    "tied": {"num_atoms": 7, "risk_mode": "dynamic", "risk_tie_femb": True},
    "scaled": {"num_atoms": 7, "risk_mode": "dynamic", "risk_logit_scale": 30.0},
}


def make_network(**config) -> TeamNetwork:
    torch.manual_seed(0)
    network = TeamNetwork(SIZES, TeamNetworkConfig(hidden_size=16, **config))
    with torch.no_grad():
        # Fresh weights are so small that gates and levels would hardly differ.
        for parameter in network.parameters():
            parameter.mul_(3.0)
    return network


def observations(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    obs = rng.standard_normal((ENVS, 3, 5)).astype(np.float32)
    action_mask = (rng.random((ENVS, 3, 4)) < 0.7).astype(np.uint8)
    action_mask[..., 0] = 1
    return obs, action_mask


@pytest.mark.parametrize(
    ("name", "sharing", "recurrent"),
    list(itertools.product(CONFIGS, (True, False), (True, False))),
)
def test_numpy_actor_acts_as_the_torch_network_does(name, sharing, recurrent):
    network = make_network(
        **CONFIGS[name], parameter_sharing=sharing, recurrent=recurrent
    )
    actors = NumpyActor(network, ENVS), TorchActor(network, ENVS)
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        obs, action_mask = observations(rng)
        (ours, our_levels), (theirs, their_levels) = (
            actor.act(obs, action_mask) for actor in actors
        )
        np.testing.assert_array_equal(ours, theirs)
        assert (our_levels is None) == (network.config.risk_mode != "dynamic")
        if our_levels is not None:
            np.testing.assert_array_equal(our_levels, their_levels)
        taken = rng.integers(4, size=(ENVS, 3))
        for actor in actors:
            actor.remember(taken)
            if step == 2:
                actor.reset(np.array([1, 3]))


@pytest.mark.parametrize("actor_class", [NumpyActor, TorchActor])
def test_acting_and_unrolling_give_the_same_actions_and_levels(actor_class):
    network = make_network(**CONFIGS["dynamic level"])
    actor = actor_class(network, ENVS)
    rng = np.random.default_rng(2)
    history = []
    for _ in range(STEPS):
        obs, action_mask = observations(rng)
        actions, levels = actor.act(obs, action_mask)
        taken = rng.integers(4, size=(ENVS, 3))
        actor.remember(taken)
        history.append((obs, action_mask, actions, levels, taken))
    obs, action_mask, actions, levels, taken = (
        torch.from_numpy(np.stack(column, axis=1))
        for column in zip(*history, strict=True)
    )
    unroll = network.unroll(network.inputs(obs, taken[:, :-1]))
    assert torch.equal(network.greedy_actions(unroll, action_mask), actions)
    assert torch.equal(unroll.level_logits.argmax(dim=-1), levels)


@pytest.mark.parametrize("actor_class", [NumpyActor, TorchActor])
def test_after_reset_an_actor_is_as_new(actor_class):
    network = make_network(**CONFIGS["dynamic level"])
    used, new = actor_class(network, ENVS), actor_class(network, ENVS)
    rng = np.random.default_rng(3)
    for _ in range(3):
        used.act(*observations(rng))
        used.remember(rng.integers(4, size=(ENVS, 3)))
    used.reset(np.arange(ENVS))
    for _ in range(3):
        seen = observations(rng)
        for ours, theirs in zip(used.act(*seen), new.act(*seen), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        taken = rng.integers(4, size=(ENVS, 3))
        used.remember(taken)
        new.remember(taken)


def test_a_new_actor_has_the_new_weights():
    network = make_network(**CONFIGS["static level"])
    seen = observations(np.random.default_rng(4))
    before, _ = make_actor(network, ENVS).act(*seen)
    with torch.no_grad():
        network.agents[0].head.bias.zero_()
        network.agents[0].head.weight.zero_()
        # All atoms of action 0 are 1, those of the others 0; action 0 is always legal.
        network.agents[0].head.bias[:7] = 1.0
    after, _ = make_actor(network, ENVS).act(*seen)
    assert (before != 0).any()
    np.testing.assert_array_equal(after, np.zeros((ENVS, 3)))
