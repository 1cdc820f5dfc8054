"""Settings of the whole test session."""

import os
from pathlib import Path

import pytest

# Before torch is imported, here and in every process that a test starts: the networks
# are tiny, and a second thread on a core that something else uses slows them a lot.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the datasets that docs and examples say how to record, but small.

    To be run in, since they name them by relative paths.
    """
    from rllib_risk.core.config import TeamConfig
    from rllib_risk.env_wrappers.scripted import reference_policies
    from rllib_risk.offline.dataset import write_dataset
    from rllib_risk.offline.recording import record, scripted_player

    folder = tmp_path_factory.mktemp("recorded")
    player = scripted_player(reference_policies("uav")["greedy"], 0.1)
    for name in ("uav", *(f"uav-16-{seed}" for seed in range(5))):
        write_dataset(
            folder / "data" / name,
            record(TeamConfig().environment("uav"), [player], 2, seed=0),
            env="uav",
            env_config={},
            agents=["uav_0", "uav_1"],
            behaviour={"policy": "greedy"},
            seed=0,
        )
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets the longest files begin first, so that no worker is left alone with them."""
    items.sort(key=lambda item: "learning" not in item.path.parts)
