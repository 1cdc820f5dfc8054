"""A configuration is a value: object, dict and back, with one check on every path."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ray import tune
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.algorithms import ALGORITHMS, algorithm_class, config_class
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.checks import check_config
from rllib_risk.config.key_names import TEAM_NAMES
from rllib_risk.config.schema import ConfigError, check_value
from rllib_risk.config.yaml_reader import Document
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.rllib_settings import HONOURED, IRRELEVANT, REFUSED, UNUSED_KEYS
from rllib_risk.core.value_config import ValueConfig

VARIANTS = [(n, p) for n in ALGORITHMS for p in (None, *config_class(n).presets)]


def make(name: str, preset: str | None = None) -> TeamConfig:
    config = config_class(name)().environment("two_step")
    return config.training(preset=preset) if preset else config


def test_every_setting_of_rllib_is_in_exactly_one_list() -> None:
    lists = (HONOURED, REFUSED, IRRELEVANT)
    assert set(vars(AlgorithmConfig())) == set().union(*lists)
    assert sum(map(len, lists)) == len(set().union(*lists))


@pytest.mark.parametrize(("name", "preset"), VARIANTS)
def test_from_dict_of_to_dict_is_equal(name: str, preset: str | None) -> None:
    config = make(name, preset)
    config.training(lr=tune.loguniform(1e-4, 1e-2), hidden_size=tune.choice([8, 16]))
    config.environment(env_config={"a": {"b": tune.grid_search([1, 2])}})
    again = type(config).from_dict(config.to_dict())
    assert again == config == config.copy()
    assert again.training(gamma=0.5) != config


def test_two_functions_are_two_values() -> None:
    one, other = (
        make("QMIX").callbacks(on_episode_end=lambda **_: None) for _ in range(2)
    )
    assert one == one.copy() != other


@pytest.mark.parametrize("name", ["RMIX", "QTRAN", "COMA", "DOP", "IPPO"])
def test_rllib_reads_the_dict_and_the_object(name: str) -> None:
    config = make(name)
    config.validate()
    config.validate()  # a second call changes nothing
    for form in (make(name).to_dict(), make(name)):
        request = algorithm_class(name).default_resource_request(form)
        assert request.required_resources["CPU"] == 1


def test_minus_one_is_kept_as_a_value() -> None:
    """RLlib takes -1 for "not given" and drops it on the way to an algorithm."""
    config = ValueConfig().training(v_min=-1.0, risk_parameter=-1.0)
    again = ValueConfig.from_state(config.get_state())
    assert (again.v_min, again.risk_parameter) == (-1.0, -1.0)
    assert again == config


def from_yaml(values: dict[str, Any], name: str = "QMIX") -> None:
    check_config(values, name, "two_step", Document(None, "f"), (), RLlibCatalog())
    through_dict(values, name)


def through_training(values: dict[str, Any], name: str = "QMIX") -> None:
    make(name).training(**values).validate()


def through_dict(values: dict[str, Any], name: str = "QMIX") -> None:
    make(name).update_from_dict(values).validate()


@pytest.mark.parametrize("path", [from_yaml, through_training, through_dict])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_mistyped_key_is_refused_on_every_path(path: Any, name: str) -> None:
    for typo, right in (("gama", "gamma"), ("hiden_size", "hidden_size")):
        with pytest.raises(ConfigError, match=f"'{typo}'.*Did you mean '{right}'"):
            path({typo: 1}, name)


def through_object(values: dict[str, Any], name: str = "QMIX") -> None:
    config = make(name)
    for key, value in values.items():
        setattr(config, key, value)
    config.validate()


@pytest.mark.parametrize("path", [from_yaml, through_object, through_dict])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**31),
        ("seed", 9223372036854775808),
        ("hidden_size", 1e30),
        ("hidden_size", 10**5000),  # more digits than Python prints
        ("num_atoms", 10**6),
        ("batch_size_episodes", 1e30),
        ("buffer_size_episodes", 1e30),
        ("num_envs_per_env_runner", 1e30),
        ("num_env_runners", 1e30),
        ("evaluation_duration", 10**30),
        ("min_sample_timesteps_per_iteration", 1e30),
        ("reward_scale", 1e308),
        ("reward_scale", 10**400),
        ("lr", 1e308),
        ("lr", math.inf),
        ("lr", math.nan),
        ("dual_lr", 1e308),
    ],
    ids=lambda value: f"{value!s:.12}" if isinstance(value, str) else "",
)
def test_numbers_that_no_run_can_use_are_refused(
    path: Any, key: str, value: float
) -> None:
    """R27: a number out of range is refused on every path, with a short message."""
    with pytest.raises(ConfigError, match=f"{key}: must be ") as error:
        path({key: value})
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("points", [[[0, 1e308]], [[0, 0.1], [math.inf, 0.1]]])
def test_schedules_have_bounds_too(points: list) -> None:
    with pytest.raises(ConfigError, match="lr: must be a number in"):
        through_dict({"lr": points})


def test_the_defaults_of_rllib_are_within_the_bounds() -> None:
    for name in ("PPO", "DQN", "SAC", "APPO", "IMPALA"):
        for key, field in RLlibCatalog().algorithm_fields(name).items():
            if isinstance(field.default, (int, float)):
                check_value(key, field.default, field)


def test_a_network_larger_than_the_memory_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make("RMIX").training(hidden_size=2**14, num_atoms=2**14)
    monkeypatch.setattr("rllib_risk.core.value_config.machine_memory", lambda: 10**9)
    message = r"^hidden_size: with 16,384 .* takes \d+ GB, and this machine has 1 GB"
    with pytest.raises(ConfigError, match=message):
        config.preflight()


def test_a_replay_larger_than_the_memory_stops_before_the_first_step(
    ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("QMIX").training(hidden_size=8, buffer_size_episodes=10**9)
    algorithm = config.build_algo()  # works for an evaluation, which holds no replay
    with pytest.raises(ConfigError, match=r"buffer_size_episodes: .* up to \d+ GB"):
        algorithm.train()
    algorithm.stop()


def test_a_mistyped_key_is_refused_by_the_algorithm_and_its_checkpoints(
    ray_local: None, tmp_path: Any
) -> None:
    algorithm = make("QMIX").training(hidden_size=8).build_algo()
    algorithm.save_checkpoint(str(tmp_path))
    cls = type(algorithm)
    with pytest.raises(ConfigError, match=r"'gama'.*'gamma'"):
        cls.from_checkpoint(tmp_path, gama=0.5)
    with pytest.raises(ConfigError, match="clip_rewards: has no effect in QMIX"):
        cls.from_checkpoint(tmp_path, clip_rewards=True)
    with pytest.raises(ConfigError, match=r"'gama'.*'gamma'"):
        cls(config={"env": "two_step", "gama": 0.5})
    # Keys that Tune itself adds to the dict are accepted.
    cls(config={"env": "two_step", "hidden_size": 8, "__stdout_file__": None}).stop()
    # Ray asks for the name of an actor whose start failed.
    assert repr(object.__new__(cls)) == "QMIX"


DIFFERENT: dict[str, Any] = {
    "batch_mode": "complete_episodes",
    "clip_rewards": True,
    "explore": False,
    "exploration_config": {"type": "EpsilonGreedy"},
    "framework": "tf2",
    "grad_clip_by": "value",
    "model": {"fcnet_hiddens": [32]},
    "num_aggregator_actors_per_learner": 1,
    "observation_filter": "MeanStdFilter",
    "policies": {"one", "two"},
    "enable_rl_module_and_learner": True,
    "evaluation_duration_unit": "timesteps",
    "replay_buffer_config": {"capacity": 10},
    "evaluation_config": {"explore": True},
}


@pytest.mark.parametrize("key", DIFFERENT)
def test_a_setting_without_effect_is_refused_where_it_differs(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}\S*: has no effect in QMIX"):
        through_dict({key: DIFFERENT[key]})


def test_the_default_of_a_setting_without_effect_is_accepted() -> None:
    through_dict(
        {
            "framework": "torch",
            "explore": True,
            "batch_mode": "truncate_episodes",
            "clip_rewards": None,
            # RLlib's most common line about evaluations.
            "evaluation_config": {"explore": False},
        }
    )


def test_suggestions_never_name_a_key_that_is_refused() -> None:
    fields = RLlibCatalog().algorithm_fields("QMIX")
    accepted = fields.keys() - UNUSED_KEYS.keys()
    assert set(TEAM_NAMES.values()) <= accepted
    for typo in (
        *TEAM_NAMES,
        *(f"{key}x" for key in UNUSED_KEYS),
        "evaluation_config_",
    ):
        if typo in fields or typo in UNUSED_KEYS:
            continue
        with pytest.raises(ConfigError) as error:
            from_yaml({typo: 1})
        suggested = str(error.value).split("'")[3::2]
        assert set(suggested) <= accepted, error.value


def test_search_spaces_are_checked_value_by_value() -> None:
    config = make("RMIX")
    config.training(hidden_size=tune.randint(8, 17), alpha=tune.uniform(0.1, 1.0))
    with pytest.raises(ConfigError, match="alpha: must be in"):
        config.training(alpha=tune.uniform(0.0, 1.0))
    with pytest.raises(ConfigError, match="hidden_size: must be a whole number"):
        config.training(hidden_size=tune.grid_search([8, "x"]))
