"""A part by import path, and a subclass of it, are treated like the named part."""

import copy
import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.config.metrics import excluded_by
from rllib_risk.config.schema import ConfigError
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.heads import UtilityHead
from rllib_risk.networks.quantile_head import QuantileHead
from rllib_risk.parts.risk import RiskLevel
from rllib_risk.parts.risk.mean import Mean
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.base import Target

SLOTS = VALUE_PARTS.slots
SIZES = TeamSizes(num_agents=2, num_actions=3, obs_size=4, state_size=5)
GROUPS = {"env_variants": [{}, {"width": 7}], "num_envs_per_env_runner": 2}
ATOMS = {"num_atoms": 8}
QUANTILE = ATOMS | {"loss": "quantile", "sort_atoms": True}
CVAR = {"risk_measure": "cvar", "alpha": 0.3}
DYNAMIC = {"risk_measure": "cvar", "risk_mode": "dynamic", "risk_grad": "frozen"}
CLONING = {"dataset": "walks", "preset": "bc"}
ICQ = {"dataset": "walks", "preset": "maicq"}
OFFLINE = {"dataset": "walks", "target_update_tau": 0.005}

# Compositions beside the defaults of the algorithms and those that the docs show as
# refused: decisions other than refusals, and the built-in parts that are left.
MORE = [
    ("GroupDR", GROUPS),
    ("GroupDR", GROUPS | {"objective": "static"}),
    ("GroupDR", GROUPS | ATOMS | {"qr_gate": "step"}),
    ("QMIX", {"objective": "mean"}),
    ("QMIX", {"objective": "static", "alpha": 0.3}),
    ("QMIX", {"objective": "nested", "alpha": 0.3}),
    ("QMIX", {"target": "cvar", "alpha": 0.3}),
    ("QMIX", {"target": "contamination", "rho": 0.1}),
    ("QMIX", {"td_weighting": "ow"}),
    ("QMIX", ATOMS | {"risk_measure": "power"}),
    ("QMIX", ATOMS | {"risk_measure": "var", "alpha": 0.3}),
    ("QMIX", OFFLINE),
    ("QMIX", {"encoder": "cnn"}),
    ("QMIX", {"exploration": "epsilon_z_greedy"}),
    ("QMIX", {"exploration": "team_epsilon_greedy"}),
    ("QMIX", ATOMS | {"qr_gate": "step"}),
    ("VDN", QUANTILE | CVAR | {"objective": "markov"}),
    ("VDN", QUANTILE | {"objective": "markov", "risk_measure": "cvar"}),
    ("VDN", QUANTILE | {"risk_measure": "cpw"}),
    ("VDN", QUANTILE | {"risk_measure": "mean_variance"}),
    ("VDN", QUANTILE | CVAR | {"sort_atoms": False}),
    ("VDN", QUANTILE | DYNAMIC),
    ("VDN", QUANTILE | {"objective": "nested", "alpha": 0.3}),
    ("VDN", QUANTILE | CVAR | {"target": "cvar_atoms"}),
    ("QMIX", QUANTILE | CVAR),
    ("QMIX", QUANTILE | {"risk_measure": "wang", "risk_parameter": 0.0}),
    ("DMIX", {"mixer": "qmix_quantiles", "risk_measure": "cvar", "alpha": 0.3}),
    ("MACQR", CLONING),
    ("OfflineBaselines", ICQ),
    ("OfflineBaselines", OFFLINE | {"preset": "cfcql"}),
    ("OfflineBaselines", OFFLINE | {"preset": "iql_cql"}),
]


