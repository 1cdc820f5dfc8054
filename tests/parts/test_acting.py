"""Both actors act alike, and as the network does over whole episodes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from team_cases import of_keys

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.acting import NumpyActor, TorchActor, make_actor
from rllib_risk.parts.risk import RiskMeasure
from rllib_risk.parts.team import TeamNetwork

SIZES = TeamSizes(num_agents=3, num_actions=4, obs_size=5, state_size=0)
ENVS, STEPS = 4, 6


class LowestAndSpread(RiskMeasure):
    """A user's own measure: the worst quantile, less a share of the spread."""

    def __init__(self, num_atoms: int, share: float = 0.25) -> None:
        super().__init__(num_atoms)
        self.share = share

    def forward(self, atoms, level_logits=None):
        return self.of_samples(atoms)

    def distort(self, fractions):
        return fractions.square()

    def of_samples(self, atoms):
        lowest = atoms.amin(dim=-1)
        return lowest - self.share * (atoms.amax(dim=-1) - lowest)


OWN = {
    "risk_measure": f"{__name__}:LowestAndSpread",
    "risk_kwargs": {"share": 0.5},
}
DYNAMIC = {"num_atoms": 7, "risk_measure": "cvar", "risk_mode": "dynamic"}
MEASURES = {
    "mean": {},
    "cvar": {"risk_measure": "cvar", "alpha": 0.3},
    "var": {"risk_measure": "var", "alpha": 0.3},
    "wang": {"risk_measure": "wang"},
    "cpw": {"risk_measure": "cpw"},
    "power": {"risk_measure": "power", "risk_parameter": 1.5},
    "mean-variance": {"risk_measure": "mean_variance", "risk_parameter": 2.0},
    "own": OWN,
}
CONFIGS = {
    "plain values": {},
    "dynamic level": {**DYNAMIC, "risk_levels": 5},
    "dynamic quantile": {**DYNAMIC, "risk_measure": "var", "risk_levels": 5},
    "no lag": {**DYNAMIC, "risk_history_lag": 0},
    "tied": {**DYNAMIC, "risk_tie_femb": True},
    "scaled": {**DYNAMIC, "risk_logit_scale": 30.0},
    "shared fractions": {
        "num_atoms": 7,
        "quantiles": "sampled",
        "quantile_hidden_layer": False,
        "shared_fractions": True,
    },
}
for _name, _keys in MEASURES.items():
    CONFIGS[f"atoms, {_name}"] = {"num_atoms": 7, **_keys}
    CONFIGS[f"sampled, {_name}"] = {"num_atoms": 7, "quantiles": "sampled", **_keys}


BODIES = {
    "gru": {},
    "lstm": {"rnn_cell": "lstm"},
    "no ids": {"agent_ids": False},
    "lstm, no ids": {"rnn_cell": "lstm", "agent_ids": False},
    "no memory": {"recurrent": False},
    "layer norm": {"layer_norm": True},
    "layer norm, no memory": {"layer_norm": True, "recurrent": False},
    "no last action": {"obs_last_action": False},
    "observation alone": {"obs_last_action": False, "agent_ids": False},
}


def make_network(**config) -> TeamNetwork:
    torch.manual_seed(0)
    network = of_keys(SIZES, hidden_size=16, **config)
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


def act_alike(actors, obs, action_mask, predicted):
    """One step of both actors, which must agree."""
    (ours, our_levels), (theirs, their_levels) = (
        actor.act(obs, action_mask) for actor in actors
    )
    assert ours.shape == (ENVS, 3, 4) and ours.dtype == np.float32
    np.testing.assert_array_equal(np.isneginf(ours), action_mask == 0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours.argmax(axis=-1), theirs.argmax(axis=-1))
    assert (our_levels is None) == (not predicted)
    if our_levels is not None:
        np.testing.assert_array_equal(our_levels, their_levels)


