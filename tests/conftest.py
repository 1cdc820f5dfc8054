"""Settings of the whole test session."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Before torch is imported, here and in every process that a test starts: the networks
# are tiny, and a second thread on a core that something else uses slows them a lot.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The modules of helpers/, for tests of every folder and for their processes.
HELPERS = str(Path(__file__).parent / "helpers")
sys.path.insert(0, HELPERS)
paths = [HELPERS, os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)

# A busy machine is no fault of what is tested.
settings.register_profile("no deadline", parent=settings.default, deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the datasets that docs and examples say how to record, but small.

    To be run in, since they name them by relative paths.
    """
    from rllib_risk.core.config import TeamConfig
    from rllib_risk.core.dataset_recording import record, scripted_player
    from rllib_risk.data.dataset import write_dataset
    from rllib_risk.env_wrappers.scripted import reference_policies

    folder = tmp_path_factory.mktemp("recorded")
    player = scripted_player(reference_policies("uav")["greedy"], 0.1)
    risky = {"normalise": True, "risk_penalty": 300}
    sources: dict[str, dict[str, Any]] = {"uav": {}}
    for seed in range(5):
        sources |= {f"uav-16-{seed}": {}, f"uav-mixed-300-{seed}": risky}
    for name, env_config in sources.items():
        config = TeamConfig().environment("uav", env_config=env_config)
        write_dataset(
            folder / "data" / name,
            record(config, [player], 2, seed=0),
            env="uav",
            env_config=env_config,
            agents=["uav_0", "uav_1"],
            behaviour={"policy": "greedy"},
            seed=0,
        )
    return folder


@pytest.fixture(scope="module")
def ray_local() -> Iterator[None]:
    """Ray with room for a few runners on however few cores."""
    import ray

    import rllib_risk

    # "local": never a cluster that runs on this machine.
    ray.init(
        "local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    rllib_risk.register()
    yield
    ray.shutdown()


@pytest.fixture
def no_smac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever SMAC is installed, a test sees the one that it puts there itself."""

    def forget() -> None:
        for name in list(sys.modules):
            if name.split(".")[0] in ("smac", "pysc2"):
                del sys.modules[name]

    forget()
    yield
    forget()


@pytest.fixture
def smac_double(no_smac: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package `smac` that needs no game, now the first to be found."""
    folder = Path(__file__).parent / "doubles"
    monkeypatch.syspath_prepend(str(folder))
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--fast`: see helpers/layers.py."""
    parser.addoption(
        "--fast",
        action="store_true",
        help="skip each test that starts Ray, trains or starts a process of Python",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Registers the limits of the fast layer."""
    if config.getoption("--fast"):
        from layers import FastLayer

        config.pluginmanager.register(FastLayer())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that train, or start Ray or the command, begin before the others.

    They are the longest, so that no worker is left alone with one of them in the end.
    It needs xdist's option ``--no-loadscope-reorder``.
    """

    def is_long(item: pytest.Item) -> bool:
        starts_ray = "ray_local" in getattr(item, "fixturenames", ())
        return starts_ray or not {"cli", "learning"}.isdisjoint(item.path.parts)

    # A file keeps its tests together: one of them decides.
    long = {item.path for item in items if is_long(item)}
    items.sort(key=lambda item: item.path not in long)
