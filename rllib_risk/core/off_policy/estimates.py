"""Off-policy estimates of a policy's return while it learns from a dataset.

Fitted Q evaluation on episodes that the policy does not learn from. Every estimate of a
run has the same episodes, resamples and first weights, so that two of them differ by
the policy alone, as far as that is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rllib_risk.core.off_policy.fqe import FqeSettings, fit_fqe
from rllib_risk.core.off_policy.log import Log, replay
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import one_thread
from rllib_risk.data.episodes import Episode

# The folder of the results.
OFF_POLICY = "off_policy"
# With fewer episodes the resamples hardly overlap with what they leave out.
MIN_EPISODES = 10
# Of more episodes the first ones are used: they take memory a second time.
MAX_EPISODES = 1000
_CVAR_LEVEL = 0.1


class Estimates:
    """Estimates of one policy as it learns, and how old the best of them is.

    Attributes:
        since_best: Estimates since the highest mean return; 0: the last one is it.
    """

    def __init__(self, episodes: Sequence[Episode], seed: int) -> None:
        """Takes the episodes in.

        Args:
            episodes: At least two that the policy does not learn from. The first
                :data:`MAX_EPISODES` are used.
            seed: Of all estimates.
        """
        self._log = Log.of(episodes[:MAX_EPISODES])
        self._settings = FqeSettings(seed=seed)
        self._best: float | None = None
        self.since_best = 0

    def make(self, policy: TeamPolicy) -> dict[str, float]:
        """Estimates the undiscounted return of a policy that acts greedily.

        No random number of a later update is used.

        Args:
            policy: The policy.

        Returns:
            In units of return ``return_mean``, the ends of its 95 % interval
            ``return_mean_low`` and ``return_mean_high``, ``return_cvar_10``, and
            ``log_return_mean``, what the same episodes returned as they were played.
            And ``td_error``: the held-out squared TD error of the fit, as a share of
            the variance of its targets. Only these last two if the estimate did not
            settle, or if half of its interval is wider than the standard deviation of
            the returns in the log. Such an estimate counts as one that is not higher.
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
        """What a checkpoint holds of it."""
        return {"best": self._best, "since_best": self.since_best}

    def load(self, state: dict[str, Any] | None) -> None:
        """Goes on where another run of the same dataset stopped.

        Args:
            state: From :meth:`state`; None: nothing was estimated before.
        """
        if state is not None:
            self._best, self.since_best = state["best"], state["since_best"]