@pytest.mark.parametrize(
    ("name", "sharing", "body"),
    list(itertools.product(CONFIGS, (True, False), BODIES)),
)
def test_numpy_actor_acts_as_the_torch_network_does(name, sharing, body):
    network = make_network(**CONFIGS[name], **BODIES[body], parameter_sharing=sharing)
    actors = NumpyActor(network, ENVS), TorchActor(network, ENVS)
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        obs, action_mask = observations(rng)
        act_alike(actors, obs, action_mask, network.level.predicted)
        taken = rng.integers(4, size=(ENVS, 3))
        for actor in actors:
            actor.remember(taken)
            if step == 2:
                actor.reset(np.array([1, 3]))


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("actor_class", [NumpyActor, TorchActor])
def test_acting_and_unrolling_give_the_same_actions_and_levels(
    actor_class, name, sharing, rnn_cell
):
    # Sampled quantiles: without a generator the learner uses the actors' midpoints.
    network = make_network(
        **CONFIGS[name], parameter_sharing=sharing, rnn_cell=rnn_cell
    )
    actor = actor_class(network, ENVS)
    rng = np.random.default_rng(2)
    history = []
    for _ in range(STEPS):
        obs, action_mask = observations(rng)
        utilities, levels = actor.act(obs, action_mask)
        taken = rng.integers(4, size=(ENVS, 3))
        actor.remember(taken)
        history.append((obs, action_mask, utilities, taken))
        if levels is not None:
            history[-1] += (levels,)
    obs, action_mask, utilities, taken, *levels = (
        torch.from_numpy(np.stack(column, axis=1))
        for column in zip(*history, strict=True)
    )
    unroll = network.unroll(network.inputs(obs, taken[:, :-1]))
    greedy = network.greedy_actions(unroll, action_mask)
    assert len(greedy.unique()) > 1
    assert torch.equal(greedy, utilities.argmax(dim=-1))
    legal = action_mask.bool()
    learned = network.utilities(unroll, action_mask)
    torch.testing.assert_close(learned[legal], utilities[legal], rtol=1e-4, atol=1e-5)
    assert bool(levels) == (unroll.level_logits is not None)
    if levels:
        assert torch.equal(unroll.level_logits.argmax(dim=-1), levels[0])


