"""Every key of every algorithm refuses a typo, a wrong type and a wrong range."""

import math
from typing import Any

import pytest

from rllib_risk.algorithms import ALGORITHMS
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.checks import check_config
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.config.yaml_reader import Document

CATALOG = RLlibCatalog()


def check(algorithm: str, key: str, value: Any) -> Any:
    document = Document(None, "f.yaml", {("run", "config", key): 7})
    path = ("run", "config")
    return check_config({key: value}, algorithm, None, document, path, CATALOG)[key]


def wrong_type(field: Field) -> Any:
    """A value that none of the accepted types covers."""
    for candidate in ("text", 3.5, {"a": 1}, [1]):
        if not isinstance(candidate, field.types):
            return candidate
    raise AssertionError("the key accepts everything")


def own_fields(algorithm: str) -> dict[str, Field]:
    from rllib_risk.algorithms import config_class

    return config_class(algorithm).fields()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_typo_is_refused_with_the_right_key(algorithm: str) -> None:
    for key in own_fields(algorithm):
        typo = key[:-2] + key[-1] + key[-2] if key[-1] != key[-2] else key + "x"
        with pytest.raises(ConfigError, match="unknown key") as error:
            check(algorithm, typo, 1)
        assert "f.yaml:7" in str(error.value) or "f.yaml" in str(error.value)
        assert "Did you mean" in str(error.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_type_is_refused(algorithm: str) -> None:
    for key, field in own_fields(algorithm).items():
        with pytest.raises(ConfigError, match=rf"f\.yaml:7: {key}: must be"):
            check(algorithm, key, wrong_type(field))
        if bool not in field.types:
            with pytest.raises(ConfigError, match=rf"f\.yaml:7: {key}: must be"):
                check(algorithm, key, True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_value_outside_the_range_is_refused(algorithm: str) -> None:
    for key, field in own_fields(algorithm).items():
        outside: list[Any] = []
        if field.low is not None:
            outside.append(math.ceil(field.low) - 1)
        if field.high is not None:
            outside.append(math.floor(field.high) + 1)
        if field.choices is not None:
            outside.append("none of these")
        for value in outside:
            with pytest.raises(ConfigError, match=rf"f\.yaml:7: {key}: must be"):
                check(algorithm, key, value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_default_is_accepted(algorithm: str) -> None:
    for key, field in own_fields(algorithm).items():
        assert check(algorithm, key, field.default) == field.default


@pytest.mark.parametrize("algorithm", ["PPO", "DQN", "SAC", "IMPALA", "APPO"])
def test_defaults_of_rllibs_own_algorithms_are_accepted(algorithm: str) -> None:
    from rllib_risk.cli.catalog import default_config

    fields = CATALOG.algorithm_fields(algorithm)
    for key, value in default_config(algorithm).to_dict().items():
        if key in fields:
            check(algorithm, key, value)


def test_rllibs_own_keys_are_typed() -> None:
    for key, value in (
        ("gamma", "abc"),
        ("lr", 0),
        ("num_env_runners", -1),
        ("num_env_runners", 1.5),
        ("clip_param", "much"),
        ("use_gae", 3),
        ("env_config", 3),
        ("train_batch_size", "big"),
        ("grad_clip", -1),
    ):
        with pytest.raises(ConfigError, match=key):
            check("PPO", key, value)
    # Spellings of Ray 2.40's files, and values of several types.
    assert check("PPO", "num_workers", 2) == 2
    assert check("PPO", "rollout_fragment_length", "auto") == "auto"
    assert check("PPO", "lr", [[0, 1e-3], [1000, 1e-4]]) == [[0, 1e-3], [1000, 1e-4]]
