"""``rllib export``: what it writes, what it prints, what it refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import rllib_risk
from rllib_risk.cli.main import run
from rllib_risk.deploy import Team

CHECKPOINT = str(
    Path(__file__).parents[1] / "data" / "old_checkpoints" / "0.1.0" / "robust_vdn"
)


def export(*arguments):
    return run(["export", CHECKPOINT, *arguments])


def test_a_checkpoint_is_exported_and_acts(tmp_path, capsys):
    out = tmp_path / "new" / "team"
    assert export("--out", str(out)) == 0
    said = capsys.readouterr()
    assert "algorithm RobustVDN; risk: none" in said.out
    team = Team.load(out)
    contract = team.artefact.contract
    text = f"{len(team.agents)} agents, {contract.obs_size} numbers each"
    assert text in said.out and str(out) in said.err
    assert team.act(np.zeros((len(team.agents), contract.obs_size))).dtype == np.int64
    # Existing files are not overwritten.
    assert export("--out", str(out)) == 2
    assert "is not empty; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "safetensor"], "Did you mean 'safetensors'?"),
        (["--format", "onnx"], 'pip install "rllib-risk[onnx]"'),
    ],
)
def test_unavailable_formats_are_refused(
    arguments, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    assert export("--out", str(tmp_path / "team"), *arguments) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "team").exists()


def test_a_static_team_without_an_env_is_exported_with_a_given_threshold(
    static_runs, tmp_path, capsys
):
    """An evaluation with ``--env`` prints the threshold that the export takes."""
    checkpoint, out = str(static_runs / "alone"), str(tmp_path / "team")
    assert run(["export", checkpoint, "--out", out]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "has no threshold" in said and "one_step" not in said
    assert "--static-threshold NUMBER" in said
    assert "rllib evaluate CHECKPOINT --env NAME --alpha LEVEL" in said
    arguments = ["--env", "risky_two_step", "--alpha", "0.2", "--episodes", "2"]
    assert run(["evaluate", checkpoint, *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["alpha"] == 0.2
    given = str(result["threshold"])
    assert run(["export", checkpoint, "--out", out, "--static-threshold", given]) == 0
    risk = Team.load(out).artefact.policy["risk"]
    assert risk["threshold"] == result["threshold"]


def test_the_threshold_of_an_export_is_that_of_an_evaluation_at_the_level(
    static_runs, tmp_path
):
    loaded = rllib_risk.load(static_runs / "played")
    before = loaded.team_policy.network.objective.threshold
    expected = loaded.evaluate_episodes(1, alpha=0.1)["threshold"]
    loaded.stop()
    assert expected != before  # that of level 0.5
    arguments = ["export", str(static_runs / "played"), "--out", str(tmp_path / "team")]
    assert run([*arguments, "--alpha", "0.1"]) == 0
    risk = Team.load(tmp_path / "team").artefact.policy["risk"]
    assert (risk["alpha"], risk["threshold"]) == (0.1, expected)
    assert "CVaR at level 0.1" in risk["means"]


@pytest.mark.parametrize(
    ("team", "arguments", "message"),
    [
        (CHECKPOINT, ["--static-threshold", "1"], "with another objective. Leave it"),
        (CHECKPOINT, ["--alpha", "0.5"], "trained with objective: composed"),
        ("alone", ["--alpha", "0.5"], "--alpha: this run learned from a dataset"),
        ("alone", ["--static-threshold", "nan"], "must be a finite number, not nan"),
        ("alone", ["--static-threshold", "1e39"], "must be a finite number, not 1e+39"),
        ("played", ["--alpha", "0"], "--alpha: must be above 0"),
        ("played", ["--alpha", "1", "--static-threshold", "1"], "Give one of the two"),
    ],
)
def test_thresholds_and_levels_that_mean_nothing_are_refused(
    team, arguments, message, static_runs, tmp_path, capsys
):
    out = tmp_path / "team"
    # CHECKPOINT is an absolute path, so it stays as it is.
    assert run(["export", str(static_runs / team), "--out", str(out), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
