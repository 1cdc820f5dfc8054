"""Reads a user's weather file in EnergyPlus format (.epw)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import HOURS, Weather, weather_of

_HEADER_LINES = 8
# Columns of a data line, counted from 0: dry-bulb temperature in degrees Celsius and
# global horizontal irradiance in Wh/m2. A value of _MISSING or more means a gap.
_OUTDOOR, _GHI = 6, 13
_MISSING = {_OUTDOOR: 99.9, _GHI: 9999.0}
_NAMES = {_OUTDOOR: "dry-bulb temperature", _GHI: "global horizontal irradiance"}
_GROUND_LINE = "GROUND TEMPERATURES"
# Entries of the line: name, number of depths, depth, three properties of the soil,
# twelve months.
_GROUND_FROM = 6


def read_epw(path: str) -> Weather:
    """Reads a year of weather from a file.

    Ground temperatures are the monthly values of the first depth in the file's header.

    Args:
        path: An EnergyPlus weather file: hourly, 8760 hours.

    Returns:
        The weather, a row every five minutes.

    Raises:
        EnvConfigError: If the file cannot be used; the text names the line.
    """
    try:
        with Path(path).open(encoding="latin-1", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, csv.Error) as error:
        raise EnvConfigError(f"{path}: cannot be read: {error}") from error
    header = {row[0].strip().upper(): row for row in rows[:_HEADER_LINES] if row}
    hours = [
        (line, row)
        for line, row in enumerate(rows[_HEADER_LINES:], _HEADER_LINES + 1)
        if row
    ]
    if "LOCATION" not in header:
        raise EnvConfigError(
            f"{path}: is not an EnergyPlus weather file: line 1 must begin with"
            " LOCATION"
        )
    if len(hours) != HOURS:
        leap = " Remove 29 February." if len(hours) == HOURS + 24 else ""
        raise EnvConfigError(
            f"{path}: has {len(hours)} lines of data, but a year has {HOURS} hours."
            f"{leap}"
        )
    return weather_of(
        _column(path, hours, _OUTDOOR),
        _column(path, hours, _GHI),
        _ground(path, header.get(_GROUND_LINE, [])),
    )


def _column(
    path: str, hours: Sequence[tuple[int, Sequence[str]]], column: int
) -> np.ndarray:
    """One column of all hours, float64."""
    values = np.empty(len(hours))
    for hour, (line, row) in enumerate(hours):
        text = row[column] if column < len(row) else ""
        value = _number(text)
        if value is None or value >= _MISSING[column]:
            raise EnvConfigError(
                f"{path}: line {line}, column {column + 1} ({_NAMES[column]}): holds"
                f" {text!r}, which is not a value. Fill the gaps of the file first."
            )
        values[hour] = value
    if column == _GHI and (values.min() < 0.0 or values.max() == 0.0):
        raise EnvConfigError(
            f"{path}: column {column + 1} ({_NAMES[column]}): all values must be at"
            " least 0, and at least one must be above 0"
        )
    return values


def _ground(path: str, row: Sequence[str]) -> np.ndarray:
    """The monthly ground temperatures of the first depth, float64 [12]."""
    months = [_number(text) for text in row[_GROUND_FROM : _GROUND_FROM + 12]]
    known = [month for month in months if month is not None]
    if len(known) < 12:
        raise EnvConfigError(
            f"{path}: has no monthly ground temperatures; line {_GROUND_LINE} must"
            " hold the number of depths, the depth, three properties of the soil (may"
            " be empty) and twelve temperatures"
        )
    return np.array(known)


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
