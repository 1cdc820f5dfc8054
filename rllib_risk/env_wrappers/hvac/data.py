"""Weather and buildings of the env `hvac`.

This package contains the named cities and buildings; `tools/make_hvac_data.py` wrote
their files. A path names a user's own file; see `epw` and `building_file`.

Linear interpolation turns hourly weather into the five-minute series of SustainGym
0.1.7: outdoor and ground temperatures bit for bit, the sun within one rounding. Sources
and licences are in weather/ATTRIBUTION.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError

_DATA = Path(__file__).parent / "weather"

# Named after the weather data. `port_angeles` has Seattle's ground temperatures, as in
# the paper, which calls it Seattle. `seattle` is the real Seattle. The first six are
# env_1 .. env_6 of the paper.
CITIES = (
    "tucson",
    "tampa",
    "honolulu",
    "el_paso",
    "port_angeles",
    "new_york",
    "seattle",
    "port_angeles_own_ground",
    "atlanta",
    "san_diego",
    "albuquerque",
    "buffalo",
    "denver",
    "rochester",
    "great_falls",
    "international_falls",
    "fairbanks",
)

# Number of zones of each prototype building.
BUILDINGS = {
    "RestaurantFastFood": 3,
    "RestaurantSitDown": 3,
    "Warehouse": 3,
    "RetailStandalone": 5,
    "OfficeSmall": 6,
    "RetailStripmall": 10,
    "OfficeMedium": 18,
    "HotelLarge": 22,
    "OfficeLarge": 23,
    "SchoolPrimary": 25,
    "ApartmentMidRise": 27,
    "SchoolSecondary": 46,
    "Hospital": 55,
    "HotelSmall": 67,
    "ApartmentHighRise": 90,
    "OutPatientHealthCare": 118,
}

# Rows T of a year's table. The last hour of the year is left out: there is no next hour
# to interpolate to.
STEPS_PER_YEAR = 105_108
_STEPS_PER_HOUR = 12
HOURS = 8760
_DAYS_PER_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class Weather:
    """A year in one city, a row every five minutes; read-only arrays.

    Attributes:
        outdoor: Outdoor temperature in degrees Celsius, float64 [T].
        ground: Ground temperature in degrees Celsius, float64 [T].
        solar: Global horizontal irradiance over `max_ghi`, in [0, 1], float64 [T].
        max_ghi: Largest irradiance of the year in Wh/m2.
    """

    outdoor: np.ndarray
    ground: np.ndarray
    solar: np.ndarray
    max_ghi: float


@dataclass(frozen=True)
class Building:
    """The linear model of a building over five minutes; read-only float64 arrays.

    New zone temperatures are transition x + actuators u + outdoor T_outdoor +
    ground T_ground + solar GHI, with u in [-1, 1] and GHI in Wh/m2.

    Attributes:
        zones: Names of the n zones, sorted by height.
        transition: Effect of the zone temperatures, [n, n].
        actuators: Effect of the actuators, [n, n]; column j is that of zone j.
        outdoor: Effect of the outdoor temperature, [n].
        ground: Effect of the ground temperature, [n].
        solar: Effect of the sun, [n].
    """

    zones: tuple[str, ...]
    transition: np.ndarray
    actuators: np.ndarray
    outdoor: np.ndarray
    ground: np.ndarray
    solar: np.ndarray


@cache
def load_weather(city: str) -> Weather:
    """The weather of a city.

    Args:
        city: One of `CITIES`, or the path of an .epw file.

    Returns:
        The weather; the same object at every call.

    Raises:
        EnvConfigError: If there is no such city, or the file cannot be used.
    """
    check_city(city)
    if is_own_weather(city):
        from rllib_risk.env_wrappers.hvac.epw import read_epw

        return read_epw(city)
    with np.load(_DATA / "hvac_weather.npz") as stored:
        row = stored["cities"].tolist().index(city)
        outdoor = stored["outdoor"][row] / 10  # stored as tenths of a degree
        monthly_ground = stored["ground"][row] / 10
        ghi = stored["ghi"][row].astype(np.float64)
    return weather_of(outdoor, ghi, monthly_ground)


def weather_of(
    outdoor: np.ndarray, ghi: np.ndarray, monthly_ground: np.ndarray
) -> Weather:
    """Interpolates hourly weather to a year in steps of five minutes.

    Args:
        outdoor: Outdoor temperature in degrees Celsius, float64 [8760].
        ghi: Global horizontal irradiance in Wh/m2, float64 [8760].
        monthly_ground: Ground temperature in degrees Celsius, float64 [12].
    """
    hours = np.arange(HOURS)
    steps = np.arange(0, HOURS - 1, 1 / _STEPS_PER_HOUR)
    ground = np.repeat(monthly_ground, np.array(_DAYS_PER_MONTH) * 24)
    max_ghi = float(ghi.max())
    return Weather(
        outdoor=_frozen(np.interp(steps, hours, outdoor)),
        ground=_frozen(np.interp(steps, hours, ground)),
        solar=_frozen(np.interp(steps, hours, ghi) / max_ghi),
        max_ghi=max_ghi,
    )


@cache
def load_building(name: str) -> Building:
    """The model of a building.

    Args:
        name: One of `BUILDINGS`, or the path of a .yaml file.

    Returns:
        The model; the same object at every call.

    Raises:
        EnvConfigError: If there is no such building, or the file cannot be used.
    """
    check_building(name)
    keys = [field.name for field in fields(Building)][1:]
    if is_own_building(name):
        from rllib_risk.env_wrappers.hvac.building_file import read_building

        model = read_building(name)
        return Building(model.zones, *(_frozen(getattr(model, key)) for key in keys))
    with np.load(_DATA / "hvac_buildings.npz") as stored:
        zones = tuple(stored[f"{name}/zones"].tolist())
        return Building(zones, *(_frozen(stored[f"{name}/{key}"]) for key in keys))


def is_own_weather(city: str) -> bool:
    """Whether this names a user's own file."""
    return Path(city).suffix.lower() == ".epw"


