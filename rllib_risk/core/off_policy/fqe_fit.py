"""Settings and results of fitted Q evaluation (FQE).

Letters: see :mod:`.fqe`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rllib_risk.ops.off_policy import weighted_cvar
from rllib_risk.ops.ratio_terms import Floats, refit_interval


@dataclass(frozen=True)
class FqeSettings:
    """Settings of FQE.

    Attributes:
        members: ``K``, number of networks in the ensemble, at least 2.
        hidden: Units of each of the two hidden layers.
        num_quantiles: ``Q``, number of quantiles.
        batch_size: ``B``, rows per member and update.
        lr: Learning rate of Adam.
        tau: Share of the target network that each update replaces.
        min_updates: Minimum number of updates. It rises to ``1 / tau`` updates for each
            bootstrap between an episode's end and its start, if that is more.
        max_updates: Maximum number of updates. It rises to twice the number that the
            bootstraps need, if that is more.
        check_every: Updates between two checks of the estimate.
        tolerance: The estimate has settled if both of its last two changes between
            checks are small: below this share of the standard deviation of the log's
            returns, or below a quarter of the deviation between members. The deviation
            between members must also be below that of the log's returns.
        draws: Number of joint actions over which values of a stochastic policy are
            averaged.
        seed: Seed of all randomness.
    """

    members: int = 6
    hidden: int = 64
    num_quantiles: int = 25
    batch_size: int = 64
    lr: float = 2e-3
    tau: float = 0.1
    min_updates: int = 750
    max_updates: int = 3000
    check_every: int = 250
    tolerance: float = 0.05
    draws: int = 8
    seed: int = 0


@dataclass(frozen=True)
class FqeFit:
    """The estimates of an ensemble for one policy.

    Attributes:
        counts: How often each member's resample holds each episode, float64 ``[K, E]``.
        start_values: Mean return from the start of each episode, float64 ``[K, E]``.
        start_quantiles: Quantiles of that return, float64 ``[K, E, Q]``. A stochastic
            policy has ``Q`` quantiles for each draw of its joint action.
        taken_values: ``Q`` of the logged actions, float64 ``[M]``: the mean over
            members that did not learn from the episode.
        values: ``V`` of the policy from the same members, float64 ``[M]``.
        left_over: Residual of each episode from the same members, float64 ``[E]``:
            ``sum_t gamma^t (r_t + gamma V(h_(t+1)) - Q(h_t, a_t))``. Its mean is 0 if
            the values are right.
        td_error: Held-out squared TD error at the end, as a share of the variance of
            its targets.
        updates: Number of updates made.
        settled: Whether the estimate settled. If not, it has no meaning.
    """

    counts: Floats
    start_values: Floats
    start_quantiles: Floats
    taken_values: Floats
    values: Floats
    left_over: Floats
    td_error: float
    updates: int
    settled: bool

    @property
    def mean(self) -> float:
        """Estimate of the mean return: the mean over members and first states."""
        return float(self.start_values.mean())

    @property
    def weights(self) -> Floats:
        """Share of each episode in each member's resample, float64 ``[K, E]``."""
        return np.asarray(self.counts / self.counts.sum(-1, keepdims=True))

    @property
    def member_means(self) -> Floats:
        """Mean return over each member's resample of first states, float64 ``[K]``."""
        return np.asarray((self.weights * self.start_values).sum(-1))

    def interval(
        self, value: float | None = None, refits: Floats | None = None
    ) -> tuple[float, float]:
        """Computes the 95 % interval of the mean return, or of another estimate.

        Args:
            value: The estimate; None: :attr:`mean`.
            refits: The same estimate from each member, float64 ``[K]``; None:
                :attr:`member_means`.

        Returns:
            Lower and upper end.
        """
        value = self.mean if value is None else value
        refits = self.member_means if refits is None else refits
        return refit_interval(value, refits, left_over=self.left_over)

    def member_cvars(self, level: float) -> Floats:
        """Computes the mean of the lowest returns in each member's resample.

        Args:
            level: Share of the returns, in (0, 1].

        Returns:
            float64 ``[K]``.
        """
        each = np.repeat(self.weights, self.start_quantiles.shape[-1], axis=-1)
        flat = self.start_quantiles.reshape(len(self.start_quantiles), -1)
        pairs = zip(flat, each, strict=True)
        return np.array([weighted_cvar(q, w, level) for q, w in pairs])
