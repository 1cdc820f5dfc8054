"""Exported teams beside the policies that they come from, over whole episodes."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import ray

import rllib_risk
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.export import export_team
from rllib_risk.deploy import Team

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data" / "old_checkpoints" / "0.1.0"

spec = importlib.util.spec_from_file_location("parity", ROOT / "tools/deploy_parity.py")
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)

# Every family of environments, and every kind of network somewhere.
PLAYED = [
    ("macn", "CVaR, predicted level"),
    ("macn", "padded window"),
    ("macn", "static CVaR"),
    ("hvac", "sampled quantiles"),
    ("uav", "LSTM"),
    ("uav", "COMA"),
    ("car_following", "feed-forward"),
    ("memory_game", "window"),
    ("memory_game", "IPPO"),
]


@pytest.mark.parametrize(("env", "kind"), PLAYED)
def test_an_exported_team_plays_as_the_policy_does(env, kind):
    """``tools/deploy_parity.py`` plays longer, and everything everywhere."""
    for name, both in parity.rows(env, kind, 120, "safetensors"):
        assert both.decisions >= 240, name
        assert both.differing == 0, name
        assert both.distance <= 1e-5 * both.scale, name


@pytest.fixture(scope="module")
def algorithm():
    found = rllib_risk.load(OLD / "rmix")
    yield found
    found.stop()


def test_a_checkpoint_is_loaded_and_played_without_ray(algorithm):
    if ray.is_initialized():
        pytest.skip("another test of this process has started Ray")
    assert len(algorithm.evaluate_episodes(2)["returns"]) == 2
    assert not ray.is_initialized()


def test_what_an_artefact_says_of_itself(algorithm, tmp_path):
    record = export_team(algorithm, tmp_path / "team")
    written = json.loads((tmp_path / "team" / "policy.json").read_text())
    assert written.pop("networks") and record.pop("networks")
    assert written == record
    first = record["contract"]["agents"][0]
    assert first["name"] == "agent_0"
    assert first["action_names"] == ["up", "down", "left", "right"]
    assert first["observation_low"] == [0.0] * 9
    assert first["observation_high"] == [1.0] * 9
    assert record["contract"]["needs_mask"] is False
    risk = record["risk"]
    assert risk["predicted"] and risk["levels"] == [n / 10 for n in range(1, 11)]
    origin = record["provenance"]
    assert origin["env"] == "macn" and origin["seed"] == algorithm.config.seed
    assert origin["env_steps"] == algorithm.env_steps > 0


def test_a_folder_with_contents_is_left_alone(algorithm, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty; choose another folder"):
        export_team(algorithm, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_team_that_would_act_otherwise_is_not_written(
    algorithm, tmp_path, monkeypatch
):
    monkeypatch.setattr(Team, "utilities", np.zeros((4, 2, 4)))
    with pytest.raises(ConfigError, match="differs from the trained one"):
        export_team(algorithm, tmp_path / "team")
    assert not (tmp_path / "team").exists()


@pytest.mark.parametrize("kind", ["LSTM", "CVaR, predicted level", "MAPPO"])
def test_onnx_plays_as_the_policy_does(kind):
    pytest.importorskip("onnx", reason="needs rllib-risk[onnx]")
    pytest.importorskip("onnxruntime", reason="needs rllib-risk[onnx]")
    for name, both in parity.rows("macn", kind, 120, "onnx"):
        assert both.differing == 0, name
        assert both.distance <= 1e-5 * both.scale, name
