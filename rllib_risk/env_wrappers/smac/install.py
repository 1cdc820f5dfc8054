"""Checks that SMAC and StarCraft II are installed, with install commands if not.

SMAC is not on the package index: the package `smac` there is an AutoML tool. The checks
come in two steps. When the env is built, Python packages and the map's name are
checked. When the first episode begins, the game and the map's file are checked. So a
driver without StarCraft II can still build the env to read its spaces.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rllib_risk.config.schema import suggest
from rllib_risk.env_wrappers.errors import EnvConfigError

PACKAGES = "pip install 'rllib-risk[smac]'"
SMAC = "pip install --no-deps 'SMAC @ git+https://github.com/oxwhirl/smac.git'"
MESSAGES = "pip install --force-reinstall --no-deps pys2clientprotocol"
MAPS = (
    "git clone https://github.com/oxwhirl/smac.git && "
    'cp -r smac/smac/env/starcraft2/maps/SMAC_Maps "$SC2PATH/Maps/"'
)


def load_smac() -> tuple[type, dict[str, Any]]:
    """Imports SMAC.

    Returns:
        Its class StarCraft2Env, unmodified, and its maps by name.

    Raises:
        EnvConfigError: If SMAC is missing, another package has its name, or it cannot
            be imported; the text has the commands to run.
    """
    found = importlib.util.find_spec("smac")
    if found is None:
        raise EnvConfigError(
            f"env 'smac' needs SMAC, which is not on the package index. Run\n"
            f"  {PACKAGES}\n  {SMAC}\n(not 'pip install smac': that is an unrelated"
            " AutoML package.)"
        )
    places = [Path(place) for place in found.submodule_search_locations or ()]
    if not any((place / "env" / "starcraft2").is_dir() for place in places):
        raise EnvConfigError(
            "env 'smac': the installed package 'smac' is the AutoML tool of that name,"
            f" not the StarCraft environment. Run\n  pip uninstall -y smac\n"
            f"  {PACKAGES}\n  {SMAC}"
        )
    try:
        env = importlib.import_module("smac.env").StarCraft2Env
        maps = importlib.import_module("smac.env.starcraft2.maps.smac_maps")
        return env, maps.get_smac_map_registry()
    except Exception as error:  # protobuf raises errors of several kinds
        raise EnvConfigError(_import_help(error)) from error


def fix_colours() -> None:
    """Makes pysc2 4.0's colours of units work on Python 3.11 and later.

    pysc2's module of colours calls ``random.shuffle`` with a function as second
    argument when SMAC's renderer imports it. Python 3.11 dropped this argument. Only
    the module of colours is changed.
    """
    colours: Any = importlib.import_module("pysc2.lib.colors")
    used = getattr(colours, "random", None)
    if sys.version_info >= (3, 11) and used is random:
        names = {**vars(random), "shuffle": _shuffle}
        colours.random = types.SimpleNamespace(**names)


def _shuffle(items: list[Any], draw: Callable[[], float] = random.random) -> None:
    """``random.shuffle`` as in Python 3.10."""
    for last in reversed(range(1, len(items))):
        other = int(draw() * (last + 1))
        items[last], items[other] = items[other], items[last]


def check_map(name: Any, maps: dict[str, Any]) -> None:
    """Raises an EnvConfigError if there is no map of this name."""
    if not isinstance(name, str) or name not in maps:
        raise EnvConfigError(
            f"env_config.map_name: unknown map {name!r}."
            f"{suggest(str(name), maps)} Known: {', '.join(sorted(maps))}."
        )


def check_game(map_name: str) -> None:
    """Checks that the game and a map's file are where pysc2 will look for them.

    Args:
        map_name: Name of a map of SMAC.

    Raises:
        EnvConfigError: If one is missing; the text has the commands to run.
    """
    folder = game_folder()
    if folder is None:
        return  # on this system pysc2 knows the folder of the game's installer
    if not any(folder.glob("Versions/Base*/SC2*")):
        raise EnvConfigError(
            f"env 'smac' found no StarCraft II in {folder} (no Versions/Base*/SC2_x64)."
            " Download the Linux package 4.10 (Base75689) from Blizzard; for that you"
            " must accept its licence:"
            " https://github.com/Blizzard/s2client-proto#linux-packages. Then run\n"
            "  unzip SC2.4.10.zip -d ~   # its password is in that licence\n"
            "  export SC2PATH=~/StarCraftII"
        )
    file = folder / "Maps" / "SMAC_Maps" / f"{map_name}.SC2Map"
    if not file.is_file():
        raise EnvConfigError(
            f"env 'smac' found no map file {file}: SMAC's package does not contain its"
            f" maps. Run\n  export SC2PATH={folder}\n  {MAPS}"
        )


def game_folder() -> Path | None:
    """The folder in which the game must be, or None if pysc2 searches for it."""
    path = os.environ.get("SC2PATH")
    if path is None and platform.system() != "Linux":
        return None
    return Path(path or "~/StarCraftII").expanduser()


def _import_help(error: Exception) -> str:
    """The error text for a failed import of SMAC, with the commands to run."""
    cause = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    text = f"env 'smac': SMAC cannot be imported ({cause}). "
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if missing and not missing.startswith("google"):
        return f"{text}Run\n  {PACKAGES}"
    return (
        f"{text}The package of the game's messages must fit the installed protobuf,"
        f" but another package can overwrite it. Run\n  pip install 'protobuf>=6'\n"
        f"  {MESSAGES}"
    )
