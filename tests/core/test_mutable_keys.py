"""``Field.fixed`` is set for the keys that cannot change when a run goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError, check_value
from rllib_risk.core.config import ALGORITHM_OF

TEAM = spaces.Dict(
    obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
    state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
    action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
)
# Together they use every part that has a number.
PARTS = {
    "RMIX": {"num_atoms": 4, "hidden_size": 8, "target": "tv", "rho": 0.1},
    "QPLEX": {"hidden_size": 8},
    "RiskQ": {"hidden_size": 8, "num_atoms": 4},
    "DOP": {"hidden_size": 8},
    "COMA": {"hidden_size": 8},
    "MAPPO": {"hidden_size": 8},
    "IPPO": {"hidden_size": 8},
}
CONFIGS = list(PARTS.items())


def shapes(config):
    """Shapes of all parameters, and how the optimizers group them."""
    policy_class = ALGORITHM_OF[type(config)].policy_class
    policy = policy_class(TEAM, spaces.MultiDiscrete([4] * 3), config.to_dict())
    modules = policy.modules().items()
    groups = [o.param_groups for o in policy._optimizers]
    return (
        {f"{m}.{k}": p.shape for m, mod in modules for k, p in mod.named_parameters()},
        [[len(group["params"]) for group in each] for each in groups],
        [type(optimizer) for optimizer in policy._optimizers],
    )


def make(name, keys):
    config = config_class(name)().environment("two_step").debugging(seed=0)
    for key, value in keys.items():
        setattr(config, key, value)
    return config


def another(field, value):
    """Another number that the key accepts."""
    for candidate in (2, 3, 0.5, 0.25, 0, 1):
        try:
            other = check_value("", candidate, replace(field, choices=None))
        except ConfigError:
            continue
        if other != value:
            return other
    raise AssertionError(field)


@pytest.mark.parametrize(("name", "keys"), CONFIGS, ids=list(PARTS))
def test_numbers_that_may_mutate_change_no_shape(name, keys):
    config = make(name, keys)
    before = shapes(config)
    free = 0
    for key, field in config.fields().items():
        if field.fixed or not {int, float} & {*field.types}:
            continue
        value = getattr(config, key)
        setattr(config, key, another(field, value))
        assert shapes(config) == before, key
        setattr(config, key, value)
        free += 1
    assert free > 15


def test_every_fixed_number_changes_a_shape():
    changing, fixed = set(), set()
    for name, keys in CONFIGS:
        config = make(name, keys)
        before = shapes(config)
        for key, field in config.fields().items():
            if not field.fixed or not {int, float} & {*field.types}:
                continue
            value = getattr(config, key)
            # A rho of 0 needs no dual network; all other values have the same shapes.
            setattr(config, key, 0.0 if key == "rho" else another(field, value))
            fixed.add(key)
            if shapes(config) != before:
                changing.add(key)
            setattr(config, key, value)
    # These two fix which episodes of a dataset a run learns from.
    assert fixed - changing == {"dataset_holdout", "dataset_top_share"}
    assert "num_atoms" in changing
