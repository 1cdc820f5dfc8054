"""Comparisons: what the file of ``rllib compare`` may contain."""

from collections.abc import Mapping

import pytest

from rllib_risk.config.comparison import Comparison, parse_comparison, parse_seeds
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.config.yaml_reader import parse_yaml

TEXT = """\
env: known
stop: {num_env_steps_sampled_lifetime: 100}
seeds: [3, 1]
threshold: -7
max_failures: 1
config:
  lr: 0.5
  mixer: qmix
  env_config: {width: 7}
algorithms:
  VALUE:
  VALUE-fast:
    run: VALUE
    config: {lr: 1}
  ACTOR: {without: [mixer]}
"""


class FakeCatalog:
    """Two algorithms: both have `lr`, only one has `mixer`."""

    def check_algorithm(self, name: str) -> None:
        if name not in ("VALUE", "ACTOR"):
            raise ConfigError(f"run: unknown algorithm '{name}'.")

    def check_env(self, env: str, algorithm: str) -> None:
        if env != "known":
            raise ConfigError(f"env: unknown environment '{env}'.")

    def algorithm_fields(self, name: str, config: object = None) -> Mapping[str, Field]:
        fields = {
            "lr": Field(0.1, "", float, low=0),
            "seed": Field(None, "", int, optional=True),
            "env": Field(None, "", str),
            "env_config": Field({}, "", dict),
        }
        if name == "VALUE":
            fields["mixer"] = Field("vdn", "", str, choices=("vdn", "qmix"))
        return fields

    def unused_keys(self, name: str) -> Mapping[str, str]:
        return {"train_batch_size": "use another"}

    def env_fields(self, env: str) -> Mapping[str, Field] | None:
        return {"width": Field(12, "", int, low=2)}

    def subkeys(self, algorithm: str, key: str) -> Mapping[str, Field] | None:
        return None

    def metrics(self, algorithm: str) -> tuple[str, ...]:
        return ("num_env_steps_sampled_lifetime", "evaluation/return_mean")


def load(text: str) -> Comparison:
    return parse_comparison(parse_yaml(text, "f.yaml"), FakeCatalog())


def test_each_label_is_an_experiment_of_shared_and_own_keys() -> None:
    comparison = load(TEXT)
    assert comparison.seeds == (3, 1)
    assert comparison.threshold == -7.0
    value, fast, actor = comparison.specs
    shared = {"lr": 0.5, "env_config": {"width": 7}}
    assert (value.name, value.algorithm) == ("VALUE", "VALUE")
    assert value.config == {**shared, "mixer": "qmix"}
    assert (fast.name, fast.algorithm) == ("VALUE-fast", "VALUE")
    assert fast.config == {**shared, "mixer": "qmix", "lr": 1.0}
    assert (actor.name, actor.config) == ("ACTOR", shared)
    for spec in comparison.specs:
        assert spec.env == "known"
        assert spec.stop == {"num_env_steps_sampled_lifetime": 100}
        assert spec.max_failures == 1


def test_five_seeds_and_no_threshold_unless_given() -> None:
    comparison = load(TEXT.replace("seeds: [3, 1]\nthreshold: -7\n", ""))
    assert comparison.seeds == (0, 1, 2, 3, 4)
    assert comparison.threshold is None


