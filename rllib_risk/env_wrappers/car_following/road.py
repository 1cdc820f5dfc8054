"""The rules of the car-following game, for E copies at once.

Letters: `E` copies, `N` cars (2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_CARS = 2
NUM_ACTIONS = 21
TARGET = 2.5
STEP_S = 0.1
ARRIVED_WITHIN = 0.01
STEP_REWARD, ARRIVAL_REWARD, FOLLOWING_REWARD, END_REWARD = -1.0, 5.0, 1.0, 10.0

# The grid of the authors' code: its last entry is 19 / 21, not 1.
ACCELERATIONS = (1.0 - -1.0) / NUM_ACTIONS * np.arange(NUM_ACTIONS) + -1.0


@dataclass
class Cars:
    """Positions, speeds and arrivals of the cars of E copies.

    Attributes:
        positions: Positions, float64 [E, N].
        speeds: Speeds, float64 [E, N].
        arrived: Whether a car has reached the target, bool [E, N].
    """

    positions: np.ndarray
    speeds: np.ndarray
    arrived: np.ndarray

    @classmethod
    def at_start(cls, num_envs: int) -> Cars:
        """All cars at position 0 with speed 0."""
        zeros = np.zeros((num_envs, NUM_CARS))
        return cls(zeros, zeros.copy(), np.zeros(zeros.shape, bool))


@dataclass(frozen=True)
class Outcome:
    """Rewards and counts of one step.

    Attributes:
        rewards: Team rewards, float64 [E].
        crashes: Number of cars that crashed, int64 [E].
        speeding: Number of cars above the speed limit, int64 [E].
        together: Whether both cars have arrived, bool [E].
    """

    rewards: np.ndarray
    crashes: np.ndarray
    speeding: np.ndarray
    together: np.ndarray


@dataclass(frozen=True)
class Road:
    """Constants of the game; see `CarFollowing`."""

    speed_limit: float
    top_speed: float
    crash_rate: float
    crash_reward: float
    following_range: float
    round_top_speed_time: bool

    def step(
        self, cars: Cars, actions: np.ndarray, uniforms: np.ndarray
    ) -> tuple[Cars, Outcome]:
        """Drives for one step.

        Args:
            cars: The cars before the step.
            actions: Index of the acceleration of each car, int64 [E, N].
            uniforms: Uniform numbers in [0, 1), [E, N]. A car crashes if its number is
                below its probability of a crash.

        Returns:
            The cars after the step, and the outcome of the step.
        """
        positions, speeds = self.drive(
            cars.positions, cars.speeds, ACCELERATIONS[actions]
        )
        positions = np.where(cars.arrived, TARGET, positions)
        speeds = np.where(cars.arrived, 0.0, speeds)
        distance = np.abs(positions - TARGET)
        arrives = ~cars.arrived & (distance < ARRIVED_WITHIN)
        arrived = cars.arrived | arrives
        crashes = (uniforms < (speeds - self.speed_limit) * self.crash_rate).sum(axis=1)
        near = np.abs(positions[:, 0] - positions[:, 1]) <= self.following_range
        together = np.asarray(arrived.all(axis=1))
        rewards = (
            STEP_REWARD
            - distance.sum(axis=1)
            + ARRIVAL_REWARD * arrives.sum(axis=1)
            + self.crash_reward * crashes
            + FOLLOWING_REWARD * near
            + END_REWARD * together
        )
        speeding = (np.abs(speeds) > self.speed_limit).sum(axis=1)
        outcome = Outcome(rewards, crashes, speeding, together)
        return Cars(positions, speeds, arrived), outcome

    def drive(
        self, positions: np.ndarray, speeds: np.ndarray, accelerations: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Moves cars for one step: constant acceleration up to the top speed.

        Args:
            positions: Positions before the step, [...].
            speeds: Speeds before the step, [...].
            accelerations: Accelerations, [...]; never 0.

        Returns:
            Positions and speeds after the step.
        """
        a, after = accelerations, speeds + accelerations * STEP_S
        tops = after >= self.top_speed
        time = (self.top_speed - speeds) / a
        if self.round_top_speed_time:
            time = np.round(time * 100) / 100
        time = np.where(tops, time, STEP_S)
        driven = speeds * time + 0.5 * a * time * time
        rest = np.where(tops, self.top_speed * (STEP_S - time), 0.0)
        return positions + driven + rest, np.where(tops, self.top_speed, after)

    def views(self, cars: Cars) -> np.ndarray:
        """The observations of the cars, float32 [E, N, 4]; see `CarFollowing`."""
        apart = np.abs(cars.positions[:, :1] - cars.positions[:, 1:])[:, :, None]
        hidden = (apart > self.following_range) & ~np.eye(NUM_CARS, dtype=bool)
        shown = np.stack([cars.positions, cars.speeds], axis=-1)[:, None]  # [E,1,N,2]
        views = np.where(hidden[..., None], 0.0, shown)
        return views.reshape(len(views), NUM_CARS, -1).astype(np.float32)

    @staticmethod
    def states(cars: Cars) -> np.ndarray:
        """Position and speed of the first car, then of the second, float32 [E, 4]."""
        both = np.stack([cars.positions, cars.speeds], axis=-1)
        return both.reshape(len(both), -1).astype(np.float32)
