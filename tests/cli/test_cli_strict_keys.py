"""Every key of every algorithm refuses a typo, a wrong type and a wrong range."""

import math
from typing import Any

import pytest

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.checks import check_config
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.config.yaml_reader import Document

CATALOG = RLlibCatalog()


def check(algorithm: str, key: str, value: Any) -> Any:
    document = Document(None, "f.yaml", {("run", "config", key): "f.yaml:7"})
    path = ("run", "config")
    return check_config({key: value}, algorithm, None, document, path, CATALOG)[key]


def wrong_type(field: Field) -> Any:
    """A value of none of the accepted types."""
    for candidate in ("text", 3.5, {"a": 1}, [1]):
        if not isinstance(candidate, field.types):
            return candidate
    raise AssertionError("the key accepts everything")


def usable_fields(algorithm: str) -> dict[str, Field]:
    """The algorithm's own keys; for RMIX and DOP also RLlib's keys."""
    if algorithm not in ("RMIX", "DOP"):
        return config_class(algorithm).fields()
    fields, unused = CATALOG.algorithm_fields(algorithm), CATALOG.unused_keys(algorithm)
    return {
        key: field
        for key, field in fields.items()
        if key not in unused and not key.startswith("_")
    }


def typos(key: str) -> list[str]:
    """One letter left out, doubled, replaced, or exchanged with the one before it."""
    m = len(key) // 2
    before, letter, after = key[:m], key[m], key[m + 1 :]
    return [
        before + after,
        before + 2 * letter + after,
        before + "x" + after,
        before[:-1] + letter + before[-1:] + after,
    ]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_typo_is_refused_with_the_right_key(algorithm: str) -> None:
    """R27: every key, with a kind of typo that differs from key to key."""
    known, checked = CATALOG.algorithm_fields(algorithm), 0
    keys = usable_fields(algorithm)
    first = list(ALGORITHMS).index(algorithm)
    for number, key in enumerate(keys, start=first):
        typo = typos(key)[number % 4]
        if typo in known:  # `nopt_weight` and `opt_weight` are both keys
            continue
        with pytest.raises(ConfigError, match="unknown key") as error:
            check(algorithm, typo, 1)
        assert str(error.value).startswith("f.yaml")
        # Users of other libraries write `risk_level`, which is `alpha` here.
        right = "called 'alpha'" if typo == "risk_level" else f"Did you mean '{key}'?"
        assert right in str(error.value)
        checked += 1
    assert checked >= len(keys) - 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_type_is_refused(algorithm: str) -> None:
    """R27: every key but those of RLlib that take functions and classes."""
    for key, field in usable_fields(algorithm).items():
        if object in field.types:
            continue
        with pytest.raises(ConfigError, match=rf"f\.yaml:7: {key}: must be"):
            check(algorithm, key, wrong_type(field))
        if bool not in field.types:
            with pytest.raises(ConfigError, match=rf"f\.yaml:7: {key}: must be"):
                check(algorithm, key, True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_value_outside_the_range_is_refused(algorithm: str) -> None:
    """R27: below the minimum, above the maximum, and not among the choices."""
    for key, field in usable_fields(algorithm).items():
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
    for key, field in config_class(algorithm).fields().items():
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
