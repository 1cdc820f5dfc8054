"""Experiments: what a training file may contain."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rllib_risk.config.comparison import parse_seeds
from rllib_risk.config.experiments import ExperimentSpec, check_name
from rllib_risk.config.loading import (
    find_file,
    load_python,
    parse_document,
    parse_json,
    read_training_file,
)
from rllib_risk.config.metrics import TEAM_METRICS
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.config.search_space import Domain
from rllib_risk.config.yaml_reader import parse_yaml


class FakeCatalog:
    """One algorithm with a few keys, one env with two arguments."""

    def check_algorithm(self, name: str) -> None:
        if name != "ALGO":
            raise ConfigError(f"run: unknown algorithm '{name}'.")

    def check_env(self, env: str, algorithm: str) -> None:
        if env not in ("known", "free"):
            raise ConfigError(f"env: unknown environment '{env}'.")

    def algorithm_fields(self, name: str, config: object = None) -> Mapping[str, Field]:
        return {
            "lr": Field(1e-3, "", float, low=0.0, low_open=True),
            "num_atoms": Field(1, "", int, low=1, fixed=True),
            "seed": Field(None, "", int, low=0, optional=True),
            "num_epochs": Field(1, "", int),
            "env": Field(None, "", str),
            "env_config": Field({}, "", dict),
            "model": Field({}, "", dict),
            "evaluation_config": Field({}, "", dict),
        }

    def unused_keys(self, name: str) -> Mapping[str, str]:
        return {"train_batch_size": "use batch_size_episodes"}

    def env_fields(self, env: str) -> Mapping[str, Field] | None:
        if env == "free":
            return None
        return {"width": Field(7, "", int), "noise": Field(0.0, "", float)}

    def subkeys(self, algorithm: str, key: str) -> Mapping[str, Field] | None:
        return {"fcnet": Field(1, "", int)} if key == "model" else None

    def metrics(self, algorithm: str) -> tuple[str, ...]:
        return TEAM_METRICS


def load(text: str) -> ExperimentSpec:
    return parse_document(parse_yaml(text, "f.yaml"), FakeCatalog())[0]


def refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text)


HEAD = "run:\n  run: ALGO\n  env: known\n"


def test_a_whole_experiment() -> None:
    spec = load(
        """
my-run:
  algorithm: ALGO
  env: known
  stop: {num_env_steps_sampled_lifetime: 1e5, evaluation: {return_mean: -7}}
  num_samples: 3
  checkpoint_freq: 5
  checkpoint_config: {num_to_keep: 2, checkpoint_score_attribute: min-epsilon}
  scheduler: asha
  scheduler_config: {max_t: 10}
  config:
    lr: {loguniform: [1e-4, 1e-2]}
    num_atoms: 1e1
    seed: {grid_search: [0, 1]}
    env_config: {width: {choice: [7, 12]}, noise: 1}
