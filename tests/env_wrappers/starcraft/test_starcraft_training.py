"""RMIX on `smac`, with the double of SMAC, and on `smax`."""

import importlib
import os
from pathlib import Path

import pytest

from rllib_risk.algorithms import config_class
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.env_wrappers.scripted import RandomPolicy

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(name="double")
def _double(smac_double, monkeypatch, tmp_path):
    (tmp_path / "Versions" / "Base75689").mkdir(parents=True)
    (tmp_path / "Versions" / "Base75689" / "SC2_x64").touch()
    (tmp_path / "Maps" / "SMAC_Maps").mkdir(parents=True)
    (tmp_path / "Maps" / "SMAC_Maps" / "3m.SC2Map").touch()
    monkeypatch.setenv("SC2PATH", str(tmp_path))
    return importlib.import_module("smac.env.starcraft2.starcraft2").StarCraft2Env


def games() -> list[str]:
    """Game processes of the double that this process started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = status.read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:  # it ended meanwhile
            continue
        if name == "sleep" and rest.split()[1] == str(os.getpid()):
            found.append(status.parent.name)
    return found


def test_a_run_reports_win_rate_and_crashes_and_closes_its_games(double, monkeypatch):
    monkeypatch.setattr(double, "crash_at", 3)
    config = (
        config_class("RMIX")()
        .environment("smac", env_config={"map_name": "3m"})
        .training(batch_size_episodes=4, num_atoms=10)
        .update_from_dict(
            {
                "seed": 0,
                "min_sample_timesteps_per_iteration": 60,
                "num_envs_per_env_runner": 2,
                "evaluation_duration": 6,
            }
        )
    )
    algorithm = config.build_algo()
    result = algorithm.train()
    assert games()
    evaluation = result["evaluation"]
    assert 0.0 <= evaluation["success_rate"] <= 1.0
    assert evaluation["success_rate"] == evaluation["battle_won"]
    assert evaluation["sc2_build"] == 75689
    assert evaluation["difficulty"] == 7
    assert result["num_env_crashes_lifetime"] == 1
    algorithm.stop()
    assert not games()


def test_a_recording_plays_one_game_after_the_other(double):
    """Each copy of `smac` is a game, so that commands do not start many at once."""
    config = config_class("RMIX")().environment("smac", env_config={"map_name": "3m"})
    before = double.launches
    player = scripted_player(RandomPolicy(), 0.0)
    assert len(list(record(config, [player], 5, seed=0))) == 5
    assert double.launches == before + 1


def test_a_run_on_smax(ray_local):
    config = config_class("RMIX")().environment(
        "smax", env_config={"map_name": "3m", "episode_limit": 20}
    )
    algorithm = config.update_from_dict(
        {
            "seed": 0,
            "num_atoms": 10,
            "batch_size_episodes": 4,
            "learning_starts_episodes": 4,
            "min_sample_timesteps_per_iteration": 100,
            "num_envs_per_env_runner": 4,
            "evaluation_duration": 4,
        }
    ).build_algo()
    try:
        result = algorithm.train()
        assert result["num_updates_lifetime"] > 0
        evaluation = result["evaluation"]
        assert 0.0 <= evaluation["success_rate"] <= 1.0
        assert 0.0 <= evaluation["return_mean"] <= 2.0
        assert 0.0 <= evaluation["dead_enemies"] <= 3.0
        (again,) = algorithm.evaluate_episodes(1, seed=3)["returns"]
        assert algorithm.evaluate_episodes(1, seed=3)["returns"] == [again]
    finally:
        algorithm.stop()
