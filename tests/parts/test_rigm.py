"""Whether the agents' own best actions are the team's: the table of docs/risk.md."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from team_cases import choose, make_inputs, make_network

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.core.value_config import ValueConfig
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.ops.risk import cvar_weights, distortion_weights, sort_atoms
from rllib_risk.parts.mixers import Mixer, MixerInputs
from rllib_risk.parts.mixers.base import make_mixer
from rllib_risk.parts.rigm import DISTORTIONS, KEPT
from rllib_risk.parts.risk.base import make_risk
from rllib_risk.parts.risk.levels import StaticLevel

MEASURES = {
    "mean": {"risk_measure": "mean"},
    "var": {"risk_measure": "var", "alpha": 0.4},
    "cvar": {"risk_measure": "cvar", "alpha": 0.4},
    "cvar exact": {"risk_measure": "cvar", "alpha": 0.4, "cvar_mode": "exact"},
    "wang": {"risk_measure": "wang", "risk_parameter": -0.75},
    "cpw": {"risk_measure": "cpw", "risk_parameter": 0.71},
    "power": {"risk_measure": "power", "risk_parameter": -2.0},
    "mean_variance": {"risk_measure": "mean_variance", "risk_parameter": 0.2},
}
DISTORTING = tuple(key for key in MEASURES if key.split()[0] in DISTORTIONS)
# Every "yes" of the table.
YES = [
    *(("vdn", key) for key in ("mean", *DISTORTING)),
    *(("riskq", key) for key in ("mean", *DISTORTING)),
    ("qmix", "mean"),
    ("qplex", "mean"),
    ("qmix_quantiles", "var"),
]
NETS, EPISODES, STEPS, AGENTS, ACTIONS = 10, 10, 10, 3, 3


def violations(mixer, measure, *, sort_atoms=True):
    """Number of cases in which another joint action beats the agents' own best ones.

    There are 1,000 cases: ten networks with 100 random observations and states each.
    """
    joint = torch.tensor(list(itertools.product(range(ACTIONS), repeat=AGENTS)))
    found = 0
    for seed in range(NETS):
        keys = {"mixer": mixer, "num_atoms": 8, "sort_atoms": sort_atoms}
        network = make_network(
            seed,
            num_agents=AGENTS,
            num_actions=ACTIONS,
            spread=0.5,
            **keys | MEASURES[measure],
        ).double()
        obs, state, actions, mask = make_inputs(
            network, episodes=EPISODES, steps=STEPS, seed=seed
        )
        mask[:] = 1
        with torch.no_grad():
            unroll = network.unroll(network.inputs(obs, actions[:, :-1]))
            greedy = network.greedy_actions(unroll, mask)
            values = torch.stack(
                [
                    network.risk(
                        network.team_atoms_of(
                            unroll, one.expand_as(actions), state, mask
                        )
                    )[..., 0]
                    for one in joint
                ]
            )  # [joint, B, T]
        numbers = (greedy * ACTIONS ** torch.arange(AGENTS - 1, -1, -1)).sum(dim=-1)
        chosen = values.gather(0, numbers[None])[0]
        found += (chosen < values.amax(dim=0) - 1e-9).sum().item()
    return found


@pytest.mark.parametrize(("mixer", "measure"), YES)
def test_the_agents_own_best_actions_are_the_teams(mixer, measure):
    assert violations(mixer, measure) == 0


def test_the_enumeration_finds_violations_where_there_are_some():
    assert violations("qmix", "cvar") > 50
    assert violations("qmix_quantiles", "mean") > 50
    assert violations("vdn", "mean_variance") > 50
    # Atoms that cross are not quantiles, so sums of atoms are not sums of quantiles.
    assert violations("vdn", "cvar", sort_atoms=False) > 50


class Formula(Mixer):
    """A mixer that is a formula. It may mix each quantile by itself."""

    def __init__(self, function, *, per_quantile=False):
        super().__init__()
        self.function, self.per_quantile = function, per_quantile

    def forward(self, team):
        return self.function(*team.utilities.unbind(dim=-1)).unsqueeze(-1)

    def mix_atoms(self, team):
        if self.per_quantile:
            return self.function(*team.atoms.unbind(dim=-2)).unsqueeze(-2)
        return super().mix_atoms(team)


def total(first, second):
    return first + second


def double(first, second):
    return 2 * (first + second)


def kinked(first, second):
    return first.relu() + second


SUM = make_mixer(choose("mixer", "vdn"), TeamSizes(2, 2, 1, 1))
WEIGHTED = Formula(lambda first, second: 2 * first + second, per_quantile=True)
MEAN_AND_SHAPE = Formula(double)
PER_QUANTILE = Formula(kinked, per_quantile=True)
TEN, TWO, ONE, ZERO = (0, 0, 10, 10), (2,) * 4, (1,) * 4, (0,) * 4
SIX = (-6, 4, 11, 12)
# Mixer, measure, parameter; atoms a and b of agent 1; its utilities of both; the team's
# values of both. Agent 2 has one action, of value 0.
NO = {
    "mean and shape, var": (MEAN_AND_SHAPE, "var", 0.25, TEN, TWO, 0, 2, 5, 4),
    "mean and shape, cvar": (MEAN_AND_SHAPE, "cvar", 0.25, TEN, TWO, 0, 2, 5, 4),
    "mean and shape, power": (MEAN_AND_SHAPE, "power", -2, TEN, TWO, 1.25, 2, 6.25, 4),
    "mean and shape, cpw": (
        *(MEAN_AND_SHAPE, "cpw", 0.71, (0, 0, 0, 12), TWO),
        *(1.58681, 2, 4.58681, 4),
    ),
    "mean and shape, wang": (
        *(MEAN_AND_SHAPE, "wang", -0.75, SIX, TWO),
        *(0.36258, 2, 5.61258, 4),
    ),
    "mean and shape, mean_variance": (
        *(MEAN_AND_SHAPE, "mean_variance", 0.2, (-3, -3, 12, 12), (-3,) * 4),
        *(-6.75, -3, -2.25, -6),
    ),
    "per quantile, mean": (
        *(PER_QUANTILE, "mean", None, (-10, 4, 4, 4), ONE),
        *(0.5, 1, 3, 1),
    ),
    "per quantile, cvar": (
        *(PER_QUANTILE, "cvar", 0.5, (-10, 4, 4, 4), ONE),
        *(-3, 1, 2, 1),
    ),
    "per quantile, wang": (
        *(PER_QUANTILE, "wang", -0.75, (-10, 4, 4, 4), ONE),
        *(-3.42134, 1, 1.87962, 1),
    ),
    "per quantile, power": (
        *(PER_QUANTILE, "power", -2, (-10, 4, 4, 4), ONE),
        *(-4.09375, 1, 1.6875, 1),
    ),
    "per quantile, cpw": (
        *(PER_QUANTILE, "cpw", 0.71, (-6, -6, 6, 6), ONE),
        *(-0.71591, 1, 2.64204, 1),
    ),
    "per quantile, mean_variance": (
        *(PER_QUANTILE, "mean_variance", 0.1, (-4, -4, 4, 4), ZERO),
        *(-1.6, 0, 1.6, 0),
    ),
}


def measure_of(name, parameter):
    """A measure of four atoms."""
    level = StaticLevel()
    if name in ("var", "cvar"):
        level = StaticLevel(StaticLevel.Options(alpha=parameter))
        return make_risk(choose("risk_measure", name), 4, level)
    keys = {} if parameter is None else {"risk_parameter": float(parameter)}
    return make_risk(choose("risk_measure", name, **keys), 4, level)


def team_value(mixer, measure, *rows):
    """The measure of the mixed atoms, from one row of atoms for each agent."""
    atoms = torch.tensor(rows).double()[None, None]  # [1, 1, N, M]
    zeros = torch.zeros(1, 1, 1).double()
    team = MixerInputs(atoms.mean(dim=-1), zeros, zeros.long(), atoms=atoms)
    return measure.double()(mixer.mix_atoms(team)).item()


@pytest.mark.parametrize("case", NO.values(), ids=NO.keys())
def test_where_the_table_says_no_there_is_a_counterexample(case):
    mixer, name, parameter, a, b, own_a, own_b, team_a, team_b = case
    measure = measure_of(name, parameter).double()
    own = [measure(torch.tensor(row).double()).item() for row in (a, b)]
    team = [team_value(mixer, measure, row, ZERO) for row in (a, b)]
    assert own == pytest.approx([own_a, own_b], abs=1e-5)
    assert team == pytest.approx([team_a, team_b], abs=1e-5)
    assert own[0] < own[1] and team[0] > team[1]


def test_mean_variance_of_sums():
    a, b, measure = (0, 0, 4, 4), (1, 1, 1, 1), measure_of("mean_variance", 0.2)
    own = [measure.double()(torch.tensor(row).double()).item() for row in (a, b)]
    assert own == pytest.approx([1.2, 1.0])
    sums = [team_value(SUM, measure, *rows) for rows in ((a, a), (a, b), (b, b))]
    assert sums == pytest.approx([0.8, 2.2, 2.0])
    weighted = [team_value(WEIGHTED, measure, *rows) for rows in ((a, a), (b, a))]
    assert weighted == pytest.approx([-1.2, 3.2])


def test_atoms_that_cross_must_be_sorted():
    # In the order of the fractions agent 1 has (0, 4) or (1, 1), agent 2 (4, 0) or
    # (1, 1). CVaR at 1/2 of two atoms is the lower one.
    rows = torch.tensor([[[0.0, 4.0], [1.0, 1.0]], [[4.0, 0.0], [1.0, 1.0]]])
    lower = rows.amin(dim=-1)
    assert lower.argmax(dim=-1).tolist() == [1, 1]
    values = (rows[0, :, None] + rows[1, None, :]).amin(dim=-1)
    assert (values[1, 1], values[0, 0], values.max()) == (2, 4, 4)
    ascending = sort_atoms(rows)
    values = (ascending[0, :, None] + ascending[1, None, :]).amin(dim=-1)
    assert values.max() == values[1, 1] == 2


def test_weights_of_four_atoms():
    expected = {
        ("wang", -0.75): (0.53009564, 0.24327701, 0.14947498, 0.07715237),
        ("cpw", 0.71): (0.19379649, 0.36586231, 0.30810675, 0.13223445),
        ("power", -2.0): (0.578125, 0.296875, 0.109375, 0.015625),
    }
    for (kind, eta), weights in expected.items():
        got = distortion_weights(kind, eta, 4).double().tolist()
        assert got == pytest.approx(weights, abs=1e-7)
    assert cvar_weights([0.5], 4)[0].tolist() == [0.5, 0.5, 0, 0]


def remarks_of(name=None, **keys):
    config = ValueConfig() if name is None else config_class(name)()
    config.update_from_dict(keys)
    config.validate()
    return config.remarks()


def test_every_cell_of_the_table_is_said_or_not():
    atoms = {"num_atoms": 8, "loss": "quantile", "sort_atoms": True}
    for mixer, form in (
        ("vdn", "sum"),
        ("riskq", "weighted"),
        ("qmix", "mean_and_shape"),
        ("qplex", "mean_and_shape"),
        ("qmix_quantiles", "per_quantile"),
    ):
        for measure, keys in MEASURES.items():
            lines = remarks_of(mixer=mixer, **atoms, **keys)
            kept = keys["risk_measure"] in KEPT[form]
            assert len(lines) == (not kept), (mixer, measure, lines)
            if lines:
                words = ("does not keep", keys["risk_measure"], "docs/risk.md")
                assert all(word in lines[0] for word in words)


def test_what_else_is_said_before_a_run():
    atoms = {"num_atoms": 8, "loss": "quantile", "sort_atoms": True}
    careful = {"risk_measure": "cvar", "alpha": 0.3}
    # A level or parameter at which the measure is the mean.
    assert remarks_of(mixer="qmix", **atoms, risk_measure="cvar", alpha=1.0) == []
    neutral = {"risk_measure": "wang", "risk_parameter": 0.0}
    assert remarks_of(mixer="qmix", **atoms, **neutral) == []
    (line,) = remarks_of(mixer="vdn", **atoms | {"sort_atoms": False}, **careful)
    assert "Set sort_atoms: true" in line
    predicted = {"risk_mode": "dynamic", "risk_grad": "frozen", "risk_measure": "cvar"}
    (line,) = remarks_of(mixer="riskq", **atoms, **predicted)
    assert "its own level" in line
    # No distribution of the team's return is fitted, or none is mixed.
    assert remarks_of(mixer="qmix", num_atoms=8, **careful) == []
    assert remarks_of(mixer="none", **atoms, **careful) == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_named_algorithm_begins_with_a_warning(name):
    config = config_class(name)()
    assert getattr(config, "remarks", list)() == []


def test_a_run_is_told_once(monkeypatch):
    from rllib_risk.core import remarks

    monkeypatch.setattr(remarks, "_told", set())
    said = []
    config = SimpleNamespace(remarks=lambda: ["one", "two"])
    for _ in range(2):
        remarks.tell(config, said.append)
    remarks.tell(SimpleNamespace(), said.append)  # an algorithm of RLlib's own
    assert said == ["one", "two"]
