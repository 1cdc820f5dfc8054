"""Settings of the whole test session."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Must be set before torch is imported, here and in every process that a test starts.
# The networks are tiny: a second thread on a busy core slows them a lot.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# RLlib imports JAX and Flax in every process where they are installed, and uses neither
# here. The environment `smax` imports JAX itself.
os.environ.setdefault("RLLIB_TEST_NO_JAX_IMPORT", "1")
logging.getLogger("ray.rllib.utils.framework").setLevel(logging.ERROR)

# Makes the modules of helpers/ importable in all tests and in their processes.
HELPERS = str(Path(__file__).parent / "helpers")
sys.path.insert(0, HELPERS)
paths = [HELPERS, os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)

# A busy machine must not fail a test of Hypothesis.
settings.register_profile("no deadline", parent=settings.default, deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records small versions of the datasets of docs and examples; returns the folder.

    Examples must run in this folder, since they name the datasets by relative paths.
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
        sources[f"uav-half-{seed}"] = {"normalise": True}
    sources["wide"] = {"episode_steps": 5}  # held-out flights to estimate from
    for name, env_config in sources.items():
        config = TeamConfig().environment("uav", env_config=env_config)
        write_dataset(
            folder / "data" / name,
            record(config, [player], 200 if name == "wide" else 2, seed=0),
            env="uav",
            env_config=env_config,
            agents=["uav_0", "uav_1"],
            behaviour={"policy": "greedy"},
            seed=0,
        )
    return folder


def start_ray() -> None:
    """Starts Ray with room for a few runners, whatever the number of cores."""
    import ray

    import rllib_risk

    # "local" never joins a cluster that runs on this machine.
    ray.init(
        "local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    rllib_risk.register()


@pytest.fixture(scope="module")
def ray_local() -> None:
    """Starts one Ray for all files of a pytest worker that use this fixture."""
    import ray

    if not ray.is_initialized():
        start_ray()


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    """Starts Ray for one file, with the environment variables that the file sets."""
    import ray

    start_ray()
    yield
    ray.shutdown()


# Files with tests that use `ray_local`.
SHARING_RAY: set[Path] = set()
LAST_FILE = pytest.StashKey[Path]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Shuts down the Ray of `ray_local` before a file that does not use it."""
    ray = sys.modules.get("ray")
    first = item.session.stash.get(LAST_FILE, None) != item.path
    item.session.stash[LAST_FILE] = item.path
    if first and ray is not None and item.path not in SHARING_RAY:
        ray.shutdown()


@pytest.fixture
def no_smac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unloads SMAC before and after a test, so that the test imports its own."""

    def forget() -> None:
        for name in list(sys.modules):
            if name.split(".")[0] in ("smac", "pysc2"):
                del sys.modules[name]

    forget()
    yield
    forget()


@pytest.fixture
def smac_double(no_smac: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts a `smac` that needs no game first on Python's path; returns its folder."""
    folder = Path(__file__).parent / "doubles"
    monkeypatch.syspath_prepend(str(folder))
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option `--fast`; see helpers/layers.py."""
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
    """Orders the files: tests of the command, tests that train or use Ray, the others.

    The longest files come first, so that no worker ends with a long file alone. Files
    that share Ray follow each other. The order needs xdist's option
    ``--no-loadscope-reorder``.
    """
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            SHARING_RAY.add(item.path)

    def place(item: pytest.Item) -> int:
        if "cli" in item.path.parts:
            return 0
        # All tests of a file get the same place and stay together.
        return 1 if item.path in SHARING_RAY or "learning" in item.path.parts else 2

    items.sort(key=place)
