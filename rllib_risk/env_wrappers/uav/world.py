"""The world of the env `uav`: its constants, its map and its rules.

Letters: `E` copies, `U` UAVs, `M` devices, `G` cells along an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rllib_risk.env_wrappers.arguments import number, positive
from rllib_risk.env_wrappers.errors import EnvConfigError

# The map of the authors' code: (x, y) of devices 0 .. 9, and a block of 20 cells.
DEVICE_CELLS = (
    ((3, 1), (7, 2), (6, 7), (1, 6), (7, 5), (8, 5), (9, 1), (6, 1), (4, 7), (2, 3))
)  # fmt: skip
RISK_REGION = tuple((x, y) for x in range(3, 7) for y in range(2, 7))
# Width and height of a random region, as in the authors' code.
_BLOCK = (4, 5)
_RANDOM_DEVICES = 10

PAPER, RANDOM = "paper", "random"
# Moves in cells, in the order of the actions: stay, x + 1, x - 1, y + 1, y - 1.
MOVES = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])


class Start(NamedTuple):
    """All random draws of an episode, made at its start.

    Attributes:
        cells: Start cells of the UAVs, int64 [U, 2].
        uniforms: Uniform numbers, float64 [T, U]; [0, U] if there is no risk. A UAV in
            the risk region is hit if its number is below `risk_probability`.
    """

    cells: np.ndarray
    uniforms: np.ndarray


class Outcome(NamedTuple):
    """The result of one step.

    Attributes:
        mean_age: Mean age of information over devices, float64 [E].
        power_w: Power of all UAVs together in watts, float64 [E].
        in_risk: Number of UAVs in the risk region, int64 [E].
        hits: Number of UAVs that were hit, int64 [E].
    """

    mean_age: np.ndarray
    power_w: np.ndarray
    in_risk: np.ndarray
    hits: np.ndarray


@dataclass(frozen=True)
class World:
    """The map and the constants, all checked.

    Attributes:
        grid_size: Number of cells along an edge, G.
        num_uavs: Number of UAVs, U.
        device_cells: Cells of the devices, int64 [M, 2].
        risk: Whether a cell (x, y) is in the risk region, bool [G, G].
        safe_cells: Cells in which a UAV may start, int64 [S, 2].
        move_cells: Number of cells of one move.
        power_w: Power for polling each device from each cell in watts, float64
            [G, G, M + 1]; the last entry stands for no poll and is 0.
        max_age: Largest age.
        initial_age: Age of every device when an episode begins.
        power_weight: Reward that is subtracted per watt.
        risk_probability: Probability of a hit, per UAV and step in the region.
        risk_penalty: Reward that is subtracted per hit.
        episode_steps: Steps of an episode, T.
    """

    grid_size: int
    num_uavs: int
    device_cells: np.ndarray
    risk: np.ndarray
    safe_cells: np.ndarray
    move_cells: int
    power_w: np.ndarray
    max_age: int
    initial_age: int
    power_weight: float
    risk_probability: float
    risk_penalty: float
    episode_steps: int

    @property
    def num_devices(self) -> int:
        """Number of devices, M."""
        return len(self.device_cells)

    @property
    def num_actions(self) -> int:
        """Number of actions of a UAV: a move, and a device or none."""
        return len(MOVES) * (self.num_devices + 1)

    def draw_start(self, rng: np.random.Generator) -> Start:
        """Draws an episode; a seed gives the same start cells with and without risk.

        Args:
            rng: Source of randomness.

        Returns:
            The draw.
        """
        chosen = rng.integers(len(self.safe_cells), size=self.num_uavs)
        risky = self.risk_probability > 0 and bool(self.risk.any())
        rows = self.episode_steps if risky else 0
        return Start(self.safe_cells[chosen], rng.random((rows, self.num_uavs)))

    def step(
        self,
        cells: np.ndarray,
        ages: np.ndarray,
        actions: np.ndarray,
        uniforms: np.ndarray | None,
    ) -> Outcome:
        """Moves the UAVs and polls devices; changes cells and ages in place.

        Args:
            cells: Cells of the UAVs, int64 [E, U, 2].
            ages: Ages of the devices' information, int64 [E, M].
            actions: `5 * device + move`, device M means no poll, int64 [E, U].
            uniforms: This step's row of `Start.uniforms`, float64 [E, U]; None: no
                risk.

        Returns:
            The outcome, from which rewards follow.
        """
        device, move = np.divmod(actions, len(MOVES))
        cells += self.move_cells * MOVES[move]
        np.clip(cells, 0, self.grid_size - 1, out=cells)
        x, y = cells[..., 0], cells[..., 1]
        polled = np.zeros((len(cells), self.num_devices + 1), bool)
        np.put_along_axis(polled, device, True, axis=1)
        np.minimum(ages + 1, self.max_age, out=ages)
        ages[polled[:, :-1]] = 1
        inside = self.risk[x, y]
        if uniforms is None:
            hits = np.zeros(len(cells), np.int64)
        else:
            hits = (inside & (uniforms < self.risk_probability)).sum(axis=1)
        power = self.power_w[x, y, device].sum(axis=1)
        return Outcome(ages.mean(axis=1), power, inside.sum(axis=1), hits)

    def rewards(self, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Rewards of a step.

        Args:
            outcome: Outcome of the step.

        Returns:
            The reward with the sum of power and penalties over all UAVs, from which
            teams learn, and the one with their mean, which the authors report; float64
            [E] each.
        """
        cost = self.power_weight * outcome.power_w + self.risk_penalty * outcome.hits
        return -outcome.mean_age - cost, -outcome.mean_age - cost / self.num_uavs


