"""Reads a user's building from a YAML file with zones and surfaces.

The file lists the zones, or names an EnergyPlus report with a table of zones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rllib_risk.config.schema import ConfigError, suggest
from rllib_risk.config.yaml_reader import read_yaml
from rllib_risk.env_wrappers.arguments import number
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import Building
from rllib_risk.env_wrappers.hvac.heat_model import UFactors, Zone, building_model

# Defaults: the values of the prototype buildings.
MAX_POWER = 8000.0  # W
SHGC = 0.252
_KEYS = ("zones", "u_factors", "max_power", "shgc")
_SIDES = ("x", "y", "z")
_AREAS = ("floor_area", "wall_area", "window_area")
_ZONE_KEYS = ("name", "level", *_SIDES, *_AREAS)
_U_KEYS = tuple(field.name for field in dataclasses.fields(UFactors))
# The table of EnergyPlus's HTML report, and its columns.
_TABLE = "Zone Information"
_NAME, _LEVEL = "Zone Name", "Centroid Z-Coordinate {m}"
_AREA_COLUMNS = {
    "floor_area": "Floor Area {m2}",
    "wall_area": "Exterior Net Wall Area {m2}",
    "window_area": "Exterior Window Area {m2}",
}


def read_building(path: str) -> Building:
    """The model of a building from a file.

    Args:
        path: A YAML file with `zones` (a list, or the path of an EnergyPlus report
            ending in .htm or .html, relative to this file) and `u_factors`. Optional
            are `max_power` in W and `shgc`; their defaults are those of the prototype
            buildings.

    Returns:
        The model.

    Raises:
        EnvConfigError: If the file cannot be used; the text names the zone and the key.
    """
    try:
        data = read_yaml(Path(path)).data
    except ConfigError as error:
        raise EnvConfigError(str(error)) from error
    try:
        _check_keys("the file", data, _KEYS, needed=("zones", "u_factors"))
        zones = _zones(data["zones"], Path(path).parent)
        _check_keys("u_factors", data["u_factors"], _U_KEYS, needed=_U_KEYS)
        u_factors = {
            key: _positive(f"u_factors.{key}", value)
            for key, value in data["u_factors"].items()
        }
        shgc = number("shgc", data.get("shgc", SHGC))
        if not 0.0 <= shgc <= 1.0:
            raise EnvConfigError(f"shgc must lie in [0, 1], not {shgc}")
        max_power = _positive("max_power", data.get("max_power", MAX_POWER))
        return building_model(zones, UFactors(**u_factors), max_power, shgc)
    except EnvConfigError as error:
        raise EnvConfigError(f"{path}: {error}") from error


def _zones(given: Any, folder: Path) -> list[Zone]:
    """The zones of a file, checked."""
    if isinstance(given, str):
        given = read_zone_table(folder / given)
    if not isinstance(given, Sequence) or not given:
        raise EnvConfigError(
            "zones must be a list of zones, or the path of an EnergyPlus report (.htm)"
        )
    zones = [_zone(index, values) for index, values in enumerate(given)]
    names = [zone.name for zone in zones]
    for name in names:
        if names.count(name) > 1:
            raise EnvConfigError(
                f"zones: the name '{name}' occurs {names.count(name)} times: give every"
                " zone its own name"
            )
    return zones


def _zone(index: int, values: Any) -> Zone:
    """One zone, checked."""
    where = f"zones[{index}]"
    _check_keys(where, values, _ZONE_KEYS, needed=_ZONE_KEYS)
    name = values["name"]
    if not isinstance(name, str) or not name:
        raise EnvConfigError(f"{where}.name must be a text, not {name!r}")
    where = f"zone '{name}'"
    numbers: dict[str, Any] = {}
    for key in _AREAS:
        numbers[key] = number(f"{where}: {key}", values[key])
        if numbers[key] < 0.0:
            raise EnvConfigError(f"{where}: {key} must not be negative")
    for key in _SIDES:
        numbers[key] = _interval(f"{where}: {key}", values[key])
    return Zone(name, number(f"{where}: level", values["level"]), **numbers)


def read_zone_table(path: Path) -> list[dict[str, Any]]:
    """The zones of the table "Zone Information" in an EnergyPlus report.

    Args:
        path: The report, HTML.

    Returns:
        Zones in the form of a building file.

    Raises:
        EnvConfigError: If there is no such table or a column is missing.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise EnvConfigError(f"zones: {path} cannot be read: {error}") from error
    parser = _TableParser()
    parser.feed(text)
    if not parser.rows:
        raise EnvConfigError(f"zones: {path} has no table '{_TABLE}'")
    header, *rows = parser.rows
    return [_of_row(path, dict(zip(header, row, strict=False))) for row in rows]


def _of_row(path: Path, row: Mapping[str, str]) -> dict[str, Any]:
    def cell(column: str) -> float:
        try:
            return float(row[column])
        except KeyError:
            raise EnvConfigError(
                f"zones: table '{_TABLE}' of {path} has no column '{column}'"
            ) from None
        except ValueError:
            raise EnvConfigError(
                f"zones: table '{_TABLE}' of {path}, column '{column}': holds"
                f" {row[column]!r}, which is not a number"
            ) from None

    sides = {
        side: [cell(f"{end} {side.upper()} {{m}}") for end in ("Minimum", "Maximum")]
        for side in _SIDES
    }
    areas = {key: cell(column) for key, column in _AREA_COLUMNS.items()}
    return {"name": row.get(_NAME, ""), "level": cell(_LEVEL), **sides, **areas}


class _TableParser(HTMLParser):
    """Collects the cells of the table after the heading "Zone Information".

    Attributes:
        rows: Cells of each row, the header first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._wanted = self._in_cell = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if self._wanted and tag == "tr":
            self.rows.append([])
        elif self._wanted and tag == "td":
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._in_cell = False
        elif tag == "table":
            self._wanted = False

    def handle_data(self, data: str) -> None:
        if data.strip() == _TABLE and not self.rows:
            self._wanted = True
        elif self._wanted and self._in_cell:
            self.rows[-1][-1] += data.strip()


def _check_keys(
    where: str, values: Any, known: Sequence[str], needed: Sequence[str]
) -> None:
    """Raises if this is not a mapping, or if a key is unknown or missing."""
    if not isinstance(values, Mapping):
        raise EnvConfigError(f"{where} must be a mapping with {', '.join(known)}")
    for key in values:
        if key not in known:
            raise EnvConfigError(
                f"{where}: unknown key {key!r}.{suggest(str(key), known)} Known:"
                f" {', '.join(known)}"
            )
    for key in needed:
        if key not in values:
            raise EnvConfigError(f"{where}: {key} is missing")


def _positive(key: str, value: Any) -> float:
    if number(key, value) <= 0.0:
        raise EnvConfigError(f"{key} must be above 0, not {value}")
    return float(value)


def _interval(key: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise EnvConfigError(f"{key} must be [least, greatest] in m, not {value!r}")
    low, high = (number(key, end) for end in value)
    if low >= high:
        raise EnvConfigError(
            f"{key} must be [least, greatest], with the smaller number first, not"
            f" {[low, high]}"
        )
    return low, high
