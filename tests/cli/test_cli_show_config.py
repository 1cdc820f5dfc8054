"""``rllib train file X --show-config``: every value and where it comes from."""

from pathlib import Path

import pytest
import yaml

from rllib_risk.cli.main import run
from rllib_risk.config.yaml_reader import parse_yaml

BASE = """\
shared:
  env: macn
  stop: {training_iteration: 5}
  config: {gamma: 0.9, env_config: {width: 7}}
one:
  run: RMIX
  checkpoint_config: {checkpoint_frequency: 4}
  config: {preset: rmix_official, num_workers: 2}
two: {run: QMIX}
"""
FILE = """\
.all: &all {batch_size_episodes: 8}
one:
  extends: base.yaml
  config:
    <<: *all
    lr: {loguniform: [1e-4, 1e-3]}
"""
OWN_MIXER = """\
from dataclasses import dataclass

from rllib_risk.config.options import option
from rllib_risk.parts.mixers import Mixer


class Gain(Mixer):
    @dataclass(frozen=True)
    class Options:
        gain: float = option(2.5, "Factor.")

    def forward(self, team):
        return self.options.gain * team.utilities.sum(-1, keepdim=True)
"""

pytestmark = pytest.mark.usefixtures("as_it_was")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "f.yaml").write_text(FILE)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, str]:
    """Maps each printed ``key: value`` to its origin."""
    assert run(["train", "file", "f.yaml", "--show-config", *options]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)  # readable by other programs
    pairs = (line.split("  # ") for line in text.splitlines() if "  # " in line)
    return {what.strip(): origin.strip() for what, origin in pairs}


def test_every_value_has_its_origin(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seed", "3", "--checkpoint-freq", "2", "--stop", '{"time_total_s": 9}']
    lines = shown(capsys, *options)
    expected = {
        "one:": "f.yaml:2",
        "env: macn": "base.yaml:2",
        "run: RMIX": "base.yaml:6",
        "time_total_s: 9": "--stop",
        "checkpoint_frequency: 2": "--checkpoint-freq",
        "checkpoint_at_end: true": "default",
        "seed: 3": "--seed",
        "gamma: 0.9": "base.yaml:4",
        "batch_size_episodes: 8": "f.yaml:1",
        "lr: {loguniform: [0.0001, 0.001]}": "f.yaml:6",
        "width: 7": "base.yaml:4",
        "height: null": "default of macn",
        "risk_grad: frozen": "preset rmix_official",
        "mixer: qmix": "default of RMIX",
        "hidden_size: 64": "default",
        "num_workers: 2": "base.yaml:8",
    }
    assert {key: lines.get(key) for key in expected} == expected
    # A replaced value is not shown under any spelling.
    keys = [line.partition(":")[0] for line in lines]
    assert len(set(keys)) == len(keys)
    assert not {"training_iteration", "num_env_runners"} & {*keys}


def test_the_values_of_several_presets_are_listed(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = FILE.replace("<<: *all", "preset: {grid_search: [rmix, rmix_official]}")
    (files / "f.yaml").write_text(text)
    lines = shown(capsys)
    assert lines["risk_grad: straight_through"].endswith("rmix_official: frozen")


def test_parts_declare_and_set_values_too(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "part_of_mine.py").write_text(OWN_MIXER)
    config = "{mixer: 'part_of_mine:Gain', objective: %s, unused_keys: ignore}"
    text = "one: {run: QMIX, env: two_step, config: " + config + "}\n"
    (files / "f.yaml").write_text(text % "nested")
    lines = shown(capsys)
    assert lines["gain: 2.5"] == "default of part_of_mine:Gain"
    assert lines["target: cvar"] == "objective nested"
    assert "dual_lr: 0.001" in lines
    # Keys of parts that are not in use have no effect.
    assert not [key for key in lines if key.startswith("mixing_embed_dim")]
    (files / "f.yaml").write_text(text % "{grid_search: [mean, nested]}")
    assert shown(capsys)["target: plain"] == "default; objective nested: cvar"
    (files / "f.yaml").write_text(text % "mean")
    assert not [key for key in shown(capsys) if key.startswith("dual_lr")]


@pytest.mark.parametrize("run_of", ["PPO", "COMA"])
def test_other_algorithms_and_python_files(
    files: Path, capsys: pytest.CaptureFixture[str], run_of: str
) -> None:
    if run_of == "PPO":
        env, place = "CartPole-v1", "f.yaml:1"
        text = "x: {run: PPO, env: CartPole-v1, config: {lr: 0.25}}\n"
        (files / "f.yaml").write_text(text)
        lines = shown(capsys)
        assert lines["clip_param: 0.3"] == "default of PPO"
        assert lines["num_gpus: 0"] == "default"
        assert lines[f"env: {env}"] == place and lines["lr: 0.25"] == place
        return
    (files / "my.py").write_text(
        "from rllib_risk.algorithms import COMAConfig\n"
        "config = COMAConfig().environment('two_step').training(lr=0.25)\n"
    )
    assert run(["train", "file", "my.py", "--show-config"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["my"]["config"]["lr"] == 0.25


def test_a_wrong_value_is_an_error_here_too(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "f.yaml").write_text(FILE + "    gamma: 2\n")
    assert run(["train", "file", "f.yaml", "--show-config"]) == 2
    assert "f.yaml:7: gamma: must be in [0, 1]" in capsys.readouterr().err


def test_options_win_over_every_spelling_in_a_file(files: Path) -> None:
    """``--checkpoint-freq`` also replaces a value in a ``checkpoint_config``."""
    from rllib_risk.cli.option_groups import Changes
    from rllib_risk.cli.train import load_changed

    changes = Changes(checkpoint_freq=2, keep_checkpoints_num=1, name="mine")
    (spec,) = load_changed("f.yaml", changes)
    assert spec.name == "mine"
    assert spec.checkpoint == {"checkpoint_frequency": 2, "num_to_keep": 1}


def test_an_option_that_is_wrong_is_named(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "file", "f.yaml", "--env", "mcan"]) == 2
    assert "--env: env: unknown environment 'mcan'" in capsys.readouterr().err


def test_the_text_is_a_training_file(files: Path) -> None:
    """The printed file has the same values, so that two of them can be compared."""
    from rllib_risk.cli.option_groups import Changes
    from rllib_risk.cli.show_config import configuration_text
    from rllib_risk.cli.train import load_changed

    specs = load_changed("f.yaml", Changes())
    data = parse_yaml(configuration_text(specs), "shown").data["one"]
    assert data["stop"] == specs[0].stop
    written = specs[0].document.data["one"]["config"]  # type: ignore[union-attr]
    assert {key: data["config"][key] for key in written if key != "env_config"} == {
        key: value for key, value in written.items() if key != "env_config"
    }


def test_what_does_not_go_together_is_reported_after_the_values(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "f.yaml").write_text(
        "one: {run: QMIX, env: macn, config: {\n  mixer: vdn,\n  num_atoms: 1,\n"
        "  risk_measure: cvar}}\n"
    )
    assert run(["train", "file", "f.yaml", "--show-config"]) == 2
    printed = capsys.readouterr()
    assert "mixer: vdn" in printed.out
    assert "f.yaml:4: risk_measure: 'cvar' of a single atom" in printed.err
