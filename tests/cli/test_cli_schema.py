"""``rllib example schema``: the JSON Schema of training files."""

import contextlib
import io
import json
import re
from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.cli.main import run
from rllib_risk.config.loading import (
    examples_root,
    list_examples,
    parse_document,
)
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import parse_yaml

TRAINING = [n for n in list_examples() if not n.startswith(("compare/", "shift/"))]


@pytest.fixture(scope="module")
def schema() -> dict:
    """The schema that the command prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        assert run(["example", "schema"]) == 0
    return json.loads(stream.getvalue())


@pytest.fixture(scope="module")
def wrong(schema: dict) -> Callable[[str], list[str]]:
    """A function: the messages of a validator about the text of a training file."""
    # The configurations of the algorithms have one form, and each takes a second.
    some = ("RMIX", "DOP", "PPO")
    checked = {
        name: part
        for name, part in schema["$defs"].items()
        if not name.startswith(("config.", "keys.", "own."))
        or name.partition(".")[2] in some
    }
    Draft202012Validator.check_schema({**schema, "$defs": checked})
    validator = Draft202012Validator(schema)

    def messages(text: str) -> list[str]:
        data = parse_yaml(text, "f.yaml").data
        return [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
            for error in validator.iter_errors(data)
        ]

    return messages


def test_every_shipped_training_file_is_valid(
    wrong: Callable[[str], list[str]],
) -> None:
    assert len(TRAINING) > 50
    for name in TRAINING:
        assert wrong((examples_root() / f"{name}.yaml").read_text()) == [], name


def test_every_key_is_described_as_it_is_declared(schema: dict) -> None:
    definitions = schema["$defs"]
    for name in ALGORITHMS:
        properties = definitions[f"keys.{name}"]["properties"]
        for key, field in config_class(name).fields().items():
            assert properties[key]["default"] == field.default
            found = definitions[properties[key]["$ref"].removeprefix("#/$defs/")]
            found = found.get("else", found)
            assert found["description"].startswith(field.doc)
            if field.choices is not None and field.types == (str,):
                listed = found.get("anyOf", [found])[0]["enum"]
                assert [c for c in listed if c is not None] == [*field.choices]
            if field.high is not None and {int, float} & {*field.types}:
                assert found["maximum"] == field.high


CONFIG = "x:\n  run: RMIX\n  env: macn\n  config: "


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (CONFIG + "{lrr: 1}", "x.config: .*'lrr'"),
        (CONFIG + "{gamma: 1.5}", "x.config.gamma: 1.5 is greater"),
        (CONFIG + "{num_atoms: 0}", "x.config.num_atoms: 0 is less"),
        (CONFIG + "{num_atoms: many}", "x.config.num_atoms: 'many' is not of type"),
        (CONFIG + "{optimizer: adm}", "x.config.optimizer: 'adm' is not one"),
        (CONFIG + "{mixer: qmx}", "x.config.mixer: 'qmx'"),
        (CONFIG + "{lr: {uniform: [0.1, -2]}}", "x.config.lr.uniform.1: -2"),
        (CONFIG + "{lr: {loguniform: [0.1]}}", "x.config.lr.loguniform: "),
        (CONFIG + "{lr: {unifrom: [0.1, 0.2]}}", "x.config.lr: .*'unifrom'"),
        (CONFIG + "{alpha: {grid_search: [0.5, 2]}}", "alpha.grid_search.1: 2"),
        (CONFIG + "{recurrent: {uniform: [0, 1]}}", "x.config.recurrent: "),
        (CONFIG + "{env_config: {widht: 7}}", "x.config.env_config: .*'widht'"),
        (CONFIG + "{evaluation_config: {lrr: 7}}", "x.config.evaluation_config: "),
        ("x: {run: COMA, env: macn, config: {mixer: qmix}}", "x.config: .*'mixer'"),
        ("x: {run: PPO, env: A-v1, config: {clip_parm: 1}}", "x.config: .*clip_parm"),
        ("x: {run: RMIX, env: macn, stp: {}}", "x: .*'stp'"),
        ("x: {run: RMIX, env: macn, stop: {time_total_s: soon}}", "x.stop"),
        ("x: {run: RMIX, env: macn, num_samples: 0}", "x.num_samples: 0 is less"),
        ("x: {run: RMIX, env: macn, scheduler: ashaa}", "x.scheduler: "),
        ("shared: {config: {lrr: 1}}\nx: {run: RMIX, env: macn}", "shared.config: "),
        (CONFIG + "{mixer: {grid_search: [vdn]}, lrr: 1}", "x.config: .*'lrr'"),
        ("x: {extends: base.yaml, config: {gamma: 2}}", "x.config.gamma: 2 is greater"),
        ("x: {extends: base.yaml, without: lr}", "x.without: 'lr' is not of type"),
    ],
)
def test_what_the_loader_refuses_is_invalid(
    wrong: Callable[[str], list[str]], text: str, place: str
) -> None:
    found = wrong(text)
    assert any(re.match(f".*{place}", message) for message in found), found
    with pytest.raises(ConfigError):
        parse_document(parse_yaml(text, "f.yaml"), RLlibCatalog())


@pytest.mark.parametrize(
    "text",
    [
        CONFIG + "{lr: 1e-3, hidden_size: 1e2, alpha: [[0, 1.0], [100, 0.5]]}",
        CONFIG + "{mixer: 'mine:Mixer', num_workers: 2, optimizer_eps: null}",
        CONFIG + "{mixer: 'mine:Mixer', a_key_of_that_mixer: 1}",
        CONFIG + "{mixer: {grid_search: [vdn, 'mine:Mixer']}, a_key_of_that_mixer: 1}",
        CONFIG + "{mixer: 'mine:Mixer', evaluation_config: {a_key_of_that_mixer: 1}}",
        # Another file may name the part that declares the key.
        "x: {extends: base.yaml, config: {a_key_of_that_mixer: 1}}",
        "x: {run: RMIX, extends: base.yaml, config: {a_key_of_that_mixer: 1}}",
        "shared: {config: {mixer: 'mine:Mixer'}}\n"
        "x: {run: RMIX, env: macn, config: {a_key_of_that_mixer: 1}}",
        CONFIG + "{lr: {choice: [0.1, {uniform: [0.2, 0.3]}]}}",
        CONFIG + "{hidden_size: {randint: [1, 16385]}, gamma: {normal: [0.5, 9]}}",
        CONFIG + "{env_config: {grid_search: [{width: 7}, {width: 12}]}}",
        CONFIG + "{env_config: {width: {randint: [7, 12]}}, evaluation_config: {}}",
        "x: {run: RMIX, env: macn, stop: {evaluation: {return_mean: 1}}, config: }",
        "x: {run: PPO, env: A-v1, config: {model: {fcnet_hiddens: [32]}}}",
        "x: {run: 'my.module:Algorithm', env: mine, config: {anything: 1}}",
        "shared: {config: {own: 1}}\nx: {run: 'my:Algorithm', env: mine}",
        ".a: &a {gamma: 0.5}\nshared: {env: macn, config: {<<: *a}}\nx: {run: VDN}",
        "shared: {run: VDN, env: macn}\nx:\n",
        "x: {extends: 'base.yaml:two', without: [lr], scheduler: ASHA}",
    ],
)
def test_what_may_be_written_is_valid(
    wrong: Callable[[str], list[str]], text: str
) -> None:
    assert wrong(text) == []
