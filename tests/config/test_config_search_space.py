"""Search spaces: reading, checking and conversion to Tune's."""

import pytest
from ray.tune.search.sample import Domain as TuneDomain

from rllib_risk.config.json_values import number_schema
from rllib_risk.config.schema import ConfigError, Field, check_value
from rllib_risk.config.search_space import (
    Domain,
    concrete_configs,
    is_domain,
    map_domains,
    parse_domain,
)

LR = Field(1e-3, "", float, low=0.0, low_open=True)
ATOMS = Field(1, "", int, low=1)
MODE = Field("mean", "", str, choices=("mean", "static"))


def parse(value: dict, field: Field, key: str = "k") -> Domain:
    return parse_domain(key, value, field, lambda v: check_value(key, v, field))


def test_what_is_a_search_space() -> None:
    assert is_domain({"grid_search": [1]})
    assert is_domain({"uniform": [0, 1]})
    assert not is_domain({"capacity": 5})
    assert not is_domain({"uniform": [0, 1], "choice": [1]})
    assert not is_domain([1, 2])


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"uniform": [0.1, 1]}, LR),
        ({"quniform": [0.1, 1, 0.1]}, LR),
        ({"loguniform": [1e-4, 1e-2]}, LR),
        ({"qloguniform": [1e-4, 1e-2, 1e-4]}, LR),
        ({"normal": [0.5, 0.1]}, LR),
        ({"qnormal": [0.5, 0.1, 0.1]}, LR),
        ({"randint": [1, 10]}, ATOMS),
        ({"qrandint": [2, 10, 2]}, ATOMS),
        ({"lograndint": [1, 10]}, ATOMS),
        ({"randint": [1, 10]}, LR),
        ({"choice": ["mean", "static"]}, MODE),
    ],
)
def test_samplers_are_converted_to_ray_tune(value: dict, field: Field) -> None:
    sampler = parse(value, field).to_tune()
    assert isinstance(sampler, TuneDomain)
    check_value("k", sampler.sample(), field)


def test_grid_search_becomes_rays() -> None:
    domain = parse({"grid_search": [1, 2]}, ATOMS)
    assert domain.to_tune() == {"grid_search": [1, 2]}


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ({"grid_search": [1, 0]}, ATOMS, r"in \[1, inf\), not 0"),
        ({"choice": ["mean", "statc"]}, MODE, "Did you mean 'static'"),
        ({"grid_search": []}, ATOMS, "needs a list"),
        ({"grid_search": 3}, ATOMS, "needs a list"),
        ({"uniform": [0.0, 1.0]}, LR, r"in \(0, inf\)"),
        ({"uniform": [1, 2]}, ATOMS, "Use randint or choice"),
        ({"randint": [1, 2]}, MODE, "Use choice"),
        ({"uniform": [2, 1]}, LR, "low must be below high"),
        ({"uniform": [1]}, LR, r"written \{uniform: \[low, high\]\}"),
        ({"uniform": ["a", 1]}, LR, "low must be a number"),
        ({"loguniform": [0, 1]}, LR, "above 0"),
        ({"randint": [1, 2.5]}, ATOMS, "high must be a whole number"),
        ({"quniform": [1, 2, 0]}, LR, "q must be above 0"),
    ],
)
def test_wrong_search_spaces_are_refused(
    value: dict, field: Field, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(value, field)


def test_the_upper_end_of_randint_is_exclusive() -> None:
    # randint [1, 11] gives 1 to 10, which a key with at most 10 accepts.
    field = Field(1, "", int, low=1, high=10)
    assert parse({"randint": [1, 11]}, field).candidates == (1, 10)
    with pytest.raises(ConfigError):
        parse({"qrandint": [1, 11, 1]}, field)


def test_concrete_configs_change_one_key_at_a_time() -> None:
    config = {
        "a": Domain("grid_search", (1, 2, 3)),
        "env_config": {"b": Domain("choice", ("x", "y")), "c": 0},
    }
    found = concrete_configs(config, limit=10)
    pairs = [(c["a"], c["env_config"]["b"]) for c in found]
    assert pairs == [(1, "x"), (2, "x"), (3, "x"), (1, "y")]
    assert len(concrete_configs(config, limit=2)) == 2
    assert map_domains(config, lambda d: d.kind)["env_config"] == {
        "b": "choice",
        "c": 0,
    }


def test_an_open_upper_end_is_refused_like_an_open_lower_one() -> None:
    field = Field(0.5, "", float, low=0.0, low_open=True, high=1.0, high_open=True)
    for value in (0.0, 1.0, 1.5):
        with pytest.raises(ConfigError, match=r"k: must be in \(0, 1\), not"):
            check_value("k", value, field)
    assert check_value("k", 0.999, field) == 0.999
    schema = number_schema("number", field)
    assert schema == {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