"""
    )
    assert (spec.name, spec.algorithm, spec.env) == ("my-run", "ALGO", "known")
    # Nested stop criteria mean the same as flat ones.
    assert spec.stop == {
        "num_env_steps_sampled_lifetime": 1e5,
        "evaluation/return_mean": -7,
    }
    assert spec.checkpoint == {
        "checkpoint_frequency": 5,
        "num_to_keep": 2,
        "checkpoint_score_attribute": "epsilon",
        "checkpoint_score_order": "min",
    }
    assert spec.num_samples == 3
    assert spec.config == {
        "lr": Domain("loguniform", (1e-4, 1e-2)),
        "num_atoms": 10,
        "seed": Domain("grid_search", (0, 1)),
        "env_config": {"width": Domain("choice", (7, 12)), "noise": 1.0},
    }
    assert isinstance(spec.config["num_atoms"], int)
    assert spec.scheduler is not None and spec.scheduler.name == "asha"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}  config:\n    lrr: 1\n", r"f\.yaml:5: unknown key 'lrr'.*'lr'"),
        (f"{HEAD}  config:\n    lr: fast\n", r"f\.yaml:5: lr: must be a number"),
        (f"{HEAD}  config:\n    lr: 0\n", r"f\.yaml:5: lr: must be in \(0"),
        (f"{HEAD}  config:\n    num_atoms: 1.5\n", r":5: num_atoms: .*whole number"),
        (f"{HEAD}  config:\n    seed: true\n", r":5: seed: must be a whole number"),
        (f"{HEAD}  config: {{num_workers: 1}}\n", r":4: unknown key 'num_workers'"),
        (f"{HEAD}  config:\n    num_sgd_iter: 3\n", "it is now 'num_epochs'"),
        (f"{HEAD}  config:\n    train_batch_size: 3\n", "no effect in ALGO; use batch"),
        (
            f"{HEAD}  config:\n    env_config:\n      widht: 7\n",
            r"f\.yaml:6: unknown key 'widht' of env_config.*'width'",
        ),
        (
            f"{HEAD}  config:\n    env_config:\n      width: wide\n",
            r"f\.yaml:6: env_config\.width: must be a whole number",
        ),
        (f"{HEAD}  config:\n    model: {{fcnett: 1}}\n", r":5: unknown key 'fcnett'"),
        (
            f"{HEAD}  config:\n    lr: {{grid_serch: [1, 2]}}\n",
            r":5: lr: must be a number.*Did you mean 'grid_search'",
        ),
        (
            f"{HEAD}  config:\n    lr: {{choice: [1, -2]}}\n",
            r":5: lr: must be in \(0",
        ),
        (f"{HEAD}  num_sample: 3\n", r":4: unknown key 'num_sample'.*'num_samples'"),
        (f"{HEAD}  num_samples: 0\n", r":4: num_samples: must be in \[1"),
        (f"{HEAD}  local_dir: x\n", ":4: 'local_dir' no longer exists.*storage_path"),
        (f"{HEAD}  seeds: [1]\n", r":4: 'seeds'.*grid_search"),
        (f"{HEAD}  stop: {{trainin_iteration: 3}}\n", ":4: .*'training_iteration'"),
        (f"{HEAD}  stop:\n    epsilon: low\n", ":5: stop: epsilon: must be a number"),
        (f"{HEAD}  checkpoint_config: {{num_keep: 3}}\n", ":4: .*'num_to_keep'"),
        (f"{HEAD}  scheduler: ASAH\n", r":4: .*Did you mean 'asha'"),
        (f"{HEAD}  scheduler_config: {{}}\n", r":4: .*'scheduler' is missing"),
        (
            f"{HEAD}  scheduler: asha\n  scheduler_config: {{metric: retrun}}\n",
            ":5: unknown metric",
        ),
        ("run:\n  env: known\n", "'run' .the algorithm. is missing"),
        ("run:\n  run: ALGO\n", "'env' is missing"),
        ("run:\n  run: ALGO\n  algorithm: ALGO\n  env: known\n", "Give only one"),
        ("run:\n  run: OTHER\n  env: known\n", r":2: run: unknown algorithm"),
        ("run:\n  run: ALGO\n  env: other\n", r":3: env: unknown environment"),
        ("run: 3\n", r":1: run: must be a mapping with run"),
        ("off:\n  run: ALGO\n  env: known\n", "reads this word as false"),
        ("- 1\n", "must map experiment names"),
        ("", "must map experiment names"),
        ("../x:\n  run: ALGO\n  env: known\n", r":1: experiment name '\.\./x'"),
        (
            f"{HEAD}  imports: [no_such_module]\n",
            r":4: imports: cannot import module 'no_such_",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    refused(text, message)


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "1e400"])
@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("stop: {training_iteration: NUMBER}", 4),
        ("stop:\n    evaluation: {return_mean: NUMBER}", 5),
        ("resources_per_trial: {cpu: NUMBER}", 4),
        ("time_budget_s: NUMBER", 4),
        ("scheduler: asha\n  scheduler_config: {max_t: NUMBER}", 5),
        ("search_alg: optuna\n  search_alg_config:\n    x: [1, NUMBER]", 6),
    ],
)
def test_numbers_of_an_experiment_are_finite(key: str, line: int, number: str) -> None:
    text = f"{HEAD}  {key.replace('NUMBER', number)}\n"
    refused(text, rf"f\.yaml:{line}: .*must be a finite number, not -?(nan|inf)\.")


def test_numbers_of_an_experiment_have_bounds() -> None:
    for text, message in (
        ("resources_per_trial: {cpu: 1e30}", r"resources_per_trial\.cpu: must be in"),
        ("resources_per_trial: {gpu: -1}", r"resources_per_trial\.gpu: must be in"),
        (f"stop: {{epsilon: {10**400}}}", "stop: epsilon: must be at most"),
    ):
        refused(f"{HEAD}  {text}\n", f":4: .*{message}")
    assert load(f"{HEAD}  resources_per_trial: {{cpu: 2, memory: 4e12}}\n")


def test_the_env_may_stand_in_config() -> None:
    spec = load("run:\n  run: ALGO\n  config: {env: free, env_config: {any: 1}}\n")
    assert spec.env == "free"
    assert spec.config == {"env_config": {"any": 1}}


def test_free_env_configs_may_hold_search_spaces() -> None:
    spec = load(
        "run:\n  run: ALGO\n  env: free\n"
        "  config: {env_config: {deep: {x: {uniform: [0, 1]}}}}\n"
    )
    assert spec.config["env_config"]["deep"]["x"] == Domain("uniform", (0, 1))


def test_evaluation_config_is_checked_like_config() -> None:
    text = "x: {run: ALGO, env: known, config: {evaluation_config: %s}}"
    spec = load(text % "{env_config: {noise: 0}, lr: 1}")
    assert spec.config["evaluation_config"] == {"env_config": {"noise": 0.0}, "lr": 1.0}
    with pytest.raises(ConfigError, match=r"unknown key 'nois' of env_config"):
        load(text % "{env_config: {nois: 0}}")
    # Another environment has other arguments.
    free = load(text % "{env: free, env_config: {anything: 1}}")
    assert free.config["evaluation_config"]["env_config"] == {"anything": 1}


class CatalogOfOwnParts(FakeCatalog):
    """`model` may name an own part, which declares the key `caution`."""

    def algorithm_fields(
        self, name: str, config: Mapping[str, Any] | None = None
    ) -> Mapping[str, Field]:
        own = {"caution": Field(0.5, "", float)} if "model" in (config or {}) else {}
        return {**super().algorithm_fields(name), **own}


def test_evaluation_config_has_the_keys_of_the_trainings_own_parts() -> None:
    for config in (
        "{model: {}, evaluation_config: {caution: 0.9}}",
        "{evaluation_config: {model: {}, caution: 0.9}}",
    ):
        text = f"x: {{run: ALGO, env: known, config: {config}}}"
        (spec,) = parse_document(parse_yaml(text, "f.yaml"), CatalogOfOwnParts())
        assert spec.config["evaluation_config"]["caution"] == 0.9
    text = "x: {run: ALGO, env: known, config: {evaluation_config: {caution: 0.9}}}"
    with pytest.raises(ConfigError, match="unknown key 'caution'"):
        parse_document(parse_yaml(text, "f.yaml"), CatalogOfOwnParts())


def test_errors_found_later_are_located() -> None:
    spec = load(f"{HEAD}  config:\n    lr: 1\n    env_config:\n      width: 7\n")
    assert str(spec.located("lr: too large")) == "f.yaml:5: lr: too large"
    later = spec.located("unknown key env_config.width: no")
    assert str(later).startswith("f.yaml:7: ")
    assert str(spec.located("something else")).startswith("f.yaml:1: ")
    elsewhere = spec.located("something else", "config.nothing", "env")
    assert str(elsewhere).startswith("f.yaml:3: ")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "-x", "a b", "/tmp"])
def test_names_cannot_leave_the_storage_folder(name: str) -> None:
    """R26: results are written below the storage folder."""
    with pytest.raises(ConfigError):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "rmix-macn.4x7_2", "0"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


def test_json_options() -> None:
    assert parse_json('{"a": 1e-3}', "--config").data == {"a": 0.001}
    for text, message in (
        ("{a: 1}", "--config: not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_json(text, "--config")


def test_files_are_looked_up_here_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("x: 1\n")
    assert find_file("mine.yaml") == Path("mine.yaml")
    for name in ("none.yaml", "../../etc/passwd", "tuned_examples/../cli/main.py"):
        with pytest.raises(ConfigError, match="no such file"):
            find_file(name)


def test_python_files(tmp_path: Path) -> None:
    file = tmp_path / "my_run.py"
    file.write_text(
        "from rllib_risk.algorithms import VDNConfig\n"
        "config = VDNConfig().environment('two_step')\n"
        "stop = {'training_iteration': 1}\n"
    )
    spec = load_python(file)
    assert spec.name == "my_run"
    assert spec.algorithm.__name__ == "VDN"
    assert spec.config["env"] == "two_step"
    for text, message in (
        ("x = 1", "must set 'config'"),
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("raise SystemExit(3)", r"my_run\.py: SystemExit: 3"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_python(file)
    with pytest.raises(ConfigError, match=r"\.yaml or a \.py"):
        read_training_file(tmp_path / "run.txt")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: check_name("n" * 300),
            r"^experiment name 'n{79}\.\.\.: has 300 chara",
        ),
        (
            lambda: parse_json('{"a":' * 3000 + "1" + "}" * 3000, "--config"),
            "recursion",
        ),
        (
            lambda: parse_json('{"a":' * 200 + "1" + "}" * 200, "--config"),
            "100 nested levels",
        ),
        (lambda: parse_json(f'{{"a": {"9" * 5000}}}', "--config"), "4300 digits"),
        (lambda: parse_seeds("0-99999999999"), "more than 10,000 seeds"),
    ],
    ids=["name", "deep", "less deep", "digits", "seeds"],
)
def test_what_is_too_large_has_a_short_message(call: Any, message: str) -> None:
    """R27: sizes that no run can use, outside of the keys of an algorithm."""
    with pytest.raises(ConfigError, match=message) as error:
        call()
    assert len(str(error.value)) < 300
