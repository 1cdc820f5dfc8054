"""``rllib export``: what it writes, what it prints, what it refuses."""

import sys
from pathlib import Path

import numpy as np
import pytest

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