def make_world(
    *,
    grid_size: int,
    cell_m: float,
    num_uavs: int,
    device_cells: str | Sequence[Sequence[int]],
    num_devices: int | None,
    risk_region: str | Sequence[Sequence[int]],
    layout_seed: int,
    move_cells: int,
    altitude_m: float,
    gain_db: float,
    bandwidth_hz: float,
    packet_bits: float,
    noise_dbm: float,
    max_age: int,
    initial_age: int,
    power_weight: float,
    risk_probability: float,
    risk_penalty: float,
    episode_steps: int,
) -> World:
    """Builds a world from arguments of the env, which `UAV` explains.

    Raises:
        EnvConfigError: If one is wrong.
    """
    size = positive("grid_size", grid_size)
    rng = np.random.default_rng(_not_negative_int("layout_seed", layout_seed))
    devices = _device_cells(device_cells, num_devices, size, rng)
    risk = _risk_region(risk_region, size, rng)
    safe = np.argwhere(~risk)
    if not len(safe):
        raise EnvConfigError(
            "risk_region covers the whole grid, but UAVs start outside it: make it"
            " smaller"
        )
    if not 1 <= positive("initial_age", initial_age) <= positive("max_age", max_age):
        raise EnvConfigError(
            f"initial_age ({initial_age}) must not exceed max_age ({max_age})"
        )
    if not 0.0 <= number("risk_probability", risk_probability) <= 1.0:
        raise EnvConfigError(
            f"risk_probability must lie in [0, 1], not {risk_probability!r}"
        )
    lengths = {"cell_m": cell_m, "bandwidth_hz": bandwidth_hz}
    for key, value in lengths.items():
        if number(key, value) <= 0:
            raise EnvConfigError(f"{key} must be above 0, not {value!r}")
    weights = {
        "altitude_m": altitude_m,
        "packet_bits": packet_bits,
        "power_weight": power_weight,
        "risk_penalty": risk_penalty,
    }
    for key, value in weights.items():
        if number(key, value) < 0:
            raise EnvConfigError(f"{key} must not be negative, not {value!r}")

    power = _polling_power_w(
        size=size,
        devices=devices,
        cell_m=cell_m,
        altitude_m=altitude_m,
        snr=2.0 ** (packet_bits / bandwidth_hz) - 1.0,
        noise_w=10.0 ** ((number("noise_dbm", noise_dbm) - 30.0) / 10.0),
        gain=10.0 ** (number("gain_db", gain_db) / 10.0),
    )
    return World(
        grid_size=size,
        num_uavs=positive("num_uavs", num_uavs),
        device_cells=devices,
        risk=risk,
        safe_cells=safe,
        move_cells=positive("move_cells", move_cells),
        power_w=np.concatenate([power, np.zeros((size, size, 1))], axis=-1),
        max_age=max_age,
        initial_age=initial_age,
        power_weight=float(power_weight),
        risk_probability=float(risk_probability),
        risk_penalty=float(risk_penalty),
        episode_steps=positive("episode_steps", episode_steps),
    )