def test_some_labels_of_it() -> None:
    comparison = load(TEXT)
    some = comparison.select(["ACTOR", "VALUE"])
    # In the order of the file.
    assert [spec.name for spec in some.specs] == ["VALUE", "ACTOR"]
    assert some.seeds == comparison.seeds
    with pytest.raises(ConfigError, match=r"no algorithm 'ACTR'. Did you mean 'ACTOR'"):
        comparison.select(["ACTR"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threshold:", "treshold:", r"f.yaml:4: unknown key 'treshold'.*'threshold'"),
        ("threshold: -7", "num_samples: 3", r"f.yaml:4: .*write `seeds: \[0, 1, 2\]`"),
        ("threshold: -7", "threshold: high", r"f.yaml:4: threshold: must be a number"),
        ("env: known\n", "", r"f.yaml: 'env' is missing"),
        ("env: known", "env: knwon", r"f.yaml:1: env: unknown environment"),
        ("stop: {num_env_steps_sampled_lifetime: 100}\n", "", "'stop' is missing"),
        ("num_env_steps_sampled_lifetime: 100", "retrn: 1", r"f.yaml:2: unknown metr"),
        ("[3, 1]", "[]", r"f.yaml:3: seeds: is empty"),
        ("[3, 1]", "[3, 3]", r"f.yaml:3: seeds: 3 is given twice"),
        ("[3, 1]", "[3, -1]", r"f.yaml:3: seeds: must be whole numbers .* not -1"),
        ("[3, 1]", "[3, true]", r"f.yaml:3: seeds: must be whole numbers"),
        ("[3, 1]", "5", r"f.yaml:3: seeds: must be a list"),
        ("lr: 0.5", "lrr: 0.5", r"f.yaml:7: unknown key 'lrr' of VALUE"),
        ("lr: 0.5", "lr: -1", r"f.yaml:7: lr: must be in .*\(In 'VALUE'.\)"),
        ("lr: 0.5", "train_batch_size: 1", r"f.yaml:7: .*has no effect.*use another"),
        ("lr: 0.5", "seed: 1", r"f.yaml:7: seed: .*write them under 'seeds'"),
        ("lr: 0.5", "env: known", r"f.yaml:7: env: .*write it under 'env'"),
        (
            "lr: 0.5",
            "lr: {grid_search: [1, 2]}",
            r"f.yaml:7: lr: .*cannot have a grid_search. Give each value",
        ),
        ("{width: 7}", "{widht: 7}", r"f.yaml:9: unknown key 'widht'"),
        (
            " {without: [mixer]}",
            "",
            r"f.yaml:8: unknown key 'mixer' of ACTOR.*without: \[mixer\]",
        ),
        ("[mixer]", "[mixr]", r"f.yaml:15: without: 'mixr' .*Did you mean 'mixer'"),
        (
            "{without: [mixer]}",
            "{without: [mixer], config: {mixer: vdn}}",
            r"f.yaml:15: without: 'mixer' also has a new value",
        ),
        ("config: {lr: 1}", "confg: {lr: 1}", r"f.yaml:14: unknown key 'confg' of VA"),
        ("config: {lr: 1}", "config: {lr: x}", r"f.yaml:14: lr: .*\(In 'VALUE-fast'"),
        ("config: {lr: 1}", "config: {seed: 1}", r"f.yaml:14: seed: all algorithms"),
        (
            "config: {lr: 1}",
            "config: {env_config: {width: 8}}",
            r"f.yaml:14: env_config: all algorithms have the same env",
        ),
        ("run: VALUE", "run: VALEU", r"f.yaml:13: run: unknown algorithm 'VALEU'"),
        ("  ACTOR: ", "  AKTOR: ", r"f.yaml:15: run: unknown algorithm 'AKTOR'"),
        ("  ACTOR: ", "  ../x: ", r"f.yaml:15: .*'\.\./x'"),
        ("{without: [mixer]}", "3", r"f.yaml:15: ACTOR: must be a mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, message: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(ConfigError, match=message):
        load(text)


@pytest.mark.parametrize("text", ["", "- 1\n", "env: known\n", "algorithms: {}\n"])
def test_a_comparison_names_algorithms(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^f.yaml"):
        load(text)


def test_each_kind_of_file_names_the_other_command() -> None:
    training = "mine:\n  run: VALUE\n  env: known\n"
    with pytest.raises(ConfigError, match=r"Run it with: rllib train file f\.yaml"):
        load(training)
    document = parse_yaml(TEXT, "f.yaml")
    with pytest.raises(ConfigError, match=r"Run it with: rllib compare f\.yaml"):
        parse_document(document, FakeCatalog())
    # An experiment may be called `algorithms`.
    document = parse_yaml(training.replace("mine", "algorithms"), "f.yaml")
    assert parse_document(document, FakeCatalog())[0].name == "algorithms"


def test_errors_found_later_are_located() -> None:
    value, fast, _ = load(TEXT).specs
    assert str(value.located("lr: too large")).startswith("f.yaml:7: ")
    assert str(fast.located("lr: too large")).startswith("f.yaml:14: ")
    assert str(fast.located("mixer: no")).startswith("f.yaml:8: ")
    assert str(fast.located("something else")).startswith("f.yaml:12: ")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("0, 2", [0, 2]), ("0-1,7", [0, 1, 7])],
)
def test_seeds_on_the_command_line(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "4-0", "-1", "1,", "1.5", "0-", "²"])
def test_wrong_seeds_on_the_command_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds: write"):
        parse_seeds(text)
