"""A user's own part in every slot of the network, each from one file.

Tests strict keys in YAML, learning, acting, checkpoints, and a mixer of distributions.
"""

import importlib
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from loss_cases import random_episode

from rllib_risk.algorithms import COMAConfig, IndependentQConfig
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import read_yaml
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.checkpoint import CheckpointError
from rllib_risk.core.value_config import ValueConfig
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import collate
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.acting import NumpyActor, TorchActor
from rllib_risk.parts.mixers import MixerInputs
from rllib_risk.parts.team import TeamNetwork

PAGE = (Path(__file__).parents[2] / "docs" / "composition.md").read_text("utf-8")
HEADER = """
    from dataclasses import dataclass

    import torch
    from torch import nn

    from rllib_risk.config.options import option
"""
ENCODER = """
    from rllib_risk.networks.encoders import Encoder


    class Echo(Encoder):
        \"\"\"A sum of what was seen, which fades.\"\"\"

        @dataclass(frozen=True)
        class Options:
            echo_rate: float = option(0.5, "Share that stays.", low=0.0, high=1.0)

        def __init__(self, sizes, input_size, options=None):
            super().__init__(sizes, input_size, options)
            self.feature_size, self.memory_size = 6, input_size
            self.layer = nn.Linear(input_size, 6)

        def forward(self, inputs, state):
            rate, seen = self.options.echo_rate, 0.0
            if state is not None:
                seen = state[:, 6:]
            every = []
            for step in range(inputs.shape[1]):
                seen = rate * seen + inputs[:, step]
                every.append(self.layer(seen).tanh())
            return torch.stack(every, dim=1), torch.cat([every[-1], seen], dim=-1)
"""
HEAD = """
    from rllib_risk.networks.heads import UtilityHead


    class Duel(UtilityHead):
        \"\"\"A dueling head.\"\"\"

        @dataclass(frozen=True)
        class Options:
            duel_width: int = option(8, "Width of both streams.", low=1, fixed=True)

        def __init__(self, feature_size, num_actions, num_atoms, options=None):
            super().__init__(feature_size, num_actions, num_atoms, options)
            width = self.options.duel_width
            self.first = nn.Linear(feature_size, width)
            self.value = nn.Linear(width, num_atoms)
            self.advantage = nn.Linear(width, num_actions * num_atoms)

        def one_step(self, xp, fractions=None):
            layers = self.first, self.value, self.advantage
            first, value, advantage = map(xp.linear, layers)
            shape = (self.num_actions, self.num_atoms)

            def step(features):
                hidden = xp.relu(first(features))
                each = advantage(hidden)
                each = each.reshape(*each.shape[:-1], *shape)
                return value(hidden)[..., None, :] + each - each.mean(-2)[..., None, :]

            return step
"""
MEASURE = """
    from rllib_risk.parts.risk import RiskMeasure


    class Entropic(RiskMeasure):
        \"\"\"-log E exp(-b Z) / b.\"\"\"

        @dataclass(frozen=True)
        class Options:
            aversion: float = option(1.0, "b.", low=0.0, low_open=True)

        def forward(self, atoms, level_logits=None):
            b = self.options.aversion
            return -((-b * atoms).exp().mean(-1).log()) / b
"""
LEVEL = """
    from rllib_risk.parts.risk import RiskLevel


    class Falling(RiskLevel):
        \"\"\"A level that falls as 1 / (1 + env steps / scale).\"\"\"

        @dataclass(frozen=True)
        class Options:
            level_scale: int = option(1000, "The scale.", low=1, unit="env steps")

        def at(self, env_steps):
            return 1.0 / (1.0 + env_steps / self.options.level_scale)
"""
MIXER = """
    from rllib_risk.parts.mixers import Mixer


    class Gain(Mixer):
        \"\"\"A sum with one factor.\"\"\"

        @dataclass(frozen=True)
        class Options:
            gain: float = option(1.0, "The factor at the start.", low=0.0, fixed=True)

        def __init__(self, sizes, options=None):
            super().__init__(sizes, options)
            self.factor = nn.Parameter(torch.tensor(self.options.gain))

        def forward(self, team):
            return self.factor * team.utilities.sum(-1, keepdim=True)
"""
CRITIC = """
    from rllib_risk.parts.critics import JointCritic


    class Sum(JointCritic):
        \"\"\"The sum of values of central agents.\"\"\"

        @dataclass(frozen=True)
        class Options:
            sum_width: int = option(8, "Width.", low=1, fixed=True)

        def __init__(self, sizes, feature_size, make_encoder, options=None):
            super().__init__(sizes, feature_size, make_encoder, options)
            self.encoder, width = make_encoder(), self.options.sum_width
            self.body = nn.Linear(self.encoder.feature_size, width)
            self.head = nn.Linear(width, sizes.num_actions)

        def encode(self, inputs, features):
            rows = self.encoder(inputs.transpose(1, 2).flatten(0, 1), None)[0]
            return rows.unflatten(0, (len(inputs), -1)).transpose(1, 2)

        def forward(self, encoded, actions, state):
            values = self.head(self.body(encoded).relu())
            return values.gather(-1, actions.unsqueeze(-1)).sum(-2)
"""
ATOMS = {"num_atoms": 5}
# Slot -> file, class, its key, a value, a value out of range, and other needed keys.
CASES = {
    "encoder": (ENCODER, "Echo", "echo_rate", 0.25, 2.0, {}),
    "quantiles": (HEAD, "Duel", "duel_width", 4, 0, ATOMS),
    "risk_measure": (MEASURE, "Entropic", "aversion", 0.5, 0.0, ATOMS),
    "risk_mode": (
        LEVEL,
        "Falling",
        "level_scale",
        10,
        0,
        ATOMS | {"risk_measure": "cvar"},
    ),
    "mixer": (MIXER, "Gain", "gain", 2.0, -1.0, {}),
    "joint_critic": (CRITIC, "Sum", "sum_width", 4, 0, {"mixer": "vdn"}),
}
SLOTS = pytest.mark.parametrize("slot", CASES)
TEAM = spaces.Dict(
    obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
    state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
    action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes a slot's part into a module and returns its keys."""

    def write(slot):
        source, name, key, value, _, beside = CASES[slot]
        module = f"my_{slot}"
        text = textwrap.dedent(HEADER) + textwrap.dedent(source)
        (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        return {slot: f"{module}:{name}", key: value, **beside}

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for slot in CASES:
        sys.modules.pop(f"my_{slot}", None)


def make_policy(keys):
    torch.manual_seed(0)
    size = {} if "encoder" in keys else {"hidden_size": 8}
    config = ValueConfig().update_from_dict({"seed": 5, **size, **keys})
    config.validate()
    return ValuePolicy(TEAM, spaces.MultiDiscrete([4] * 3), config.to_dict())


def make_batch(policy):
    rng = np.random.default_rng(0)
    lengths = [(6, True), (3, False), (5, True)]
    episodes = [random_episode(rng, n, terminated=end) for n, end in lengths]
    return policy.tensors(collate(episodes)), collate(episodes)


@SLOTS
def test_yaml_is_strict(slot, own, tmp_path):
    _, _, key, value, beyond, _ = CASES[slot]
    keys = own(slot)
    lines = [f"    {name}: {value}\n" for name, value in keys.items()]
    text = f"own:\n  run: IndependentQ\n  env: two_step\n  config:\n{''.join(lines)}"

    def load(text):
        (tmp_path / "own.yaml").write_text(text)
        return parse_document(read_yaml(tmp_path / "own.yaml"), RLlibCatalog())

    (spec,) = load(text)
    assert spec.config[key] == value
    with pytest.raises(ConfigError, match=rf"own.yaml:6.*{key}x.*'{key}'"):
        load(text.replace(f"{key}:", f"{key}x:"))
    with pytest.raises(ConfigError, match=rf"own.yaml:6.*{key}: must be in"):
        load(text.replace(f"{key}: {value}", f"{key}: {beyond}"))
    with pytest.raises(ConfigError, match=rf"own.yaml:5.*{slot}: .*has no class"):
        load(re.sub(rf"({slot}: \w+:\w+)", r"\1x", text))


@SLOTS
def test_it_learns_and_both_actors_agree(slot, own):
    keys = own(slot)
    policy = make_policy(keys)
    batch, samples = make_batch(policy)
    before = {k: v.detach().clone() for k, v in policy.network.named_parameters()}
    policy.on_global_var_update({"timestep": 30})
    assert np.isfinite(policy.learn_on_batch(samples)["td_loss"])
    for name, parameter in policy.network.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    if slot == "risk_mode":
        # The level is 1 / (1 + 30 / 10): the two lowest of five atoms.
        assert policy.network.risk.levels == (0.25,)
        assert policy.network.risk.weights[0].tolist() == [0.5, 0.5, 0, 0, 0]
    actors = [kind(policy.network, 3) for kind in (NumpyActor, TorchActor)]
    for step in range(3):
        seen = batch.obs[:, step].numpy(), batch.action_mask[:, step].numpy()
        ours, theirs = (actor.act(*seen)[0] for actor in actors)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        for actor in actors:
            actor.remember(batch.actions[:, step].numpy())
            if step == 1:
                actor.reset(np.array([2]))
    # Acting gives the utilities that learning computes.
    unroll = policy.network.unroll(policy.network.inputs(batch.obs, batch.actions))
    learned = policy.network.utilities(unroll, batch.action_mask)[:2, 2]
    legal = batch.action_mask[:2, 2] != 0
    np.testing.assert_allclose(ours[:2][legal], learned[legal], rtol=1e-4, atol=1e-5)


def test_a_remark_names_each_part_that_numpy_cannot_compute(own):
    def remarks(slot, **more):
        config = IndependentQConfig().training(**own(slot), **more)
        return [line.partition(" because")[0] for line in config.remarks()]

    slower = "acting on the CPU is slower with"
    assert {slot: remarks(slot) for slot in CASES if remarks(slot)} == {
        "encoder": [f"encoder: {slower} 'my_encoder:Echo',"],
        "risk_measure": [f"risk_measure: {slower} 'my_risk_measure:Entropic',"],
    }
    # The mean of sampled quantiles is computed with NumPy; a window with PyTorch.
    assert remarks("risk_measure", quantiles="sampled") == []
    assert remarks("encoder", acting_window=4) == []
    coma = COMAConfig().training(encoder="my_encoder:Echo", echo_rate=0.5)
    assert [line[:8] for line in coma.remarks()] == ["encoder:"]


def test_a_subclass_that_changes_learning_changes_acting(own):
    # The subclass inherits a `one_step` that no longer matches its forward().
    network = TeamNetwork(TeamSizes(2, 3, 4, 0), {"num_atoms": 4})
    fast = NumpyActor(network, 1)
    seen = np.ones((1, 2, 4), np.float32), np.ones((1, 2, 3), np.uint8)
    plain = fast.act(*seen)[0]
    encoder = network.agents[0].encoder

    class Doubled(type(encoder)):
        def forward(self, inputs, state):
            features, state = super().forward(inputs, state)
            return 2 * features, 2 * state

    encoder.__class__ = Doubled
    ours, theirs = (kind(network, 1).act(*seen)[0] for kind in (NumpyActor, TorchActor))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert np.abs(ours - plain).max() > 1e-3


@SLOTS
def test_it_comes_back_from_a_checkpoint(slot, own, tmp_path, ray_local):
    keys = own(slot)
    config = IndependentQConfig().environment("two_step").training(**keys)
    algorithm = config.build_algo()
    (episode, *_) = algorithm.env_runner.sample(0)
    algorithm.save_checkpoint(str(tmp_path))
    weights = algorithm.get_policy().network.state_dict()
    algorithm.stop()
    assert len(episode.rewards) > 0
    with pytest.raises(CheckpointError, match=keys[slot]):
        TeamAlgorithm.from_checkpoint(tmp_path)
    again = TeamAlgorithm.from_checkpoint(tmp_path, trust_code=True)
    key = CASES[slot][2]
    assert getattr(again.config, key) == keys[key]
    for name, value in again.get_policy().network.state_dict().items():
        assert torch.equal(value, weights[name])
    again.stop()


@pytest.mark.parametrize(
    ("slot", "old", "new", "message"),
    [
        ("encoder", "self.feature_size, self", "self.size, self", "feature_size"),
        ("encoder", "torch.stack(every, dim=1)", "every[0]", r"encoder: .*\[2, 6\]"),
        (
            "quantiles",
            "value(hidden)[..., None, :] + each - each.mean(-2)[..., None, :]",
            "each[..., 0]",
            r"quantiles: forward.*\[2, 3, 4\]",
        ),
        ("risk_measure", ".mean(-1)", ".mean()", r"risk_measure: forward.*\[\]"),
        ("joint_critic", ".sum(-2)", ".squeeze(-1)", r"joint_critic: .*\[2, 3, 1\]"),
        ("mixer", ", options=None", "", "mixer: .*is called with.*options"),
    ],
)
def test_wrong_shapes_are_refused(slot, old, new, message, own, monkeypatch):
    source, *rest = CASES[slot]
    assert old in source
    monkeypatch.setitem(CASES, slot, (source.replace(old, new), *rest))
    with pytest.raises(ValueError, match=message):
        TeamNetwork(TeamSizes(3, 4, 5, 6), own(slot))


# The mixer of distributions from docs/composition.md.


@pytest.fixture
def dmix(tmp_path, monkeypatch):
    (text,) = re.findall(r"```python\n(# my_dmix.py\n.*?)```", PAGE, re.DOTALL)
    assert len(text.splitlines()) <= 35
    (tmp_path / "my_dmix.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_dmix", raising=False)
    yield {"mixer": "my_dmix:Dmix", "dmix_width": 4, "loss": "quantile", "num_atoms": 6}
    sys.modules.pop("my_dmix", None)


def test_the_mean_of_dmix_is_qmix_of_the_means(dmix):
    policy = make_policy(dmix)
    network, (batch, _) = policy.network, make_batch(policy)
    unroll = network.unroll(network.inputs(batch.obs, batch.actions)[:, :-1])
    arguments = batch.actions, batch.state[:, :-1], batch.action_mask[:, :-1]
    atoms = network.team_atoms_of(unroll, *arguments)
    assert atoms.shape == (3, 6, 1, 6)
    means = network.atoms_of(unroll, batch.actions).mean(-1)
    of_means = network.mixer.of_means(MixerInputs(means, arguments[1], batch.actions))
    torch.testing.assert_close(atoms.mean(-1), of_means)
    torch.testing.assert_close(of_means, network.values_of(unroll, *arguments))
    # The spread about that mean is the sum of the agents' spreads.
    spread = network.atoms_of(unroll, batch.actions) - means.unsqueeze(-1)
    torch.testing.assert_close(
        atoms - of_means.unsqueeze(-1), spread.sum(-2, keepdim=True)
    )


def test_dmix_trains_on_the_quantile_loss(dmix):
    policy = make_policy(dmix)
    _, samples = make_batch(policy)
    before = {k: v.detach().clone() for k, v in policy.network.named_parameters()}
    losses = [policy.learn_on_batch(samples)["td_loss"] for _ in range(40)]
    assert losses[-1] < 0.8 * losses[0]
    for name, parameter in policy.network.named_parameters():
        assert not torch.equal(parameter, before[name]), name