def _polling_power_w(
    *,
    size: int,
    devices: np.ndarray,
    cell_m: float,
    altitude_m: float,
    snr: float,
    noise_w: float,
    gain: float,
) -> np.ndarray:
    """The power in watts that a device needs to reach a UAV over each cell.

    Returns:
        float64 [G, G, M].
    """
    # Line of sight: P = d^2 (2^(E / B) - 1) noise / gain at 1 m.
    cells = np.stack(np.meshgrid(*[np.arange(size)] * 2, indexing="ij"), axis=-1)
    gaps = cells[:, :, None] - devices  # [G, G, M, 2]
    distance2 = altitude_m**2 + cell_m**2 * (gaps**2).sum(axis=-1)
    return np.asarray(distance2 * snr * noise_w / gain)


def _device_cells(
    given: Any, count: int | None, size: int, rng: np.random.Generator
) -> np.ndarray:
    if _is(given, PAPER):
        given = DEVICE_CELLS
    if _is(given, RANDOM):
        number_of = positive("num_devices", _RANDOM_DEVICES if count is None else count)
        return rng.integers(size, size=(number_of, 2))
    cells = _cells("device_cells", given, size)
    if not len(cells):
        raise EnvConfigError("device_cells must hold at least one cell")
    if count is not None and count != len(cells):
        raise EnvConfigError(
            f"num_devices is {count}, but device_cells holds {len(cells)} cells: remove"
            f" num_devices, or set device_cells to {RANDOM}"
        )
    return cells


def _risk_region(given: Any, size: int, rng: np.random.Generator) -> np.ndarray:
    risk = np.zeros((size, size), bool)
    if _is(given, PAPER):
        given = RISK_REGION
    if _is(given, RANDOM):
        width, height = _BLOCK
        if size < max(_BLOCK):
            raise EnvConfigError(
                f"risk_region: a random block of {width}x{height} cells needs a"
                f" grid_size of at least {max(_BLOCK)}, not {size}"
            )
        x, y = rng.integers(size - width + 1), rng.integers(size - height + 1)
        risk[x : x + width, y : y + height] = True
        return risk
    cells = _cells("risk_region", given, size)
    risk[cells[:, 0], cells[:, 1]] = True
    return risk


def _is(given: Any, name: str) -> bool:
    return isinstance(given, str) and given == name


def _cells(key: str, given: Any, size: int) -> np.ndarray:
    """Cells as int64 [k, 2]."""
    try:
        cells = [tuple(cell) for cell in given]
        wrong = isinstance(given, str) or any(len(cell) != 2 for cell in cells)
    except TypeError:
        wrong = True
    whole = not wrong and all(
        isinstance(c, int | np.integer) and not isinstance(c, bool)
        for cell in cells
        for c in cell
    )
    if wrong or not whole:
        raise EnvConfigError(
            f"{key} must be '{PAPER}', '{RANDOM}' or a list of cells [x, y], not"
            f" {given!r}"
        )
    for cell in cells:
        if not all(0 <= c < size for c in cell):
            raise EnvConfigError(
                f"{key}: cell {list(cell)} lies outside the grid of {size}x{size}"
            )
    return np.array(cells, np.int64).reshape(-1, 2)


def _not_negative_int(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise EnvConfigError(f"{key} must be an integer of at least 0, not {value!r}")
    return value