@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize("name", ["dynamic level", "sampled, cvar"])
@pytest.mark.parametrize("actor_class", [NumpyActor, TorchActor])
def test_after_reset_an_actor_is_as_new(actor_class, name, rnn_cell):
    network = make_network(**CONFIGS[name], rnn_cell=rnn_cell)
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
    network = make_network(**CONFIGS["atoms, cvar"])
    seen = observations(np.random.default_rng(4))
    before, _ = make_actor(network, ENVS).act(*seen)
    with torch.no_grad():
        network.agents[0].head.bias.zero_()
        network.agents[0].head.weight.zero_()
        # All atoms of action 0 are 1, those of the others 0; action 0 is always legal.
        network.agents[0].head.bias[:7] = 1.0
    after, _ = make_actor(network, ENVS).act(*seen)
    assert (before.argmax(axis=-1) != 0).any()
    np.testing.assert_allclose(after[..., 0], 1.0, rtol=1e-6)
    assert (after[..., 1:] <= 0.0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_refreshed_actor_has_the_new_weights_and_its_memory(name):
    network = make_network(**CONFIGS[name])
    actors = NumpyActor(network, ENVS), TorchActor(network, ENVS)
    rng = np.random.default_rng(7)
    for step in range(STEPS):
        act_alike(actors, *observations(rng), network.level.predicted)
        taken = rng.integers(4, size=(ENVS, 3))
        for actor in actors:
            actor.remember(taken)
        if step == 2:
            for parameter in network.parameters():  # in new memory
                parameter.data = parameter.data.flip(0).clone()
            for actor in actors:
                actor.refresh()


@pytest.mark.parametrize("quantiles", ["fixed", "sampled"])
@pytest.mark.parametrize("measure", ["cvar", "var"])
@pytest.mark.parametrize("actor_class", [NumpyActor, TorchActor])
def test_a_new_actor_has_the_new_level(actor_class, measure, quantiles):
    # The level of one network moves from 0.3 to 0.8. The other is built with 0.8.
    keys = {"num_atoms": 7, "quantiles": quantiles, "risk_measure": measure}
    moved, other = (make_network(**keys, alpha=alpha) for alpha in (0.3, 0.8))
    seen = observations(np.random.default_rng(5))
    before, _ = actor_class(moved, ENVS).act(*seen)
    moved.risk.set_level(0.8)
    after, _ = actor_class(moved, ENVS).act(*seen)
    expected, _ = actor_class(other, ENVS).act(*seen)
    np.testing.assert_array_equal(after, expected)
    legal = seen[1] > 0
    assert np.abs(after[legal] - before[legal]).max() > 1e-3


def test_acting_with_sampled_quantiles_repeats():
    # Acting uses midpoints instead of draws, so an evaluation can repeat it.
    network = make_network(**CONFIGS["sampled, mean"])
    seen = observations(np.random.default_rng(6))
    first, second = (make_actor(network, ENVS).act(*seen)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["plain values", "dynamic level"])
@pytest.mark.parametrize("rnn_cell", ["gru", "lstm"])
@pytest.mark.parametrize(
    ("window", "padded"), [(1, False), (3, False), (100, False), (1, True), (3, True)]
)
def test_a_window_is_all_that_is_acted_on(name, rnn_cell, window, padded):
    """A window acts as a new actor that gets only the last steps of the episode.

    With padding the new actor gets steps of zeros before them.
    """
    network = make_network(**CONFIGS[name], rnn_cell=rnn_cell)
    actor = make_actor(network, ENVS, window, padded=padded)
    rng = np.random.default_rng(2)
    # For each env the observations and actions of its episode so far.
    histories: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(ENVS)]
    for step in range(12):
        if step in (4, 5, 9):  # episodes that begin at different times
            actor.reset(np.array([step % ENVS, 2]))
            histories[step % ENVS] = []
            histories[2] = []
        obs, action_mask = observations(rng)
        utilities, levels = actor.act(obs, action_mask)
        actions = utilities.argmax(axis=-1)
        for env, history in enumerate(histories):
            alone = NumpyActor(network, 1)
            before = history[-window:]
            if padded:
                blank = np.zeros_like(obs[:1]), np.zeros_like(actions[:1])
                before = [blank] * (window - len(before)) + before
            if len(before) == window:
                alone.remember(before[0][1])
                before = before[1:]
            for seen, done in before:
                alone.act(seen, action_mask[[env]])
                alone.remember(done)
            expected, expected_levels = alone.act(obs[[env]], action_mask[[env]])
            np.testing.assert_allclose(utilities[env], expected[0], atol=1e-6)
            if levels is not None:
                np.testing.assert_array_equal(levels[env], expected_levels[0])
            history.append((obs[[env]].copy(), actions[[env]]))
        actor.remember(actions)


def test_a_window_forgets_what_a_memory_keeps():
    network = make_network()
    whole, short = make_actor(network, ENVS), make_actor(network, ENVS, 2)
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(4):
        obs, action_mask = observations(rng)
        everything, last = (a.act(obs, action_mask)[0] for a in (whole, short))
        legal = action_mask != 0
        differences.append(np.abs(everything[legal] - last[legal]).max())
        for a in (whole, short):
            a.remember(everything.argmax(axis=-1))
    assert max(differences[:2]) < 1e-6
    assert min(differences[2:]) > 1e-3


def test_acting_may_look_at_more_quantiles_than_learning():
    # One quantile is drawn in an update; acting takes the mean of seven.
    keys = {**CONFIGS["shared fractions"], "num_atoms": 1, "acting_atoms": 7}
    networks = make_network(**keys), make_network(**CONFIGS["shared fractions"])
    obs, action_mask = observations(np.random.default_rng(0))
    for seven in networks:
        actors = NumpyActor(networks[0], ENVS), TorchActor(seven, ENVS)
        act_alike(actors, obs, action_mask, predicted=False)
        for actor in actors:
            assert actor.atoms.shape == (ENVS, 3, 4, 7)
