"""Heat flow between the zones of a building, and between zones and surroundings.

This is the resistance-capacity model of SustainGym 0.1.7 (Yeh et al., 2023), which
follows BEAR (Zhang et al., 2023). Constants and simplifications are the same, so that a
building of SustainGym gets the same matrices:

* Two zones of one level, or of a level and the next one above, touch if a corner of one
  lies in the other.
* The last zone of each level has a roof over its whole area.
* The length of a wall between two zones of a level is the diagonal of their overlap.
  The depth of the overlap along y is measured from the first zone's own edge.
* The model has no people, no furniture, and no air flow between zones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise, product

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import Building

STEP_SECONDS = 300
_AIR_DENSITY = 1.225  # kg/m3
_AIR_HEAT = 1000.0  # J/(kg K)
# Shares of the sun on the windows and of the heat of the ground that reach a zone.
_SOLAR_WEIGHT = 0.01
_GROUND_WEIGHT = 0.5
# x Wh in a step of five minutes are a power of 12 x W.
_STEPS_PER_HOUR = 12


@dataclass(frozen=True)
class Zone:
    """A zone of a building: a box of air.

    Attributes:
        name: Name of the zone.
        level: Height of its centre in m; equal for all zones of a level.
        x: Least and greatest x coordinate in m.
        y: Least and greatest y coordinate in m.
        z: Least and greatest z coordinate in m.
        floor_area: Area of the floor in m2.
        wall_area: Area of the outer walls without windows, in m2.
        window_area: Area of the outer windows in m2.
    """

    name: str
    level: float
    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]
    floor_area: float
    wall_area: float
    window_area: float

    @property
    def heat_capacity(self) -> float:
        """Heat capacity of the air in the zone, in J/K."""
        return _AIR_HEAT * _AIR_DENSITY * _length(self.z) * self.plan_area

    @property
    def plan_area(self) -> float:
        """Area of the zone's outline, in m2."""
        return _length(self.x) * _length(self.y)


@dataclass(frozen=True)
class UFactors:
    """Thermal transmittance of surfaces in W/(m2 K).

    Attributes:
        interior_wall: Wall between two zones of a level.
        floor: Floor of the upper one of two zones.
        exterior_wall: Wall to the outside.
        roof: Roof to the outside.
        ceiling: Ceiling of the lower one of two zones.
        ground_floor: Floor to the ground.
        window: Window to the outside.
    """

    interior_wall: float
    floor: float
    exterior_wall: float
    roof: float
    ceiling: float
    ground_floor: float
    window: float


def building_model(
    zones: Sequence[Zone], u: UFactors, max_power: float, shgc: float
) -> Building:
    """The linear model of a building over five minutes.

    `dx/dt = A x + B inputs` is integrated exactly over a step with constant inputs:
    `x' = exp(A s) x + A^-1 (exp(A s) - 1) B inputs`.

    Args:
        zones: Zones of the building, in any order.
        u: Thermal transmittance of its surfaces.
        max_power: Greatest power of each zone's actuator in W.
        shgc: Solar heat gain coefficient of the windows, 0 to 1.

    Returns:
        The model; zones are sorted by the height of their level.

    Raises:
        EnvConfigError: If a zone exchanges heat with nothing.
    """
    from scipy.linalg import expm

    zones = sorted(zones, key=lambda zone: zone.level)
    levels = [list(level) for _, level in groupby(zones, key=lambda z: z.level)]
    index = {zone.name: row for row, zone in enumerate(zones)}
    n = len(zones)
    between = np.zeros((n, n))  # W/K
    for one, other, conductance in _contacts(levels, u):
        between[index[one.name], index[other.name]] = conductance
        between[index[other.name], index[one.name]] = conductance
    lasts = {level[-1].name for level in levels}
    outdoor = np.array([_to_outside(z, u, roofed=z.name in lasts) for z in zones])
    ground = np.zeros(n)
    ground[: len(levels[0])] = [
        zone.floor_area * u.ground_floor * _GROUND_WEIGHT for zone in levels[0]
    ]
    losses = between.sum(axis=1) + outdoor + ground  # W/K
    for zone, loss in zip(zones, losses, strict=True):
        if loss <= 0.0:
            raise EnvConfigError(
                f"zone '{zone.name}' exchanges heat with nothing: it has no outer wall,"
                " no window and no neighbour, and is not on the lowest level. Correct"
                " its areas or coordinates"
            )
    capacity = np.array([zone.heat_capacity for zone in zones])[:, None]  # J/K
    rates = (between - np.diag(losses)) / capacity
    sun = np.array([zone.window_area for zone in zones]) * (
        shgc * _SOLAR_WEIGHT * _STEPS_PER_HOUR
    )
    inputs = np.column_stack([ground, outdoor, np.eye(n) * max_power, sun]) / capacity
    transition = expm(rates * STEP_SECONDS)
    effects = np.linalg.solve(rates, (transition - np.eye(n)) @ inputs)
    return Building(
        zones=tuple(index),
        transition=transition,
        actuators=effects[:, 2:-1],
        outdoor=effects[:, 1],
        ground=effects[:, 0],
        solar=effects[:, -1],
    )


def _contacts(
    levels: Sequence[Sequence[Zone]], u: UFactors
) -> Iterator[tuple[Zone, Zone, float]]:
    """Zones that touch, and the conductance between them in W/K."""
    series = u.floor * u.ceiling / (u.floor + u.ceiling)
    for lower, upper in pairwise(levels):
        for one, other in product(lower, upper):
            if _corner_below(one, other) or _corner_below(other, one):
                width, depth = _overlap(one, other)
                yield one, other, width * depth * series
    for level in levels:
        for one, other in combinations(level, 2):
            if _corner_beside(one, other) or _corner_beside(other, one):
                wall = math.hypot(*_overlap(one, other))
                yield one, other, _length(one.z) * wall * u.interior_wall


def _to_outside(zone: Zone, u: UFactors, *, roofed: bool) -> float:
    """Conductance from a zone to the outside in W/K."""
    walls = zone.wall_area * u.exterior_wall + zone.window_area * u.window
    # SustainGym leaves out the windows of a zone without an outer wall.
    if not roofed:
        return walls if zone.wall_area > 0.0 else 0.0
    return walls + zone.plan_area * u.roof


def _overlap(one: Zone, other: Zone) -> tuple[float, float]:
    """Width and depth of the overlap of two zones, as SustainGym measures them."""
    width = min(one.x[1], other.x[1]) - max(one.x[0], other.x[0])
    return width, min(one.y[1], other.y[1]) - one.y[0]


def _corner_beside(one: Zone, other: Zone) -> bool:
    """Whether the least or the greatest corner of a zone lies in another one."""
    return any(
        other.x[0] <= one.x[end] <= other.x[1]
        and other.y[0] <= one.y[end] <= other.y[1]
        for end in (0, 1)
    )


def _corner_below(one: Zone, other: Zone) -> bool:
    """As `_corner_beside`, for zones of two levels; touching edges do not count."""
    least = other.x[0] <= one.x[0] < other.x[1] and other.y[0] <= one.y[0] < other.y[1]
    greatest = (
        other.x[0] < one.x[1] <= other.x[1] and other.y[0] < one.y[1] <= other.y[1]
    )
    return least or greatest


def _length(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]
