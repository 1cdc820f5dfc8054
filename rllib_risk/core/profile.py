"""The part of an algorithm that measures the time of each part of a trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm

from rllib_risk.core import ray_internals
from rllib_risk.core import stopwatch as sw
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.core.stopwatch import Stopwatch

# Counter of updates, which a checkpoint holds.
NUM_UPDATES = "num_updates_lifetime"
# Result with the profile.
PROFILE = "profile"
RUNNERS = "runners"


class ProfilingAlgorithm(Algorithm):
    """Adds a profile to every result: ``profile/environment_s`` and so on.

    Seconds count from the start of the trial's process, so that a resumed trial begins
    at 0. ``profile/runners/...`` has the sums over the remote env runners, and
    ``profile/updates`` the updates in that time.
    """

    def start_profile(self) -> None:
        """Starts the stopwatch."""
        self.stopwatch = Stopwatch()
        self._runner_seconds: Counter[str] = Counter()
        self._updates_before: int | None = None

    def share_stopwatch(self) -> None:
        """Gives the stopwatch to the trial's own worker and its policy."""
        worker = self.env_runner
        if isinstance(worker, TeamRolloutWorker):  # RLlib's worker has no stopwatch
            worker.stopwatch = worker.team_policy.stopwatch = self.stopwatch

    def add_runner_seconds(self, seconds: Mapping[str, float]) -> None:
        """Adds the time of a remote env runner to the profile.

        Args:
            seconds: Seconds by part.
        """
        self._runner_seconds.update(seconds)

    def step(self) -> dict[str, Any]:
        """One iteration; see RLlib."""
        self.stopwatch.switch(sw.REST)
        if self._updates_before is None:
            self._updates_before = self._num_updates()
        results = super().step()
        results[PROFILE] = {
            **_named(self.stopwatch.seconds()),
            "updates": self._num_updates() - self._updates_before,
        }
        if self._runner_seconds:
            results[PROFILE][RUNNERS] = _named(self._runner_seconds)
        return results

    def _num_updates(self) -> int:
        return ray_internals.counters(self)[NUM_UPDATES]

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """See RLlib."""
        with self.stopwatch.part(sw.EVALUATION):
            return super().evaluate(parallel_train_future)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """See RLlib.

        Args:
            checkpoint_dir: Existing folder.
        """
        with self.stopwatch.part(sw.CHECKPOINTS):
            super().save_checkpoint(checkpoint_dir)


def _named(seconds: Mapping[str, float]) -> dict[str, float]:
    return {f"{part}_s": value for part, value in seconds.items()}
