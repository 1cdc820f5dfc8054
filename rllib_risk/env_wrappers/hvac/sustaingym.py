"""The backend `sustaingym` of the env `hvac`: SustainGym's own building model.

It serves to check the native physics and to get results that only the original package
computes. It is about as slow as SustainGym itself, and has no vectorised form.
SustainGym must be installed.

SustainGym 0.1.7 pins Gymnasium 0.28 and PettingZoo 1.24, and Ray pins Gymnasium 1.2.2.
A plain installation beside Ray is therefore impossible. SustainGym works without its
pins (`INSTALL`). `pip check` then reports the two pins, which does no harm. pvlib 0.16
dropped the function that reads SustainGym's weather files.
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
# is the weather of Port Angeles with the ground temperatures of Seattle.
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
    """One building: the protocol `dynamics.Dynamics` on SustainGym's `BuildingEnv`.

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
        """Starts a day; see `dynamics.Dynamics`."""
        self._env = self._envs[city]
        self._costs = np.zeros(2)
        state, _ = self._env.reset(seed=day)
        return state[len(self.zones) :].astype(np.float64)

    def step(self, power: np.ndarray) -> HvacStep:
        """Plays one step of five minutes; see `dynamics.Dynamics`."""
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
            "backend 'sustaingym' knows only its own cities and buildings: use backend"
            " 'native' for your own files"
        )
    try:
        building = importlib.import_module("sustaingym.envs.building")
        iotools = importlib.import_module("pvlib.iotools")
    except ImportError as error:
        raise EnvConfigError(
            f"env_config.backend 'sustaingym' needs SustainGym ({error}): install it "
            f"beside Ray with\n  {INSTALL[0]}\n  {INSTALL[1]}\n('pip check' will then "
            "report its pins of gymnasium and pettingzoo, which does no harm), or use "
            "backend 'native', which gives the same numbers"
        ) from error
    if not hasattr(iotools, "parse_epw"):
        raise EnvConfigError(
            "env_config.backend 'sustaingym' needs a version of pvlib that can read "
            f"SustainGym's weather files. Install it with: {INSTALL[1]}"
        )
    weather, location = CITY_KEYS[city]
    # SustainGym prints all zones, and pvlib warns about a function that it calls.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parameters = building.ParameterGenerator(
            scenario.building,
            weather,
            location,
            target=target,
            # we pass our own levels of power, not SustainGym's 200 actions
            is_continuous_action=True,
        )
        env = building.BuildingEnv(parameters)
    # Columns: people, ground, outdoor, power of every zone, sun. The scales change the
    # matrix directly, because SustainGym has no arguments for them.
    env.BD_d[:, 1] *= scenario.ground_scale
    env.BD_d[:, 3:-1] *= scenario.power_scale
    env.BD_d[:, -1] *= scenario.solar_scale
    return env
