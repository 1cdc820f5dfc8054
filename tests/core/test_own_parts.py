"""Parts from outside own their keys as the package's do: YAML, checks, checkpoints."""

import json
import sys
import textwrap

import numpy as np
import pytest

from rllib_risk.algorithms import IndependentQConfig
from rllib_risk.cli.catalog import RLlibCatalog
from rllib_risk.config.loading import parse_document
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import read_yaml
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.checkpoint import CheckpointError
from rllib_risk.core.record import from_record, to_record

EXPLORER = """
    from dataclasses import dataclass

    import numpy as np

    from rllib_risk.config.options import option
    from rllib_risk.parts.exploration import Explorer


    class Stubborn(Explorer):
        \"\"\"Always the same action.\"\"\"

        @dataclass(frozen=True)
        class Options:
            favourite: int = option(0, "The action.", low=0, high=9)

        def explore(self, utilities, action_mask, epsilon, rng):
            return np.full(self.shape, self.options.favourite)
"""
YAML = """
stubborn:
  run: IndependentQ
  env: two_step
  config:
    exploration: my_explorer:Stubborn
    favourite: 1
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_explorer.py").write_text(textwrap.dedent(EXPLORER))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_explorer", raising=False)
    return "my_explorer:Stubborn"


def config(**keys):
    return IndependentQConfig().environment("two_step").training(hidden_size=8, **keys)


def load(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    return parse_document(read_yaml(tmp_path / "own.yaml"), RLlibCatalog())


def test_yaml_takes_its_keys_and_refuses_a_mistyped_one(own, tmp_path):
    (spec,) = load(tmp_path, YAML)
    assert spec.config["favourite"] == 1
    with pytest.raises(ConfigError, match=r"own.yaml:7.*favourte.*'favourite'"):
        load(tmp_path, YAML.replace("favourite", "favourte"))
    with pytest.raises(ConfigError, match=r"own.yaml:7.*favourite: must be in \[0, 9"):
        load(tmp_path, YAML.replace(": 1", ": 11"))
    with pytest.raises(ConfigError, match=r"own.yaml:6.*exploration: .*Stuborn"):
        load(tmp_path, YAML.replace(":Stubborn", ":Stuborn"))


def test_python_takes_its_keys(own):
    assert config(exploration=own).favourite == 0
    with pytest.raises(ConfigError, match="favourite"):
        config(favourite=1)
    with pytest.raises(ConfigError, match="favourite: must be in"):
        config(exploration=own, favourite=-1)


def test_it_plays_and_comes_back_from_a_checkpoint(own, tmp_path, ray_local):
    algorithm = config(exploration=own, favourite=1).build_algo()
    (episode, *_) = algorithm.env_runner.sample(0)
    np.testing.assert_array_equal(episode.actions, 1)
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.stop()
    with pytest.raises(CheckpointError, match=own):
        TeamAlgorithm.from_checkpoint(tmp_path)
    again = TeamAlgorithm.from_checkpoint(tmp_path, trust_code=True)
    assert again.config.favourite == 1
    again.stop()


def test_a_key_of_a_part_that_is_not_in_use_is_refused_by_naming_it():
    wrong = config(epsilon_z_exponent=3.0)
    with pytest.raises(
        ConfigError,
        match=r"epsilon_z_exponent: belongs to exploration: epsilon_z_greedy.*"
        "'epsilon_greedy'",
    ):
        wrong.validate()
    # A version that accepted it has written such checkpoints.
    record = json.loads(json.dumps(to_record("IndependentQ", wrong)))
    from_record(record, trust_code=False).validate()
