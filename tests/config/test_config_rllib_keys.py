"""Declarations read from type hints and defaults."""

from typing import Any, Literal, Optional, Union

import pytest

from rllib_risk.config.metrics import RLLIB_METRICS, TEAM_METRICS, check_metric
from rllib_risk.config.rllib_keys import field_for, signature_fields, types_of_hint
from rllib_risk.config.schema import ConfigError, check_value

# RLlib writes its hints this way. At run time they differ from `int | None`.
OPTIONAL_INT = Optional[int]  # noqa: UP045
OPTIONAL_FLOAT = Optional[float]  # noqa: UP045
OPTIONAL_TYPE = Optional[type]  # noqa: UP045
STR_OR_INT = Union[str, int]  # noqa: UP007


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, ((int,), False)),
        (OPTIONAL_INT, ((int,), True)),
        (float | list[list[int]] | None, ((float, list, tuple), True)),
        (STR_OR_INT, ((str, int), False)),
        (dict[str, Any], ((dict,), False)),
        (Literal["a", "b"], ((str,), False)),
        (Any, None),
        (type, None),
        (OPTIONAL_TYPE, None),
    ],
)
def test_types_of_hints(hint: Any, expected: Any) -> None:
    assert types_of_hint(hint) == expected


def test_fields_from_hint_and_default() -> None:
    gamma = field_for("gamma", 0.99, OPTIONAL_FLOAT)
    assert check_value("gamma", 1, gamma) == 1.0
    for wrong in ("abc", 1.5, -0.1, None, True):
        with pytest.raises(ConfigError, match="gamma"):
            check_value("gamma", wrong, gamma)
    # The default's type is accepted in addition to the hint's: 'auto' here.
    fragment = field_for("rollout_fragment_length", "auto", OPTIONAL_INT)
    assert check_value("k", "auto", fragment) == "auto"
    assert check_value("k", 5, fragment) == 5
    # A type that YAML cannot express is not checked.
    free = field_for("callbacks", None, OPTIONAL_TYPE)
    assert check_value("k", True, free) is True


def test_fields_of_a_signature() -> None:
    def env(width: int = 7, names: list[str] | None = None, *, noise=0.5):
        del width, names, noise

    fields = signature_fields(env)
    assert fields is not None and list(fields) == ["width", "names", "noise"]
    with pytest.raises(ConfigError):
        check_value("width", "7", fields["width"])
    with pytest.raises(ConfigError):
        check_value("noise", "much", fields["noise"])
    assert signature_fields(lambda **kwargs: kwargs) is None


@pytest.mark.parametrize(
    "name", ["evaluation/risk_level_agent_0", "learner/td_loss", "time_total_s"]
)
def test_metrics_of_env_and_learner_are_accepted(name: str) -> None:
    check_metric(name, TEAM_METRICS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evaluation/retrun_mean", "Did you mean 'evaluation/return_mean'"),
        ("num_env_steps_sample_lifetime", "Did you mean 'num_env_steps_sampled"),
        ("trainin_iteration", "Did you mean 'training_iteration'"),
        ("bananas", "unknown metric"),
    ],
)
def test_misspelt_metrics_are_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_metric(name, TEAM_METRICS)


def test_old_metrics_name_the_new_one() -> None:
    with pytest.raises(ConfigError, match="now called 'env_runners/episode_return"):
        check_metric("episode_reward_mean", RLLIB_METRICS)