def is_own_building(name: str) -> bool:
    """Whether this names a user's own file."""
    return Path(name).suffix.lower() in (".yaml", ".yml")


def check_city(city: Any) -> None:
    """Raises an EnvConfigError unless this is one of `CITIES` or an .epw file."""
    if isinstance(city, str) and is_own_weather(city):
        _check_file("city", city)
    else:
        check_name("city", city, CITIES, "the path of an .epw file")


def check_building(name: Any) -> None:
    """Raises an EnvConfigError unless this is one of `BUILDINGS` or a .yaml file."""
    if isinstance(name, str) and is_own_building(name):
        _check_file("building", name)
    else:
        check_name("building", name, tuple(BUILDINGS), "the path of a .yaml file")


def start_rows(days: np.ndarray) -> np.ndarray:
    """The rows of a year's table at which days begin.

    The formula is SustainGym's. The table is one hour shorter than a year, so days
    begin a little before midnight: up to one hour, at the end of the year.

    Args:
        days: Days of the year, 0 .. 364, integers [k].

    Returns:
        Rows, int64 [k].
    """
    rows = (days / 365 * STEPS_PER_YEAR).astype(np.int64)
    return np.minimum(rows, STEPS_PER_YEAR - 1)


def check_name(key: str, value: Any, known: Sequence[str], other: str = "") -> None:
    """Raises if a name is unknown, and suggests the nearest known one.

    Args:
        key: The key, for the text.
        value: The name to check.
        known: All valid names.
        other: Another valid form, for the text, such as a path.

    Raises:
        EnvConfigError: If the name is not a known one.
    """
    if value in known:
        return
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
    hint = f"did you mean '{close[0]}'? " if close else ""
    names = ", ".join(known) + (f", and {other}" if other else "")
    raise EnvConfigError(f"unknown {key} {value!r}: {hint}known are {names}")


def _check_file(key: str, path: str) -> None:
    if not Path(path).is_file():
        raise EnvConfigError(
            f"{key}: there is no file {path}. Relative paths start at the working"
            f" directory, {Path.cwd()}: give an absolute path"
        )


def _frozen(array: np.ndarray) -> np.ndarray:
    """Makes an array read-only, since all envs of the process share it."""
    array.setflags(write=False)
    return array
