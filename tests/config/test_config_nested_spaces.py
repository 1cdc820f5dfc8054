"""Search spaces inside mappings, lists and other search spaces."""

from typing import Any

import pytest
from ray.tune.search.variant_generator import generate_variants
from test_config_experiments import HEAD, load, refused

from rllib_risk.config.flat_space import fill, flatten_point, flatten_space
from rllib_risk.config.search_space import Domain, concrete_configs, map_domains

# Search spaces in a free mapping, in a list, in another search space and as a key's
# whole value. Some mappings only look like search spaces.
EVERYWHERE = """\
run:
  run: ALGO
  env: free
  config:
    seed: {grid_search: [1, 2]}
    evaluation_config: {lr: {choice: [0.1, 0.2]}}
    env_config:
      choice:
        - kwargs: {noise: {uniform: [0.5, 0.6]}, kind: {normal: true}}
        - layers: [{quniform: [0, 1, 0.25]}, {size: {randint: [3, 5]}}]
          size: {choice: small, other: 1}
"""


def check_sample(config: dict[str, Any]) -> None:
    assert config["seed"] in (1, 2)
    assert config["evaluation_config"]["lr"] in (0.1, 0.2)
    env = config["env_config"]
    if "kwargs" in env:
        assert 0.5 <= env["kwargs"]["noise"] <= 0.6
        assert env["kwargs"]["kind"] == {"normal": True}
    else:
        assert env["layers"][0] in (0, 0.25, 0.5, 0.75, 1)
        assert env["layers"][1]["size"] in (3, 4)
        assert env["size"] == {"choice": "small", "other": 1}


def test_tune_resolves_all_of_them() -> None:
    config = map_domains(load(EVERYWHERE).config, Domain.to_tune)
    seen = set()
    for _ in range(12):
        variants = [spec["config"] for _, spec in generate_variants({"config": config})]
        assert [variant["seed"] for variant in variants] == [1, 2]
        for variant in variants:
            check_sample(variant)
            seen.add(tuple(variant["env_config"]))
    assert len(seen) == 2  # both values of the choice, 24 draws


def test_the_preflight_gets_concrete_configurations() -> None:
    configs = concrete_configs(load(EVERYWHERE).config, 32)
    for config in configs:
        check_sample(config)
    # The first configuration; the other seed; the other rate; the other end of noise;
    # the second env_config, and the other ends of its two numbers.
    assert len(configs) == 1 + 1 + 1 + 1 + 3


def test_a_searcher_sees_names_and_numbers() -> None:
    config = load(EVERYWHERE.replace("grid_search", "choice")).config
    space = flatten_space(config)
    first, second = "env_config.choice.0", "env_config.choice.1"
    assert space == {
        "seed": Domain("choice", (1, 2)),
        "evaluation_config.lr": Domain("choice", (0.1, 0.2)),
        "env_config": Domain("choice", (0, 1)),
        f"{first}.kwargs.noise": Domain("uniform", (0.5, 0.6)),
        f"{second}.layers.0": Domain("uniform", (0, 1)),
        f"{second}.layers.1.size": Domain("randint", (3, 5)),
    }
    suggested = {
        "seed": 2,
        "evaluation_config.lr": 0.1,
        "env_config": 1,
        f"{first}.kwargs.noise": 0.55,
        f"{second}.layers.0": 0.4,
        f"{second}.layers.1.size": 3,
    }
    assert fill(config, suggested)["env_config"] == {
        "layers": [0.5, {"size": 3}],  # 0.4 rounded to steps of 0.25
        "size": {"choice": "small", "other": 1},
    }
    point = {
        "seed": 2,
        "evaluation_config": {"lr": 0.1},
        "env_config": fill(config, suggested)["env_config"],
    }
    expected = {**suggested, f"{first}.kwargs.noise": 0.5, f"{second}.layers.0": 0.5}
    assert flatten_point(config, point) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("env_config: {a: [1, {uniform: [2, 1]}]}", r"f.yaml:5: env_config.a\[1\]: un"),
        ("env_config: {choice: [{a: {choice: []}}]}", "5: env_config.a: choice needs"),
        ("env_config: {a: {grid_search: 3}}", "5: env_config.a: grid_search needs a"),
        ("env_config: {a: {eval: 'os'}}", "f.yaml:5: env_config.a: .*Tune would run"),
        ("lr: {choice: 0.1}", "f.yaml:5: lr: choice needs a list of values"),
        ("lr: {quniform: [0.1, 0.95, 0.1]}", "high must be a multiple of q, but 0.95"),
        ("evaluation_config: {choice: [{lr: -1}]}", "f.yaml:5: lr: must be in"),
    ],
)
def test_wrong_ones_are_refused_at_their_line(config: str, message: str) -> None:
    refused(HEAD.replace("known", "free") + f"  config:\n    {config}\n", message)


@pytest.mark.parametrize(
    ("more", "config", "message"),
    [
        ("", "seed: {grid_search: [1]}", "f.yaml:6: seed: optuna chooses values"),
        ("", "lr: {normal: [1, 1]}", "f.yaml:6: lr: optuna does not support normal"),
        ("", "seed: 1", "f.yaml:4: optuna: 'config' has no search"),
        (
            "search_alg_config: {points_to_evaluate: [{lr: 3}]}",
            "lr: {uniform: [1, 2]}",
            "f.yaml:7: points_to_evaluate: lr: 3 is not one of its values",
        ),
        (
            "search_alg_config: {points_to_evaluate: [{seed: 3}]}",
            "lr: {uniform: [1, 2]}",
            "f.yaml:7: points_to_evaluate: a point: 'seed' has no search space",
        ),
        ("search_alg_config: {metric: [a, b]}", "lr: 1", "metric: must be one name"),
        ("search_alg_config: {sede: 3}", "lr: 1", "unknown argument 'sede'. Did you"),
        ("max_concurrent_trials: 0", "lr: 1", "max_concurrent_trials: must be in"),
    ],
)
def test_what_a_searcher_cannot_search(more: str, config: str, message: str) -> None:
    text = HEAD + f"  search_alg: optuna\n  config:\n    {config}\n  {more}\n"
    refused(text, message)


def test_a_searcher_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for key, name, package in (
        ("search_alg", "hyperopt", "hyperopt"),
        ("scheduler", "pb2", "scikit-learn"),
    ):
        refused(HEAD + f"  {key}: {name}\n", f"f.yaml:4: {name}: .*'{package}'")


SAMPLED = "lr: {uniform: [1, 2]}"


@pytest.mark.parametrize(
    ("mutations", "config", "message"),
    [
        (
            "env_config: {noise: [0.1, 0.2]}",
            "env_config: {width: 3}",
            "has no start value",
        ),
        (SAMPLED, "lr: 0.1\n  search_alg: optuna", "has no search space"),
        (SAMPLED, "lr: {uniform: [1, 2]}\n  search_alg: optuna", "cannot be combined"),
        ("num_atoms: [1, 2]", "lr: 0.1", "f.yaml:5: .*num_atoms: cannot change.*: lr"),
        ("train_batch_size: [1, 2]", "lr: 0.1", "train_batch_size: unknown key"),
    ],
)
def test_what_pbt_cannot_mutate(mutations: str, config: str, message: str) -> None:
    refused(
        HEAD + f"  scheduler: pbt\n  scheduler_config: {{hyperparam_mutations:"
        f" {{{mutations}}}}}\n  config:\n    {config}\n",
        message,
    )
