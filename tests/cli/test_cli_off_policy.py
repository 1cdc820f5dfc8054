"""``rllib evaluate --dataset``."""

import functools
import json
import shutil
from pathlib import Path

import pytest
import ray

from rllib_risk.cli.main import run
from rllib_risk.evaluation.off_policy import estimates

OLD = Path(__file__).parents[1] / "data" / "old_checkpoints" / "0.1.0"
LOG, TEAM = str(OLD / "uav-log"), str(OLD / "ma_cqr")

pytestmark = pytest.mark.usefixtures("as_it_was")


@pytest.fixture
def short_fits(monkeypatch):
    short = functools.partial(
        estimates.FqeSettings, min_updates=20, check_every=10, tau=1.0, tolerance=9.0
    )
    monkeypatch.setattr(estimates, "FqeSettings", short)
    # A few episodes support few of the policy's actions.
    monkeypatch.setattr(estimates, "MIN_SUPPORT", 0.0)


@pytest.mark.usefixtures("short_fits")
def test_two_checkpoints_on_a_log(tmp_path, monkeypatch, capsys):
    """It needs neither Ray nor an environment. The checkpoint is of an offline run."""
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", TEAM, TEAM, "--dataset", LOG, "--label", "A", "--label"]
    assert run([*arguments, "B", "--seed", "1", "--json"]) == 0
    assert not ray.is_initialized()
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "off-policy-uav-log"
    assert printed == json.loads((folder / "off_policy.json").read_text())
    first, second = printed["policies"]
    assert (first["label"], second["label"]) == ("A", "B")
    # The same checkpoint and seed give the same numbers.
    assert first["methods"] == second["methods"]
    assert [m["method"] for m in first["methods"]] == ["fqe", "wis", "dr"]
    assert first["methods"][0]["mean"]["low"] < first["methods"][0]["mean"]["high"]
    # Few episodes allow no importance sampling and no claim.
    assert all(m["refused"] for m in first["methods"][1:])
    assert first["sentence"].startswith("These data cannot tell whether A is better")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "fqe"], "--method: allowed only with --dataset"),
        (["--static-threshold", "1"], "--static-threshold: allowed only with"),
        (["--dataset", LOG, "--static-threshold", "1"], "with another objective"),
        (["--dataset", LOG, "--method", "fqi"], "there is no method 'fqi'"),
        (["--dataset", LOG, "--render"], "--render is not for --dataset"),
        (["--dataset", LOG, "--env", "uav"], "--env is not for --dataset"),
        (["--dataset", "nowhere"], "there is no dataset at nowhere"),
        (["--dataset", LOG, "--stochastic"], "is a value-based team"),
        (["--dataset", LOG, "--clip", "0"], "--clip: must be above 0"),
        (["--dataset", LOG, "--label", "A", "--label", "B"], "give one per checkpoint"),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", TEAM, *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("short_fits")
def test_a_static_team_without_an_env_takes_a_threshold(
    static_runs, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    log = ["--dataset", str(static_runs / "log"), "--method", "fqe"]
    assert run(["evaluate", str(static_runs / "alone"), *log]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "has no threshold" in error and "--static-threshold NUMBER" in error
    log += ["--static-threshold", "3", "--json"]
    assert run(["evaluate", str(static_runs / "alone"), *log]) == 0
    (team,) = json.loads(capsys.readouterr().out)["policies"]
    assert team["methods"][0]["mean"]["value"] is not None


def test_a_dataset_of_another_environment_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", str(OLD / "rmix"), "--dataset", LOG]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "its env is 'uav'" in error and "was trained in 'macn'" in error


def test_a_damaged_checkpoint_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(TEAM, copy)
    (copy / "policy.safetensors").write_bytes(b"cut")
    assert run(["evaluate", str(copy), "--dataset", LOG]) == 2
    assert "does not match its checksum" in " ".join(capsys.readouterr().err.split())
