"""Aliases for modules that have moved since earlier versions.

Importing an old name returns the present module and warns with its new name.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Old name -> present name. Version 0.3 removes the old ones.
MOVED = {
    "rllib_risk.core.check_env": "rllib_risk.env_wrappers.checking.check_env",
    "rllib_risk.core.episodes": "rllib_risk.data.episodes",
    "rllib_risk.env_wrappers.hvac_data": "rllib_risk.env_wrappers.hvac.data",
    "rllib_risk.models": "rllib_risk.parts",
    "rllib_risk.models.mixers": "rllib_risk.parts.mixers",
    "rllib_risk.models.risk": "rllib_risk.parts.risk",
    "rllib_risk.models.sizes": "rllib_risk.data.sizes",
    "rllib_risk.offline.dataset": "rllib_risk.data.dataset",
}
for _game in (
    "matrix_games",
    "memory_game",
    "mmdp_game",
    "risky_bandit",
    "tabular_game",
    "team_game",
    "two_step",
):
    MOVED[f"rllib_risk.env_wrappers.{_game}"] = f"rllib_risk.env_wrappers.games.{_game}"


class _Alias(Loader):
    """Loader that returns the present module instead of loading one."""

    def __init__(self, today: ModuleType) -> None:
        self._today, self._spec = today, today.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the present module, which is already executed."""
        return self._today

    def exec_module(self, module: ModuleType) -> None:
        """Restores ``__spec__``, which Python overwrites when it loads a module."""
        module.__spec__ = self._spec


class _MovedFinder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        today = MOVED.get(fullname)
        if today is None:
            return None
        text = f"{fullname} is now {today}. Import it under the new name."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return ModuleSpec(fullname, _Alias(importlib.import_module(today)))


def install() -> None:
    """Makes the old names importable; a second call has no effect."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        # Comes first: other finders would find old submodules in a moved package.
        sys.meta_path.insert(0, _MovedFinder())
