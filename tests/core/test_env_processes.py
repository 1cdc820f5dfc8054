"""Runs with environments that start processes, and with some that hang."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from game_folder import install_game

from rllib_risk.algorithms import config_class
from rllib_risk.cli.preflight import numbers_of_one_episode
from rllib_risk.env_wrappers.errors import EnvFailedError

DOUBLES = Path(__file__).parents[1] / "doubles"
pytestmark = pytest.mark.usefixtures("smac_double")


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    """A fake folder of the game; remote workers find it and the test doubles."""
    folder = tmp_path_factory.mktemp("sc2")
    install_game(folder, "3m")
    paths = [str(DOUBLES), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("SC2PATH", str(folder))
        yield folder


def run_config(env, env_config, **keys):
    config = config_class("VDN")().environment(env, env_config=env_config)
    return config.update_from_dict(
        {
            "min_sample_timesteps_per_iteration": 30,
            "batch_size_episodes": 2,
            "learning_starts_episodes": 2,
            "evaluation_duration": 2,
            "hidden_size": 8,
            "seed": 1,
            **keys,
        }
    )


def hanging(runners, **kwargs):
    """A run whose env hangs; the time limit is above a slow start on a busy machine."""
    env_config = {"factory": "hanging_envs:Hanging", "kwargs": kwargs}
    return run_config(
        "pettingzoo", env_config, num_env_runners=runners, env_timeout_s=3
    )


def left(folder) -> list[str]:
    """Simulators and games of this module that still run after at most 60 s."""
    end = time.monotonic() + 60  # the guard of a killed process needs a moment
    while (found := simulators(folder)) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def simulators(folder) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_text().replace("\0", " ")
            variables = (process / "environ").read_bytes()
            if line.startswith("sleep ") and f"SC2PATH={folder}".encode() in variables:
                found.append(line)
    return found


@pytest.mark.parametrize(("runners", "envs", "games"), [(0, 2, 4), (2, 1, 3)])
def test_one_game_for_each_copy_that_plays(own_ray, folder, runners, envs, games):
    """An evaluation plays as many copies as a runner; only these copies have a game."""
    launches = folder / "launches.txt"
    launches.write_text("")
    config = run_config(
        "smac",
        {"map_name": "3m"},
        num_env_runners=runners,
        num_envs_per_env_runner=envs,
    )
    config.preflight()
    assert "battle_won" in numbers_of_one_episode(config)
    algorithm = config.build_algo()
    assert not launches.read_text()
    algorithm.train()
    algorithm.stop()
    assert len(launches.read_text().splitlines()) == games
    assert not left(folder)


def test_remote_environments_that_hang_once_cost_an_episode_each(own_ray, folder):
    """R16: an environment whose close() hangs does not block the run."""
    algorithm = hanging(2, step="once", close_hangs=True).build_algo()
    result = algorithm.train()
    # One in each runner that samples, and one in the process that evaluates.
    assert result["num_env_crashes_lifetime"] == 3
    assert all(len(e) == 4 for e in algorithm.replay.newest(len(algorithm.replay)))
    algorithm.stop()
    assert not left(folder)


def test_an_environment_that_always_hangs_stops_the_run(own_ray, folder):
    """R16: the error names the cause."""
    algorithm = hanging(0, step="always").build_algo()
    with pytest.raises(EnvFailedError, match=r"3 times.*step\(\) did not return"):
        algorithm.train()
    algorithm.stop()
    assert not left(folder)


@pytest.mark.long
def test_runners_that_cannot_be_interrupted_stop_the_run(own_ray, folder):
    """R16: their processes are ended, with the same bound as for environments."""
    config = hanging(1, step="deadlock").training(max_env_restarts=1)
    algorithm = config.build_algo()
    with pytest.raises(RuntimeError, match="lost 1 times in a row"):
        algorithm.train()
    algorithm.stop()
    assert not left(folder)
