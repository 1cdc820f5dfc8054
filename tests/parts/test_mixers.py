"""Mixers: sums, non-negative weights, free biases, duels, and a user's own mixer."""

import itertools
from dataclasses import replace

import pytest
import torch
from team_cases import choose
from torch import nn

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import StackedMLPs
from rllib_risk.parts.mixers import (
    Mixer,
    MixerInputs,
    NoMixer,
    SumMixer,
)
from rllib_risk.parts.mixers.base import make_mixer


def make(kind, num_agents=2, state_size=3, num_actions=4, **keys):
    sizes = TeamSizes(num_agents, num_actions, 5, state_size)
    return make_mixer(choose("mixer", kind, **keys), sizes)


def monotone_slopes(mixer, team):
    """Slope of the team's value in each utility, [B, T, N], by autograd."""
    utilities = team.utilities.detach().requires_grad_(True)
    total = mixer(replace(team, utilities=utilities)).sum()
    return torch.autograd.grad(total, utilities)[0]


def randomize(mixer, seed, spread=1.0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(0, spread)
    return mixer


def random_mixer(seed, num_agents=3, state_size=4, embed_dim=8):
    keys = {"mixing_embed_dim": embed_dim, "hypernet_embed_dim": 16}
    return randomize(make("qmix", num_agents, state_size, **keys), seed)


def team_of(utilities, state):
    """Inputs for mixers that use only utilities and state."""
    return MixerInputs(utilities, state, torch.zeros_like(utilities).long())


def number_of_parameters(module):
    return sum(p.numel() for p in module.parameters())


# N = 2, E = 32, hypernetworks of 64: 64 S + 64 + 64 * 64 + 64 (w1), 32 S + 32 (b1),
# 64 S + 64 + 64 * 32 + 32 (w2), 32 S + 32 + 32 + 1 (v): 192 S + 6465.
@pytest.mark.parametrize(("state_size", "count"), [(56, 17_217), (96, 24_897)])
def test_number_of_parameters(state_size, count):
    assert number_of_parameters(make("qmix", 2, state_size)) == count


def test_width_48():
    mixer = make("qmix", 2, 56, mixing_embed_dim=48)
    assert number_of_parameters(mixer) == 22_177


def test_sum_is_exact_and_has_no_parameters():
    torch.manual_seed(0)
    mixer = make("vdn", 4, 0)
    assert isinstance(mixer, SumMixer)
    assert list(mixer.parameters()) == []
    team = team_of(torch.randn(6, 5, 4), torch.zeros(6, 5, 0))
    total = mixer(team)
    assert total.shape == (6, 5, 1)
    assert torch.equal(total[..., 0], team.utilities.sum(dim=-1))
    assert torch.equal(monotone_slopes(mixer, team), torch.ones(6, 5, 4))


def test_no_mixer_hands_the_utilities_on():
    mixer = make("none", 4, 0)
    assert isinstance(mixer, NoMixer)
    team = team_of(torch.randn(6, 5, 4), torch.zeros(6, 5, 0))
    assert torch.equal(mixer(team), team.utilities)


def test_monotone_by_autograd():
    for seed in range(50):
        mixer = random_mixer(seed)
        state = torch.randn(8, 5, 4)
        # The hypernetworks do give negative numbers; their absolute value is used.
        assert (mixer.hyper_w1(state) < 0).any()
        assert (mixer.hyper_w2(state) < 0).any()
        slopes = monotone_slopes(mixer, team_of(5 * torch.randn(8, 5, 3), state))
        assert (slopes >= 0).all()
        assert (slopes > 0).any()


def test_slope_by_hand():
    # d Q_tot / d q_i = sum_e W1[i,e] ELU'(z_e) w2[e], with ELU'(z) = min(1, exp(z)).
    mixer = random_mixer(0)
    utilities, state = torch.randn(1, 1, 3), torch.randn(1, 1, 4)
    w1 = mixer.hyper_w1(state).abs().reshape(3, 8)
    w2 = mixer.hyper_w2(state).abs().reshape(8)
    z = utilities.reshape(3) @ w1 + mixer.hyper_b1(state).reshape(8)
    expected = (w1 * (z.exp().clamp(max=1) * w2)).sum(dim=1)
    slopes = monotone_slopes(mixer, team_of(utilities, state)).reshape(3)
    torch.testing.assert_close(slopes, expected)


def test_value_by_hand():
    mixer = random_mixer(1)
    utilities, state = torch.randn(2, 3, 3), torch.randn(2, 3, 4)
    total = mixer(team_of(utilities, state))
    assert total.shape == (2, 3, 1)
    for b in range(2):
        for t in range(3):
            s = state[b, t]
            w1 = mixer.hyper_w1(s).abs()  # agent i's weights are w1[8 i : 8 i + 8]
            expected = mixer.value(s).item()
            for e in range(8):
                z = mixer.hyper_b1(s)[e].item()
                z += sum(utilities[b, t, i] * w1[8 * i + e] for i in range(3)).item()
                hidden = z if z > 0 else torch.tensor(z).expm1().item()
                expected += hidden * mixer.hyper_w2(s).abs()[e].item()
            assert total[b, t].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_linear_hypernetworks_that_begin_small():
    """The mixer of Qu et al. (ICLR 2026), whose states are raw temperatures."""
    torch.manual_seed(0)
    options = {"hypernet_layers": 1, "hypernet_gain": 0.1, "mixing_embed_dim": 32}
    mixer = make("qmix", 6, 10, **options)
    state = torch.tensor([[[22.0] * 6 + [40.0, 20.0, 0.5, 0.1]]])
    layers = [m for m in mixer.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 5  # one each of W1, b1 and w2, two of v
    for layer in layers:
        assert not layer.bias.any()
        # Glorot and Bengio (2010), times the gain.
        bound = 0.1 * (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.5 * bound < layer.weight.abs().max() <= bound
    utilities = torch.ones(1, 1, 6)
    small = mixer(team_of(utilities, state)) - mixer(team_of(0 * utilities, state))
    mixer = make("qmix", 6, 10, mixing_embed_dim=32)
    large = mixer(team_of(utilities, state)) - mixer(team_of(0 * utilities, state))
    # The team's gain from one unit of every utility. PyTorch's initialization diverges.
    assert 0 < 10 * small < large


def test_biases_may_be_negative():
    totals, biases = [], []
    for seed in range(20):
        mixer = random_mixer(seed)
        state = torch.randn(4, 5, 4)
        totals.append(mixer.value(state))
        biases.append(mixer.hyper_b1(state))
    assert (torch.stack(totals) < 0).any()
    assert (torch.stack(biases) < 0).any()


# QPLEX's duplex mixer.

LAYERS = pytest.mark.parametrize("num_layers", [1, 2, 3])


def random_duplex(seed, num_layers=1, num_agents=3, num_actions=4, state_size=4):
    keys = {"qplex_lambda_layers": num_layers}
    mixer = make("qplex", num_agents, state_size, num_actions, **keys)
    # A wider spread saturates the sigmoids of the deep heads: joint actions then tie.
    return randomize(mixer, seed, 0.3).double()


def random_duel(mixer, seed, episodes=8, steps=5, num_agents=3, state_size=4):
    """Utilities of all actions, and inputs with random actions taken."""
    generator = torch.Generator().manual_seed(seed)
    lead = (episodes, steps)

    def normal(*shape):
        return 3 * torch.randn(*lead, *shape, generator=generator).double()

    utilities = normal(num_agents, mixer.num_actions)
    actions = torch.randint(mixer.num_actions, (*lead, num_agents), generator=generator)
    return utilities, duel_of(utilities, actions, normal(state_size))


def duel_of(utilities, actions, state):
    """Inputs of the joint actions, from utilities of all actions [B, T, N, A]."""
    chosen = utilities.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return MixerInputs(chosen, state, actions, utilities.max(dim=-1).values)


# N = 2, A = 3, S = 5. w and b: 64 (S + 1) + 65 N = 384 + 130 = 514 each. A head of
# one layer: key S + 1 = 6, agent N (S + 1) = 12, action N (S + N A + 1) = 24: 42, four
# of them 168. With hidden layers of 64, the first has 64 (S + 1) = 384 parameters, or
# 64 (S + N A + 1) = 768 with the actions, a middle one 64 * 65 = 4160, the last 65 for
# the key and 65 N = 130 else: two layers 2 * 384 + 768 + 65 + 2 * 130 = 1861, three
# 1861 + 3 * 4160 = 14341.
@pytest.mark.parametrize(
    ("heads", "layers", "count"),
    [(4, 1, 1028 + 168), (4, 2, 1028 + 4 * 1861), (10, 3, 1028 + 143_410)],
)
def test_number_of_parameters_of_the_duplex_mixer(heads, layers, count):
    mixer = make("qplex", 2, 5, 3, qplex_heads=heads, qplex_lambda_layers=layers)
    assert number_of_parameters(mixer) == count


def one_network(stack, head, x):
    """Output of one head's network, layer by layer."""
    layers = list(zip(stack.weights, stack.biases, strict=True))
    for k, (weight, bias) in enumerate(layers):
        x = x @ weight[head] + bias[head, 0]
        if k < len(layers) - 1:
            x = x.clamp(min=0)
    return x


def test_stacked_networks_start_like_linear_layers():
    # nn.Linear draws weights and biases uniformly from +-1 / sqrt(inputs).
    torch.manual_seed(0)
    stack = StackedMLPs(100, 16, 64, 4)
    for parameters in (stack.weights, stack.biases):
        for values, bound in zip(parameters, (1 / 4, 1 / 8), strict=True):
            assert 0.98 * bound < values.abs().max() <= bound
            assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert len({tuple(weight[:, 0].tolist()) for weight in stack.weights[0]}) == 100


@LAYERS
def test_duplex_value_by_hand(num_layers):
    """Agent by agent and head by head, in the other form of the sum."""
    mixer = random_duplex(0, num_layers)
    _, team = random_duel(mixer, 0, episodes=2, steps=3)
    total = mixer(team)
    assert total.shape == (2, 3, 1)
    for b, t in itertools.product(range(2), range(3)):
        s = team.state[b, t]
        joint = torch.zeros(3 * 4, dtype=torch.float64)
        for i in range(3):
            joint[4 * i + team.actions[b, t, i]] = 1.0
        expected = 0.0
        for i in range(3):
            weight = mixer.weights(s)[i].abs() + 1e-10
            bias = mixer.biases(s)[i]
            best = weight * team.greedy_utilities[b, t, i] + bias
            advantage = weight * team.utilities[b, t, i] + bias - best
            factor = 0.0
            for h in range(4):
                key = one_network(mixer.keys, h, s)[0].abs() + 1e-10
                of_agent = one_network(mixer.agents, h, s)[i].sigmoid()
                both = torch.cat([s, joint])
                of_action = one_network(mixer.actions, h, both)[i].sigmoid()
                factor += key * of_agent * of_action
            expected += best + factor * advantage
        assert total[b, t].item() == pytest.approx(expected.item(), rel=1e-9)


@LAYERS
def test_duplex_weights_are_positive(num_layers):
    for seed in range(20):
        mixer = random_duplex(seed, num_layers)
        _, team = random_duel(mixer, seed)
        assert (mixer.weights(team.state) < 0).any()
        assert (mixer.importance(team.state, team.actions) > 0).all()
        assert (monotone_slopes(mixer, team) > 0).all()


def test_duplex_weights_are_positive_where_the_networks_give_zero():
    mixer = random_duplex(0)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
    _, team = random_duel(mixer, 0)
    # Four heads of 1e-10 * 0.5 * 0.5.
    importance = mixer.importance(team.state, team.actions)
    torch.testing.assert_close(importance, torch.full_like(importance, 1e-10))
    slopes = monotone_slopes(mixer, team)
    torch.testing.assert_close(slopes, torch.full_like(slopes, 1e-10))


@LAYERS
def test_duplex_slope_is_the_weight_alone(num_layers):
    # The advantage is detached: the factor lambda does not reach the utilities.
    mixer = random_duplex(1, num_layers)
    _, team = random_duel(mixer, 1)
    weights = mixer.weights(team.state).abs() + 1e-10
    torch.testing.assert_close(monotone_slopes(mixer, team), weights)
    importance = mixer.importance(team.state, team.actions)
    assert not torch.isclose(importance, torch.ones_like(importance)).any()


def test_duplex_gradients_of_the_networks():
    # dQ_tot / dlambda_i = Ahat_i: lambda has no gradient where all agents are greedy.
    mixer = random_duplex(2)
    utilities, team = random_duel(mixer, 2)
    of_importance = [mixer.keys, mixer.agents, mixer.actions]
    mixer(team).sum().backward()
    assert all(p.grad.any() for net in of_importance for p in net.parameters())
    mixer.zero_grad()
    greedy = duel_of(utilities, utilities.argmax(dim=-1), team.state)
    mixer(greedy).sum().backward()
    assert not any(p.grad.any() for net in of_importance for p in net.parameters())
    assert all(p.grad.any() for p in mixer.weights.parameters())


def test_factor_of_one_leaves_a_weighted_sum(monkeypatch):
    mixer = random_duplex(3)
    _, team = random_duel(mixer, 3)
    monkeypatch.setattr(mixer, "importance", lambda state, actions: 1.0)
    weights = mixer.weights(team.state).abs() + 1e-10
    expected = (weights * team.utilities + mixer.biases(team.state)).sum(dim=-1)
    torch.testing.assert_close(mixer(team)[..., 0], expected)


@LAYERS
def test_best_joint_action_of_the_duplex_mixer_is_every_agents_own(num_layers):
    """R4: By enumeration, for random parameters."""
    num_agents = 3
    joints = torch.tensor(list(itertools.product(range(4), repeat=num_agents)))
    for seed in range(25):  # of 40 states each
        mixer = random_duplex(seed, num_layers)
        utilities, team = random_duel(mixer, seed)
        every = [
            duel_of(utilities, joint.expand(8, 5, num_agents), team.state)
            for joint in joints
        ]
        with torch.no_grad():
            values = torch.cat([mixer(each) for each in every], dim=-1)  # [B, T, J]
            weights = mixer.weights(team.state).abs() + 1e-10
            bound = weights * team.greedy_utilities + mixer.biases(team.state)
        greedy = utilities.argmax(dim=-1)
        assert torch.equal(joints[values.argmax(dim=-1)], greedy)
        # Q_tot <= sum_i Vhat_i, with equality for the greedy joint action alone.
        slack = bound.sum(dim=-1, keepdim=True) - values
        is_greedy = (joints == greedy.unsqueeze(2)).all(dim=-1)
        assert is_greedy.sum() == 8 * 5
        assert slack[is_greedy].abs().max() < 1e-9
        assert (slack[~is_greedy] > 1e-9).all()


def test_duplex_mixer_depends_on_the_other_agents_actions():
    # Not a weighted sum: the effect of an agent's action depends on the other actions.
    mixer = random_duplex(4)
    utilities, team = random_duel(mixer, 4, episodes=1, steps=1)
    values = {}
    for joint in itertools.product(range(4), range(4)):
        actions = torch.tensor([[[*joint, 0]]])
        values[joint] = mixer(duel_of(utilities, actions, team.state)).item()
    change = values[1, 0] - values[0, 0]
    assert values[1, 1] - values[0, 1] != pytest.approx(change, rel=1e-3)


def test_greedy_utilities_must_be_there():
    mixer = random_duplex(5)
    _, team = random_duel(mixer, 5)
    assert mixer.needs_greedy
    team.greedy_utilities = None
    with pytest.raises(ValueError, match="greedy utilities"):
        mixer(team)


# A user's own mixer.


class ScaledSum(Mixer):
    """A user's mixer: a learned factor per agent, and a bonus per agent's action."""

    needs_greedy = True

    def __init__(self, sizes, scale=1.0):
        super().__init__()
        self.factors = nn.Parameter(torch.full((sizes.num_agents,), scale))
        self.bonus = nn.Embedding(sizes.num_actions, 1)

    def forward(self, team):
        advantages = team.utilities - team.greedy_utilities
        each = self.factors * advantages + self.bonus(team.actions).squeeze(-1)
        return each.sum(dim=-1, keepdim=True)


class NeedsState(ScaledSum):
    needs_state = True


class ForgetsTheAxis(ScaledSum):
    def forward(self, team):
        return team.utilities.sum(dim=-1)


class NotAMixer(nn.Module):
    pass


def test_a_users_own_mixer():
    mixer = make(f"{__name__}:ScaledSum", 3, 0, mixer_kwargs={"scale": 2.5})
    assert type(mixer).__name__ == "ScaledSum"
    assert mixer.factors.tolist() == [2.5] * 3
    assert make(f"{__name__}:ScaledSum", 3, 0).factors.tolist() == [1.0] * 3


def test_a_users_own_mixer_that_needs_a_state():
    with pytest.raises(ValueError, match="NeedsState' needs a state"):
        make(f"{__name__}:NeedsState", 2, 0)
    assert make(f"{__name__}:NeedsState", 2, 3).needs_state


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("sum", {}, "mixer: 'sum' is not a known name"),
        ("no_such_module:Mixer", {}, "no_such_module"),
        (f"{__name__}:NoSuchMixer", {}, "NoSuchMixer"),
        (f"{__name__}:NotAMixer", {}, "NotAMixer"),
        (f"{__name__}:make", {}, "make"),
        (f"{__name__}:ScaledSum", {"mixer_kwargs": {"scael": 2}}, "scael"),
        (f"{__name__}:ForgetsTheAxis", {}, r"\[2, 3, 1\] or.*returned \[2, 3\]"),
    ],
)
def test_mixers_that_cannot_be_made(kind, keys, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **keys)


@pytest.mark.parametrize("kind", ["qmix", "qplex"])
def test_mixers_that_need_a_state(kind):
    with pytest.raises(ValueError, match=f"mixer '{kind}' needs a state"):
        make(kind, 2, 0)


def atoms_team(num_agents=3, state_size=4, obs_size=5, num_atoms=6):
    torch.manual_seed(1)
    atoms = torch.randn(8, 5, num_agents, num_atoms)
    means = atoms.mean(dim=-1)
    return MixerInputs(
        means,
        torch.randn(8, 5, state_size),
        torch.randint(4, (8, 5, num_agents)),
        means + 1,
        atoms,
        torch.randn(8, 5, num_agents, obs_size),
    )


@pytest.mark.parametrize("kind", ["qmix_quantiles", "riskq", "vdn"])
def test_each_quantile_by_itself(kind):
    mixer, team = randomize(make(kind, 3, 4), 0), atoms_team()
    mixed = mixer.mix_atoms(team)
    assert mixed.shape == (8, 5, 1, 6)
    for m in range(6):
        alone = mixer(replace(team, utilities=team.atoms[..., m]))
        torch.testing.assert_close(mixed[..., m], alone)


@pytest.mark.parametrize("kind", ["qmix", "qplex", f"{__name__}:ScaledSum"])
def test_mean_and_shape_of_any_mixer(kind):
    mixer, team = randomize(make(kind, 3, 4), 0), atoms_team()
    mixed, value = mixer.mix_atoms(team), mixer(team)
    deviations = (team.atoms - team.utilities.unsqueeze(-1)).sum(dim=-2)
    torch.testing.assert_close(mixed[..., 0, :], value + deviations)


@pytest.mark.parametrize("unit_size", [None, 1])
def test_weights_of_the_weighted_mixer_by_loop(unit_size):
    keys = {"riskq_heads": 2, "riskq_unit_size": unit_size}
    mixer, team = randomize(make("riskq", 3, 4, **keys), 0, 0.5), atoms_team()
    weights = mixer.weights(team)
    assert (weights >= 0).all()
    for b, t in ((0, 0), (7, 4)):
        state, expected = team.state[b, t], torch.zeros(3)
        for h in range(2):
            query = mixer.queries[h](state)
            units = team.obs[b, t] if unit_size is None else state[:3, None]
            logits = [(query * mixer.keys[h](unit)).sum() / 4 for unit in units]
            share = torch.stack(logits).softmax(dim=0)
            expected += mixer.head_weights(state)[h].abs() * share
        torch.testing.assert_close(weights[b, t], expected)


def test_a_state_that_is_too_small_for_its_units_is_refused():
    with pytest.raises(
        ValueError, match=r"riskq_unit_size: 2 .* 3 agents.* 4 numbers.*Lower"
    ):
        make("riskq", 3, 4, riskq_unit_size=2)
