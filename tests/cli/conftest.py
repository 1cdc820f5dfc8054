"""Fixtures that all tests of the command share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import command
import pytest

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.env_wrappers.scripted import reference_policies
from rllib_risk.offline import write_dataset


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Restores the environment variables and the import path after a test."""
    environ, path = dict(os.environ), list(sys.path)
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path


@pytest.fixture(autouse=True)
def no_command_runs_on() -> Iterator[None]:
    """Kills the commands that a failed test left running."""
    yield
    for process in command.STARTED:
        with process:  # waits, and closes its pipes
            if process.poll() is None:
                process.kill()
    command.STARTED.clear()


@pytest.fixture(scope="session")
def static_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and two checkpoints of objective ``static``.

    ``log`` is of ``risky_two_step``. The team of ``alone`` knows this dataset, and that
    of ``played`` knows the environment. Neither has learned.
    """
    folder = tmp_path_factory.mktemp("static")
    rllib_risk.register()
    game = TeamConfig().environment("risky_two_step")
    player = scripted_player(reference_policies("risky_two_step")["random"], 0.0)
    episodes = record(game, [player], 40, seed=0)
    write_dataset(folder / "log", episodes, agents=["agent_0", "agent_1"])
    keys = {"objective": "static", "alpha": 0.5, "gamma": 1.0, "hidden_size": 8}
    keys |= {"threshold_candidates": 8, "threshold_episodes": 8}
    alone = config_class("VDN")().training(
        **keys, dataset=str(folder / "log"), target_update_tau=0.1
    )
    played = config_class("VDN")().environment("risky_two_step")
    played.training(**keys, threshold_range=[-10, 18])
    for name, config in {"alone": alone, "played": played}.items():
        algorithm = config.debugging(seed=0).build_algo()
        (folder / name).mkdir()
        algorithm.save_checkpoint(str(folder / name))
        algorithm.stop()
    return folder
