"""A small Ray for the tests that need one."""

from __future__ import annotations

import pytest
import ray

import rllib_risk


@pytest.fixture(scope="module")
def ray_local():
    """Ray with room for a few runners on however few cores."""
    # "local": never the cluster that somebody runs on this machine.
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
