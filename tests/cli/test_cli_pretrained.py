"""Exported teams on the command line: those of the package, and a user's own."""

import json
from pathlib import Path

import pytest
from extras import need_extra
from refusals import refused

from rllib_risk.cli.main import run
from rllib_risk.cli.pretrained import pretrained_root, pretrained_teams
from rllib_risk.config.loading import list_examples
from rllib_risk.deploy.files import read_policy

TEAMS = pretrained_teams()
CHECKPOINT = str(
    Path(__file__).parents[1] / "data" / "old_checkpoints" / "0.1.0" / "robust_vdn"
)


def test_teams_are_listed_and_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["example", "play"]) == 0
    printed = capsys.readouterr().out
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    for name in TEAMS:
        assert name in printed and f"| `{name}` |" in page
        assert name in list_examples()
    assert "rmix/macn-4x7" in TEAMS


@pytest.mark.parametrize("name", TEAMS)
def test_a_team_reaches_what_its_training_reported(name: str, capsys) -> None:
    """The package's team plays the evaluation of its training again."""
    provenance = read_policy(pretrained_root() / name)[1]["provenance"]
    need_extra(str(provenance["evaluation"]["env"]))
    assert run(["evaluate", str(pretrained_root() / name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for key in ("episodes", "return_mean", "return_cvar_10"):
        assert found[key] == pytest.approx(provenance["last_evaluation"][key]), key


def test_play_prints_the_evaluation_and_draws_an_episode(tmp_path, capsys) -> None:
    picture = tmp_path / "episode.gif"
    command = ["example", "play", "rmix/macn-4x7", "--render-out", str(picture)]
    assert run(command) == 0
    printed = capsys.readouterr().out
    assert "rmix/macn-4x7: RMIX on macn, " in printed
    assert "return_mean                 -7.0000" in printed
    assert "At the end of the training, return_mean was -7.0000." in printed
    assert picture.read_bytes().startswith(b"GIF89a")
    assert "Did you mean 'rmix/macn-4x7'?" in refused(
        ["example", "play", "rmix/macn4x7"], capsys
    )


def test_an_exported_team_is_evaluated_like_its_checkpoint(tmp_path, capsys) -> None:
    team = str(tmp_path / "team")
    assert run(["export", CHECKPOINT, "--out", team]) == 0
    capsys.readouterr()
    results = []
    for folder in (CHECKPOINT, team):
        assert run(["evaluate", folder, "--episodes", "4", "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1]
    for option in (["--alpha", "0.1"], ["--algo", "QMIX"]):
        message = refused(["evaluate", team, *option], capsys)
        assert "does not apply to an exported team" in message
    message = refused(["evaluate", team, "--env-config", '{"no": 1}'], capsys)
    assert "unknown key 'no' of env_config" in message
    (tmp_path / "team" / "policy.safetensors").write_bytes(b"")
    assert "does not match its checksum" in refused(["evaluate", team], capsys)
