"""Off-policy estimates of a policy's return while it learns from a dataset.

The estimates come from fitted Q evaluation on held-out episodes. All estimates of a run
use the same episodes, resamples and initial weights. As far as possible, two estimates
therefore differ only because the policy differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rllib_risk.core.off_policy.fqe import FqeSettings, fit_fqe
from rllib_risk.core.off_policy.log import Log, replay
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import one_thread
from rllib_risk.data.episodes import Episode

# Key of the estimates in results and checkpoints.
OFF_POLICY = "off_policy"
# Minimum number of held-out episodes. With fewer, a resample has little in common with
# the episodes that it leaves out.
MIN_EPISODES = 10
# Maximum number of episodes: the first ones are used. Their copy takes memory.
MAX_EPISODES = 1000
_CVAR_LEVEL = 0.1


class Estimates:
    """Estimates of a policy's return as it learns, and the age of the best estimate.

    Attributes:
        since_best: Number of estimates since the one with the highest mean return; 0 if
            the last one is the highest.
    """

    def __init__(self, episodes: Sequence[Episode], seed: int) -> None:
        """Builds the log from the episodes.

        Args:
            episodes: At least two held-out episodes. The first :data:`MAX_EPISODES`
                are used.
            seed: Seed of all estimates.
        """
        self._log = Log.of(episodes[:MAX_EPISODES])
        self._settings = FqeSettings(seed=seed)
        self._best: float | None = None
        self.since_best = 0

    def make(self, policy: TeamPolicy) -> dict[str, float]:
        """Estimates the undiscounted return of the greedy policy.

        The random streams of the training do not change.

        Args:
            policy: The policy.

        Returns:
            ``return_mean``, the ends of its 95 % interval, ``return_mean_low`` and
            ``return_mean_high``, and ``return_cvar_10``, in units of return. Also
            ``log_return_mean``, the mean return of the same episodes in the log, and
            ``td_error``, the held-out squared TD error of the fit as a share of the
            variance of its targets. Only the last two are returned if the estimate did
            not settle, or if half of its interval is wider than the standard deviation
            of the log's returns. Such an estimate never counts as the best one.
        """
        with one_thread():
            fit = fit_fqe(self._log, replay(policy, self._log), settings=self._settings)
        returns = self._log.returns()
        known = {"log_return_mean": float(returns.mean()), "td_error": fit.td_error}
        mean = fit.mean
        low, high = fit.interval()
        if not fit.settled or high - low > 2 * returns.std():
            self.since_best += 1
            return known
        if self._best is None or mean > self._best:
            self._best, self.since_best = mean, 0
        else:
            self.since_best += 1
        return {
            "return_mean": mean,
            "return_mean_low": low,
            "return_mean_high": high,
            "return_cvar_10": float(fit.member_cvars(_CVAR_LEVEL).mean()),
            **known,
        }

    def state(self) -> dict[str, Any]:
        """Returns the state for a checkpoint."""
        return {"best": self._best, "since_best": self.since_best}

    def load(self, state: dict[str, Any] | None) -> None:
        """Restores the state of a run on the same dataset.

        Args:
            state: State from :meth:`state`; None: there is no earlier estimate.
        """
        if state is not None:
            self._best, self.since_best = state["best"], state["since_best"]
