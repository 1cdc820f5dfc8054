"""Place, days and physics of the episodes of the env `hvac`, and their score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rllib_risk.env_wrappers.arguments import number
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import (
    check_building,
    check_city,
    check_name,
)

DAY_SPLITS = ("all", "train", "test")
DAYS_PER_YEAR = 365
# day_split holds out every fifth day.
_SPLIT_PERIOD = 5

# The paper's score of a day: (R + 9000) / 9000, R the sum of six copies of the reward.
_SCORE_SCALE = 9000.0
_REWARD_COPIES = 6


@dataclass(frozen=True)
class HvacScenario:
    """Building, cities and days, and deviations from the nominal physics.

    Attributes:
        city: A name from the table of cities, the path of an EnergyPlus weather file
            (.epw), or a list of these; every episode draws one.
        day_range: First day and the day after the last, within [0, 365].
        day_split: Days of the range to play: "all"; "train", without every fifth day;
            or "test", only every fifth day (the days d with d % 5 == 4).
        building: A name from the list of buildings, or the path of a building file
            (.yaml).
        power_scale: Factor on the effect of the actuators, but not on the energy cost.
        solar_scale: Factor on the effect of the sun on the zones.
        ground_scale: Factor on the effect of the ground on the zones.
        sensor_sigma: Standard deviation in degrees Celsius of Gaussian noise on each
            agent's observation of its own zone. State, costs and physics have no noise.
    """

    city: str | Sequence[str] = "tucson"
    day_range: Sequence[int] = (0, 200)
    day_split: str = "all"
    building: str = "OfficeSmall"
    power_scale: float = 1.0
    solar_scale: float = 1.0
    ground_scale: float = 1.0
    sensor_sigma: float = 0.0

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            EnvConfigError: If one is out of its range.
        """
        if not isinstance(self.city, str | Sequence) or not self.city:
            raise EnvConfigError(
                f"city must be a name or a list of names, not {self.city!r}"
            )
        for city in self.cities:
            check_city(city)
        check_building(self.building)
        check_name("day_split", self.day_split, DAY_SPLITS)
        for key in ("power_scale", "solar_scale", "ground_scale", "sensor_sigma"):
            if number(key, getattr(self, key)) < 0:
                raise EnvConfigError(f"{key} must not be negative")
        _check_day_range(self.day_range)
        if not self.days.size:
            raise EnvConfigError(
                f"day_range {list(self.day_range)} has no day in the split "
                f"'{self.day_split}': widen the range, or set day_split to all"
            )

    @cached_property
    def cities(self) -> tuple[str, ...]:
        """All cities, as a tuple even if there is only one."""
        return (self.city,) if isinstance(self.city, str) else tuple(self.city)

    @cached_property
    def days(self) -> np.ndarray:
        """The days from which episodes are drawn, integers, ascending."""
        days = np.arange(*self.day_range)
        held_out = days % _SPLIT_PERIOD == _SPLIT_PERIOD - 1
        if self.day_split == "train":
            return days[~held_out]
        return days[held_out] if self.day_split == "test" else days


class EpisodeStart(NamedTuple):
    """All random draws of an episode, made at its start.

    Attributes:
        day: Day of the year.
        city: Index into the scenario's cities.
        noise: Noise of the sensors at the start and after every step, float32
            [steps + 1, n]; [0, n] without noise.
    """

    day: int
    city: int
    noise: np.ndarray


def draw_start(
    rng: np.random.Generator, scenario: HvacScenario, steps: int, num_zones: int
) -> EpisodeStart:
    """Draws an episode; the single env and its twin draw the same from one seed.

    The day is drawn first. So scenarios that differ only in their cities or their noise
    play the same days.

    Args:
        rng: Source of randomness.
        scenario: The scenario to draw from.
        steps: Steps of the episode.
        num_zones: Number of zones n.

    Returns:
        The draw.
    """
    days = scenario.days
    day = int(days[rng.integers(len(days))])
    city = int(rng.integers(len(scenario.cities)))
    rows = steps + 1 if scenario.sensor_sigma > 0 else 0
    noise = rng.normal(0.0, scenario.sensor_sigma, (rows, num_zones))
    return EpisodeStart(day, city, noise.astype(np.float32))


def check_day(day: Any) -> int:
    """`day` as a day of the year.

    Raises:
        EnvConfigError: If it is not a day of the year.
    """
    if isinstance(day, bool) or not isinstance(day, int | np.integer):
        raise EnvConfigError(f"the day must be an integer, not {day!r}")
    if not 0 <= day < DAYS_PER_YEAR:
        raise EnvConfigError(f"the day must lie in 0 .. 364, not {day}")
    return int(day)


def end_of_episode_info(
    totals: np.ndarray, steps: int, start: EpisodeStart, scenario: HvacScenario
) -> dict[str, Any]:
    """The info of an episode's last step.

    Args:
        totals: Comfort cost, energy cost and mean absolute deviation, each summed over
            the steps, float64 [3].
        steps: Number of steps.
        start: The draws of the episode.
        scenario: The scenario that they were drawn from.

    Returns:
        The info; see `HVAC`.
    """
    comfort, energy, deviation = totals.tolist()
    team_return = -(comfort + energy) * _REWARD_COPIES
    info: dict[str, Any] = {
        "comfort_cost": comfort,
        "energy_cost": energy,
        "day": start.day,
        "normalised_return": (_SCORE_SCALE + team_return) / _SCORE_SCALE,
        "mean_abs_deviation": deviation / steps,
    }
    if len(scenario.cities) > 1:
        info["city_index"] = start.city
    return info


def _check_day_range(day_range: Any) -> None:
    """Raises unless this is a first day and the day after the last."""
    if (
        isinstance(day_range, str)
        or not isinstance(day_range, Sequence)
        or len(day_range) != 2
        or not all(isinstance(d, int) and not isinstance(d, bool) for d in day_range)
    ):
        raise EnvConfigError(
            f"day_range must be two integers [first, end], not {day_range!r}"
        )
    first, end = day_range
    if not 0 <= first < end <= DAYS_PER_YEAR:
        raise EnvConfigError(
            "day_range must be [first, end] with 0 <= first < end <= 365, not "
            f"{list(day_range)}"
        )