def shown_as_refused():
    path = Path(__file__).parents[2] / "docs" / "make_configuration.py"
    spec = importlib.util.spec_from_file_location("make_configuration", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [(run, keys) for run, _, keys in module.REFUSED]


DEFAULTS = [(name, {}) for name in ALGORITHMS]
CASES = DEFAULTS + shown_as_refused() + MORE


def subclass(slot, name):
    """Import path of a subclass without changes, in this module."""
    attribute = f"Own_{slot}_{name}"
    here = sys.modules[__name__]
    if not hasattr(here, attribute):
        base = SLOTS[slot].part(name)
        setattr(here, attribute, type(attribute, (base,), {"__module__": __name__}))
    return f"{__name__}:{attribute}"


def configured(run, **keys):
    return config_class(run)().update_from_dict(keys)


def spelled(config, slot):
    """Import paths that mean the same as the part's name: its own, and a subclass's."""
    name = getattr(config, slot)
    if name not in SLOTS[slot].builtin:
        return []
    paths = [SLOTS[slot].builtin[name], subclass(slot, name)]
    # Objective nested replaces some defaults, which are no choice. A path is one.
    objective = config.composition.part("objective", config)
    if (slot, name) in {
        (key, old) for key, (old, _) in objective.implied(config).items()
    }:
        return []
    # A dataset takes the place of the default replay, but would hide an own one.
    if slot == "replay" and config.dataset is not None:
        paths = paths[:1]
    return paths


def changed(config, **keys):
    """A copy with other keys; making a new configuration takes much longer."""
    other = copy.copy(config)
    for key, value in keys.items():
        setattr(other, key, value)
    return other


def refusal(config):
    """The message of the first refusal; None if there is none."""
    try:
        config._check_combinations()
    except ConfigError as error:
        return str(error)
    return None


def decisions(config):
    """All that a run is told about its composition before it starts."""
    said = refusal(config)
    if said is not None:
        return [said]
    excluded = excluded_by(config, "evaluation/threshold")
    return [config.risk(), excluded, *getattr(config, "remarks", list)()]


@pytest.mark.parametrize(("run", "keys"), CASES, ids=str)
def test_a_part_by_path_is_accepted_and_refused_like_the_named_one(run, keys):
    config = configured(run, **keys)
    expected = decisions(changed(config))
    for slot in config.composition.slots:
        for path in spelled(config, slot):
            found = decisions(changed(config, **{slot: path}))
            name = getattr(config, slot)
            found = [text and text.replace(path, name) for text in found]
            assert found == expected, (slot, path)


def accepted():
    """A composition that is accepted for each built-in part: slot, name -> config."""
    found = {}
    for run, keys in CASES:
        config = configured(run, **keys)
        parts = [(slot, getattr(config, slot)) for slot in config.composition.slots]
        if set(parts) <= found.keys() or config.composition is not VALUE_PARTS:
            continue
        if refusal(changed(config)) is None:
            found |= {part: config for part in parts if part not in found}
    return found


def test_the_network_takes_a_part_by_path():
    configs = accepted()
    every = {(slot, name) for slot in SLOTS for name in SLOTS[slot].builtin}
    assert configs.keys() == every
    for (slot, name), config in configs.items():
        if name == "cnn":  # needs images
            continue
        # Only the default penalty needs no weight: it stands for no penalty.
        weight = {"conservative_weight": 1.0} if slot == "penalty" else {}
        for path in spelled(config, slot):
            changed(config, **{slot: path}, **weight)._check_network(SIZES)


@pytest.mark.parametrize(("name", "other"), [("cvar", "objective"), ("tv", "target")])
def test_a_missing_state_is_said_of_the_part_as_written(name, other):
    own = subclass("target", name)
    keys = {"target": own, "alpha" if name == "cvar" else "rho": 0.3}
    config = configured("VDN", **keys)
    message = f"target: '{own}' needs a global state.*or choose {other}: "
    with pytest.raises(ConfigError, match=message):
        config._check_network(dataclasses.replace(SIZES, state_size=0))


def test_defaults_that_stand_for_no_choice_are_the_exceptions():
    dataset = configured("QMIX", **OFFLINE)
    own = subclass("replay", "uniform")
    assert refusal(changed(dataset, replay=own)).startswith(f"replay: '{own}' stores")
    nested = configured("QMIX", objective="nested")
    for own in SLOTS["target"].builtin["plain"], subclass("target", "plain"):
        assert f"target: '{own}'" in refusal(changed(nested, target=own))


class FixedHead(UtilityHead):
    """An own head with fixed atoms."""


class SharedHead(QuantileHead):
    """An own head whose agents always share their fractions."""

    Options = UtilityHead.Options
    shares_fractions = True


class OtherLevel(RiskLevel):
    """An own level that is neither predicted nor alpha."""


class FrozenLevel(RiskLevel):
    """An own predicted level that needs no gradient."""

    predicted = True


class Lowest(Mean):
    """An own measure that is no longer the mean."""

    def forward(self, atoms, level_logits=None):
        return atoms.amin(dim=-1)


class Entropic(Target):
    """An own target with its own use of alpha."""

    Options = SLOTS["target"].part("cvar").Options


@pytest.mark.parametrize(
    ("run", "slot", "own", "keys", "said"),
    [
        ("RMIX", "quantiles", FixedHead, {}, None),
        ("RiskQ", "quantiles", FixedHead, {}, None),
        ("LHIQN", "quantiles", SharedHead, {"mixer": "vdn"}, None),
        ("VDN", "risk_mode", FrozenLevel, QUANTILE | {"risk_measure": "cvar"}, None),
        ("VDN", "risk_measure", Lowest, QUANTILE | {"tail_level": 0.2}, "tail_level"),
        ("VDN", "target", Entropic, {"alpha": 0.3}, None),
    ],
)
def test_an_own_part_is_judged_by_its_properties(run, slot, own, keys, said):
    config = configured(run, **{slot: f"{__name__}:{own.__name__}"}, **keys)
    message = refusal(config)
    assert message is None if said is None else message.startswith(said), message


def test_a_sampled_head_may_share_fractions_without_a_key():
    assert SharedHead(feature_size=4, num_actions=3, num_atoms=8).shares_fractions


def test_the_risk_line_of_own_parts():
    level = f"{__name__}:OtherLevel"
    config = configured("VDN", **QUANTILE, risk_measure="cvar", risk_mode=level)
    assert f"cvar at the levels of {level} of the learned return" in config.risk()
    config = configured("VDN", **QUANTILE, risk_measure=f"{__name__}:Lowest")
    assert config.risk().startswith("markov; every step is greedy for")
