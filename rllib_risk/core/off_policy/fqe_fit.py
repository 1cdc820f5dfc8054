"""How FQE learns, and what comes of it.

Letters: see :mod:`.fqe`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rllib_risk.ops.off_policy import weighted_cvar
from rllib_risk.ops.ratio_terms import Floats, refit_interval


@dataclass(frozen=True)
class FqeSettings:
    """How FQE learns.

    Attributes:
        members: ``K``, at least 2.
        hidden: Units of the two hidden layers.
        num_quantiles: ``Q``.
        batch_size: ``B``, rows per member and update.
        lr: Of Adam.
        tau: Share of the target network that each update replaces.
        min_updates: Updates before learning may stop. A value also needs ``1 / tau``
            updates for each bootstrap on the way from an episode's end to its start.
        max_updates: Updates at most, or twice what values need, if that is more.
        check_every: Updates between two looks at the estimate.
        tolerance: The estimate has settled when it changed by less than this share of
            the standard deviation of the log's returns between two looks, twice in a
            row; or by less than a quarter of the deviation between members. That
            deviation must be below the one of the log's returns.
        draws: Joint actions that values of a stochastic policy are means over.
        seed: Of everything random.
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
    """What an ensemble says of a policy.

    Attributes:
        counts: How often each member's resample holds each episode, float64 ``[K, E]``.
        start_values: Mean return from the start of each episode, float64 ``[K, E]``.
        start_quantiles: Its quantiles, float64 ``[K, E, Q]``.
        taken_values: ``Q`` of the logged actions, by members that did not learn from
            the episode, float64 ``[M]``.
        values: ``V`` of the policy in the same way, float64 ``[M]``.
        left_over: What the values leave over of each episode, by members that did not
            learn from it, float64 ``[E]``: ``sum_t gamma^t (r_t + gamma V(h_(t+1)) -
            Q(h_t, a_t))``. Its mean is 0 if the values are right.
        td_error: Held-out squared TD error at the end, as a share of the variance of
            its targets.
        updates: Updates made.
        settled: Whether the estimate settled; if not, it means nothing.
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
        """The estimate of the mean return: mean over members and first states."""
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
        """95 % interval of the mean return, or of another estimate of the same fit.

        Args:
            value: The estimate; None: :attr:`mean`.
            refits: The same of each member, float64 ``[K]``; None:
                :attr:`member_means`.

        Returns:
            Lower and upper end.
        """
        value = self.mean if value is None else value
        refits = self.member_means if refits is None else refits
        return refit_interval(value, refits, left_over=self.left_over)

    def member_cvars(self, level: float) -> Floats:
        """Mean of the lowest share of returns, in each member's resample.

        Args:
            level: The share, in (0, 1].

        Returns:
            float64 ``[K]``.
        """
        each = np.repeat(self.weights, self.start_quantiles.shape[-1], axis=-1)
        flat = self.start_quantiles.reshape(len(self.start_quantiles), -1)
        pairs = zip(flat, each, strict=True)
        return np.array([weighted_cvar(q, w, level) for q, w in pairs])
