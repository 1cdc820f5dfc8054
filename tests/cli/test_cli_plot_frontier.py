"""``rllib plot frontier``: figure, table and CSV, and what is refused."""

import csv
from pathlib import Path

import pytest
import ray

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.cli.main import run

pytestmark = pytest.mark.usefixtures("as_it_was")


@pytest.fixture(scope="module", name="checkpoints")
def _checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of untrained teams by the name of their env."""
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    rllib_risk.register()
    folders = {}
    try:
        for env, env_config in (("risky_two_step", {}), ("uav", {"episode_steps": 2})):
            config = config_class("VDN")().environment(env, env_config=env_config)
            algorithm = config.update_from_dict(
                {"seed": 4, "hidden_size": 8, "num_envs_per_env_runner": 50}
            ).build_algo()
            folders[env] = tmp_path_factory.mktemp(env)
            algorithm.save_checkpoint(str(folders[env]))
            algorithm.stop()
    finally:
        ray.shutdown()
    return folders


def said(capsys, *arguments: object) -> str:
    assert run(["plot", "frontier", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: object) -> str:
    assert run(["plot", "frontier", *map(str, arguments)]) == 2
    return " ".join(capsys.readouterr().err.split())


def rows_of(file: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    with file.open() as text:
        rows = list(csv.DictReader(text))
    return {(row["name"], row["quantity"], row["alpha"]): row for row in rows}


def test_a_game_alone(tmp_path: Path, capsys):
    out = tmp_path / "game.svg"
    printed = said(capsys, "--env", "risky_two_step", "--out", out)
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    assert "alpha 1 0.5 0.25 0.1 0.05" in lines
    assert "best 8.8000 3.5600 1.0000 1.0000 1.0000" in lines
    assert "mean with it 8.8000 7.7200 4.6000 4.6000 4.6000" in lines
    assert "best 8.8000 2.2000 1.0000 1.0000 1.0000" in lines
    drawn = out.read_text()
    for text in ("CVaR of the return", "nested CVaR", "risky_two_step", "best"):
        assert text in drawn
    rows = rows_of(out.with_suffix(".csv"))
    best = {key[1]: row["value"] for key, row in rows.items() if key[2] == "0.5"}
    assert best == {
        "cvar": "3.56",
        "mean_with_best_cvar": "7.72",
        "threshold": "9",
        "nested": "2.2",
    }


def test_teams_are_exact_where_the_game_is_known(checkpoints, tmp_path: Path, capsys):
    folder, out = checkpoints["risky_two_step"], tmp_path / "teams.svg"
    printed = said(
        *(capsys, folder, folder, "--out", out),
        *("--label", "one", "--label", "other"),
    )
    assert "one: exact" in printed and "other: exact" in printed
    assert "one" in out.read_text()
    rows = rows_of(out.with_suffix(".csv"))
    for name in ("one", "other"):
        mean, cvar = rows[name, "mean", "1"], rows[name, "cvar", "1"]
        assert mean["how"] == "exact" and mean["value"] == cvar["value"]
        assert mean["ci95_low"] == mean["ci95_high"] == ""
        worst = float(rows[name, "nested", "0.05"]["value"])
        assert worst <= float(rows[name, "cvar", "0.5"]["value"])
        assert float(mean["value"]) <= 8.8


def test_teams_are_sampled_elsewhere(checkpoints, tmp_path: Path, capsys):
    out = tmp_path / "uav.png"
    printed = said(capsys, checkpoints["uav"], "--out", out, "--seed", 3)
    assert "VDN: 1,000 episodes (no tables)" in " ".join(printed.split())
    assert "best" not in printed and "Nested" not in printed
    assert out.stat().st_size > 10_000
    rows = rows_of(out.with_suffix(".csv"))
    assert not any(quantity == "nested" for _, quantity, _ in rows)
    for (_, _, alpha), row in rows.items():
        low, value, high = (float(row[k]) for k in ("ci95_low", "value", "ci95_high"))
        assert low <= value <= high and (low < high or alpha == "0.05")


def test_what_is_refused(checkpoints, tmp_path: Path, capsys):
    game, uav = checkpoints["risky_two_step"], checkpoints["uav"]
    out = ("--out", tmp_path / "a.png")
    named = ("--env", "risky_two_step")
    assert "either --env or checkpoints" in refused(capsys, *out)
    assert "either --env or checkpoints" in refused(capsys, game, *named, *out)
    assert "Envs with tables: macn" in refused(capsys, "--env", "hvac", *out)
    assert "Did you mean 'risky_two_step'" in refused(
        capsys, "--env", "risky_two_stp", *out
    )
    assert "environment 'chess'. Known: macn" in refused(capsys, "--env", "chess", *out)
    wind = '{"wind_probability": 2}'
    assert "wind_probability must be in [0, 1]" in refused(
        capsys, "--env", "macn", "--env-config", wind, *out
    )
    assert "--env-config" in refused(capsys, *named, "--env-config", "{", *out)
    assert "2 labels for 1 checkpoints" in refused(
        capsys, game, *out, "--label", "a", "--label", "b"
    )
    assert "must end in" in refused(capsys, *named, "--out", tmp_path / "a.gif")
    assert "no folder" in refused(capsys, *named, "--out", tmp_path / "b" / "a.png")
    assert "1000" in refused(capsys, game, *out, "--episodes", 10)
    assert "this folder does not exist" in refused(capsys, tmp_path / "no", *out)
    assert "One figure can show only one game" in refused(capsys, game, uav, *out)
    assert not list(tmp_path.iterdir())
