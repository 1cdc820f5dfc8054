"""Checkpoints and datasets of every released minor version load and act as before.

``tests/data/old_checkpoints/make.py`` writes the folder of a version.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.checkpoint import read_config
from rllib_risk.data.dataset import Dataset
from rllib_risk.evaluation.trace_runs import trace_episode

pytestmark = pytest.mark.usefixtures("ray_local")

ROOT = Path(__file__).parents[1] / "data" / "old_checkpoints"
VERSIONS = sorted(path.name for path in ROOT.iterdir() if path.name[0].isdigit())


def expected(version: str) -> dict:
    return json.loads((ROOT / version / "expected.json").read_text())


CASES = [(v, name) for v in VERSIONS for name in expected(v)["runs"]]


def test_a_released_version_is_kept():
    assert "0.1.0" in VERSIONS


@pytest.mark.parametrize(("version", "name"), CASES)
def test_an_old_checkpoint_acts_as_it_did(version, name):
    """R44: the same greedy actions, utilities and returns as in that version."""
    facts = expected(version)
    run, seed = facts["runs"][name], facts["seed"]
    folder = ROOT / version
    offline = read_config(folder / name)["config"].get("dataset") is not None
    # The log of an offline run is not where it was when the run was made.
    moved = {"dataset": str(folder / "uav-log")} if offline else {}
    algorithm = TeamAlgorithm.from_checkpoint(folder / name, **moved)
    try:
        assert type(algorithm).__name__ == run["algorithm"]
        assert algorithm.counters["num_updates_lifetime"] == run["updates"]
        count = len(run["returns"])
        played = algorithm.env_runner.evaluate_episodes(range(count), seed)
        assert [episode.actions.tolist() for episode in played] == run["actions"]
        returns = [episode.episode_return for episode in played]
        assert returns == pytest.approx(run["returns"], abs=1e-3)
        trace = trace_episode(algorithm.team_policy, algorithm.evaluation_config, seed)
        values = np.where(trace.action_mask, trace.values, 0.0)
        np.testing.assert_allclose(values, run["values"], atol=2e-4)
        # The replay and the optimizers are there, too: learning goes on.
        algorithm.train()
        assert algorithm.counters["num_updates_lifetime"] > run["updates"]
    finally:
        algorithm.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_dataset_is_read(version):
    """R44: a dataset of that version passes every check that it has checksums for."""
    dataset = Dataset(ROOT / version / "uav-log")
    episodes = list(dataset.episodes())
    assert len(episodes) == dataset.card.num_episodes == 4
    returns = [episode.episode_return for episode in episodes]
    assert np.mean(returns) == pytest.approx(dataset.card.returns["mean"])
