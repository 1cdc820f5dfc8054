"""The physics and the costs of the env `hvac`, for any number of buildings at once.

Source: `BuildingEnv` of SustainGym 0.1.7 (Yeh et al., 2023); the results are the same.
A step of five minutes is an affine map with constant matrices and the weather as input.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import (
    STEPS_PER_YEAR,
    Building,
    load_weather,
    start_rows,
)

# Weights of the reward's two parts. SustainGym has beta = 0.999 for comfort and
# (1 - beta) * 24 for energy.
COMFORT_WEIGHT = 0.999
ENERGY_WEIGHT = (1 - COMFORT_WEIGHT) * 24

# Outdoor, ground, sun and people: the features that all zones share.
NUM_SHARED = 4

# With `normalise`, temperatures become (T - 22) / 10.
_CENTRE, _SPREAD = 22.0, 10.0


def _occupancy_polynomial(metabolism: float) -> tuple[float, float, float]:
    """Coefficients of 1, T and T^2 of the heat from one person, in watts.

    EnergyPlus 23.1, Engineering Reference, page 1299.

    Args:
        metabolism: Metabolic rate of a person in watts.
    """
    m = metabolism
    return (
        6.461927 + 0.946892 * m + 0.0000255737 * m**2,
        -0.0627909 * m + 0.0000589172 * m**2,
        -0.19855 + 0.000940018 * m - 0.00000149532 * m**2,
    )


_OCCUPANCY = _occupancy_polynomial(120.0)


class HvacStep(NamedTuple):
    """The result of one step of one building.

    Attributes:
        temperatures: New zone temperatures in degrees Celsius, float64 [n].
        shared: The shared features of the step, float64 [4]: outdoor and ground
            temperature, sun in [0, 1], heat of a person in kW.
        comfort_cost: Weighted distance from the target, at least 0.
        energy_cost: Weighted power, at least 0.
    """

    temperatures: np.ndarray
    shared: np.ndarray
    comfort_cost: float
    energy_cost: float


class Dynamics(Protocol):
    """The physics behind the env `HVAC`: this package's own or SustainGym's.

    Attributes:
        zones: Names of the n zones.
    """

    zones: tuple[str, ...]

    def reset(self, city: int, day: int) -> np.ndarray:
        """Starts a day, all zones at the target.

        Args:
            city: Index into the scenario's cities.
            day: Day of the year, 0 .. 364.

        Returns:
            The shared features at the start, float64 [4].
        """
        ...

    def step(self, power: np.ndarray) -> HvacStep:
        """Plays one step of five minutes.

        Args:
            power: Power of each zone's actuator in [-1, 1], float32 [n].

        Returns:
            The result of the step.
        """
        ...


class BatchedDynamics:
    """E equal buildings, each with its own city and time of the year.

    Zone temperatures are stored as float32, as in SustainGym, and multiplied as
    float64. Arrays are refreshed in place.

    Attributes:
        temperatures: Present zone temperatures, float32 [E, n].
        shared: Shared features of the last step, or of the start, float64 [E, 4]. The
            start shows the weather row of the first step, so features 0 .. 2 of the
            start and of the first step are the same. SustainGym has this lag too.
        exact: Zone temperatures after the last step, before the rounding to float32,
            float64 [E, n]; the comfort cost is computed from these.
        mean_abs_deviation: Mean over the zones of the distance between `exact` and the
            target, float64 [E].
        comfort_cost: Comfort cost of the last step, float64 [E].
        energy_cost: Energy cost of the last step, float64 [E].
    """

    def __init__(
        self,
        num_rows: int,
        building: Building,
        cities: Sequence[str],
        *,
        power_scale: float = 1.0,
        solar_scale: float = 1.0,
        ground_scale: float = 1.0,
        target: float = 22.0,
    ) -> None:
        """Builds the matrix of a step and the table of the weather.

        Args:
            num_rows: Number of buildings E.
            building: Model of the buildings.
            cities: Cities that `reset` may choose from.
            power_scale: Factor on the effect of the actuators.
            solar_scale: Factor on the effect of the sun.
            ground_scale: Factor on the effect of the ground.
            target: Target temperature of all zones in degrees Celsius.
        """
        n = len(building.zones)
        self._target = target
        # A step is one matrix product. Its inputs [E, 2n + 4] hold temperatures, power,
        # outdoor, ground, sun in [0, 1] (which has no effect), and GHI.
        self._weather = np.concatenate([_weather_rows(city) for city in cities])
        self._effect = np.concatenate(
            [
                building.transition.T,
                building.actuators.T * power_scale,
                building.outdoor[None],
                building.ground[None] * ground_scale,
                np.zeros((1, n)),
                building.solar[None] * solar_scale,
            ]
        )
        self._average = np.full(n, 1 / n)  # a product is faster than mean(axis=1)
        self._inputs = np.zeros((num_rows, 2 * n + NUM_SHARED))
        self._row = np.zeros(num_rows, np.int64)  # next row of the year's table
        self._table_start = np.zeros(num_rows, np.int64)  # first row of the city
        self.temperatures = np.full((num_rows, n), target, np.float32)
        self.shared = np.zeros((num_rows, NUM_SHARED))
        self.exact = self.temperatures.astype(np.float64)
        self.mean_abs_deviation = np.zeros(num_rows)
        self.comfort_cost = np.zeros(num_rows)
        self.energy_cost = np.zeros(num_rows)

    def reset(self, rows: np.ndarray, cities: np.ndarray, days: np.ndarray) -> None:
        """Starts a day in some buildings, all zones at the target.

        Args:
            rows: Which buildings, distinct integers [k].
            cities: Indices into the cities, integers [k].
            days: Days of the year, 0 .. 364, integers [k].
        """
        self.temperatures[rows] = self._target
        self._table_start[rows] = cities * STEPS_PER_YEAR
        self._row[rows] = start_rows(days)
        weather = self._weather[self._table_start[rows] + self._row[rows]]
        self.shared[rows, :3] = weather[:, :3]
        self.shared[rows, 3] = _heat_of_a_person(np.full(len(rows), self._target))

    def step(self, power: np.ndarray, active: np.ndarray | None = None) -> None:
        """Plays one step of five minutes in every active building.

        Args:
            power: Power of the actuators in [-1, 1], float32 [E, n].
            active: Buildings to step, bool [E]; all of them if None. The others keep
                their temperatures and time of the year; their other arrays are not
                valid afterwards.
        """
        n = self.temperatures.shape[1]
        inputs = self._inputs
        before, weather = inputs[:, :n], inputs[:, 2 * n :]
        before[:] = self.temperatures
        inputs[:, n : 2 * n] = power
        weather[:] = self._weather[self._table_start + self._row]
        np.matmul(inputs, self._effect, out=self.exact)
        self.shared[:, :3] = weather[:, :3]
        # from the temperatures before the step, as in SustainGym
        self.shared[:, 3] = _heat_of_a_person(before @ self._average)
        deviation = self.exact - self._target
        self.mean_abs_deviation = np.abs(deviation) @ self._average
        self.comfort_cost = COMFORT_WEIGHT * _norms(deviation)
        self.energy_cost = ENERGY_WEIGHT * _norms(power).astype(np.float64)
        if active is None:
            self.temperatures[:] = self.exact
            self._row += 1
        else:
            np.copyto(
                self.temperatures,
                self.exact,
                where=active[:, None],
                casting="same_kind",
            )
            self._row += active
        self._row[self._row == STEPS_PER_YEAR] = 0


class NativeDynamics:
    """One building; `Dynamics` on top of a `BatchedDynamics` of one row."""

    def __init__(self, building: Building, cities: Sequence[str], **scales: float):
        """Builds the model.

        Args:
            building: As in `BatchedDynamics`.
            cities: As in `BatchedDynamics`.
            **scales: power_scale, solar_scale, ground_scale and target, as there.
        """
        self.zones = building.zones
        self._batch = BatchedDynamics(1, building, cities, **scales)

    def reset(self, city: int, day: int) -> np.ndarray:
        """Starts a day; see `Dynamics`."""
        self._batch.reset(np.array([0]), np.array([city]), np.array([day]))
        return self._batch.shared[0].copy()

    def step(self, power: np.ndarray) -> HvacStep:
        """Plays one step of five minutes; see `Dynamics`."""
        batch = self._batch
        batch.step(power[None])
        return HvacStep(
            batch.exact[0].copy(),
            batch.shared[0].copy(),
            float(batch.comfort_cost[0]),
            float(batch.energy_cost[0]),
        )


def power_levels(bins: int) -> np.ndarray:
    """The power of every action number.

    An even number of bins gives SustainGym's grid, (k - bins / 2) / (bins / 2), which
    contains 0 and -1 but not 1. An odd number gives a symmetric grid from -1 to 1.

    Args:
        bins: Number of actions, at least 2.

    Returns:
        Power, ascending, float32 [bins].

    Raises:
        EnvConfigError: If bins is too small or not an integer.
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise EnvConfigError(f"bins must be an integer of at least 2, not {bins!r}")
    zero = bins // 2
    return (np.arange(bins, dtype=np.float32) - zero) / np.float32(zero)


def normalised(temperatures: np.ndarray) -> np.ndarray:
    """Temperatures as (T - 22) / 10; the dtype does not change."""
    return (temperatures - _CENTRE) / _SPREAD


@cache
def _weather_rows(city: str) -> np.ndarray:
    """Outdoor, ground, sun in [0, 1] and GHI in Wh/m2, float64 [T, 4]."""
    weather = load_weather(city)
    ghi = weather.solar * weather.max_ghi
    return np.stack([weather.outdoor, weather.ground, weather.solar, ghi], axis=1)


def _heat_of_a_person(temperatures: np.ndarray) -> np.ndarray:
    """Heat from one person in kW, [E], at mean zone temperatures, float64 [E]."""
    constant, linear, square = _OCCUPANCY
    return (constant + (linear + square * temperatures) * temperatures) / 1000


def _norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norms [E] of rows [E, n]; the dtype does not change."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))
