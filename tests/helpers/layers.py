"""Limits of the fast layer of the tests.

The layer allows no Ray, no algorithm, no training, no other Python process and no
battles of SMAX, which take seconds to compile.

No list and no marker says which tests are fast. ``pytest --fast`` skips a test as soon
as it begins to do one of these things; ``make test`` runs it. So a test that starts to
need Ray leaves the fast layer without an edit, and returns in the same way.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

# Enough for two updates of every algorithm, to compare them, but not for training.
MAX_STEPS = 20
PROGRAMS = re.compile(r"python[\d.]*|pip[\d.]*|rllib|rllib-risk|ruff|mypy|ray|make")


class FastLayer:
    """Pytest plugin that enforces the limits of the layer.

    Attributes:
        steps: Number of optimizer steps since the test began.
        watching: True during a test. An audit hook cannot be removed.
    """

    def __init__(self) -> None:
        """Initializes the layer; it limits nothing outside of tests."""
        self.steps = 0
        self.watching = False
        sys.addaudithook(self._audit)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        """Enforces the limits during a test, including its set-up."""
        with self.limits():
            return (yield)

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Skips a test that exceeds the limits."""
        import ray
        from torch.optim import optimizer

        from rllib_risk.core import ray_internals
        from rllib_risk.env_wrappers.smax.core import SmaxCore

        hook = optimizer.register_optimizer_step_pre_hook(self._step)
        self.steps = 0
        self.watching = True
        try:
            with (
                mock.patch.object(ray, "init", self._init),
                mock.patch.object(ray_internals._NoStore, "put", self._build),
                mock.patch.object(SmaxCore, "__init__", self._compile),
            ):
                yield
        finally:
            self.watching = False
            hook.remove()

    def _init(self, *args: Any, **kwargs: Any) -> None:
        leave("starts Ray")

    def _build(self, *args: Any) -> None:
        leave("builds an algorithm")

    def _compile(self, *args: Any) -> None:
        leave("compiles battles of SMAX")

    def _step(self, *args: Any) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            leave("trains")

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and self.watching:
            program = args[0] or args[1][0]
            if PROGRAMS.fullmatch(Path(str(program)).name):
                leave("starts a process of Python")


def leave(reason: str) -> None:
    """Skips the current test, which `make test` runs.

    Args:
        reason: What the test does.
    """
    pytest.skip(f"not in the fast layer: it {reason}")
