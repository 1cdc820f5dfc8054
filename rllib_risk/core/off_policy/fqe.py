"""Fitted Q evaluation (FQE): the distribution of a policy's return, from a log alone.

``Q(h, a)`` of the team is one network. Its inputs are the state, all observations, the
joint action, the step of the episode and the policy's memory at that step. The policy
is fixed, so no maximum over joint actions is needed. A mixer makes that maximum cheap;
here it would only restrict the values. The value depends on the later actions of the
policy. A recurrent policy acts on its memory, so the memory is an input.

The target of a deterministic policy follows the log as long as the policy takes the
logged joint action. It bootstraps at the first step at which the policy differs:

    y = r_t + .. + gamma^(n-1) r_(t+n-1) + gamma^n Z(h_(t+n), a'),   a' ~ pi(h_(t+n))

Given ``a_t``, the following steps do not depend on the policy that chose it. So this
target has the same mean as the one-step target, and bootstraps less often. For a
stochastic policy ``n`` is 1 and ``a'`` is drawn in every update. Every end of a logged
episode counts as terminal, also a time limit. The value is that of episodes that end as
the log's episodes do.

The network learns the difference to the log's mean return to go, and starts at zero.
Where the data do not correct a value, it stays the value of the log. The outputs are
the mean, learned by squared errors, and quantiles of the return, learned by QR-DQN's
loss. All members of an ensemble learn at the same time, each from its own resample of
the episodes. For each episode, doubly robust estimates use only the members that did
not learn from it.

Learning stops when the estimate of the return has settled. The held-out TD error does
not show when to stop. It is lowest before the first update, when all values are those
of the log, and rises while values propagate through the episode. An estimate has
diverged if it does not settle or if the members disagree. The policy then takes actions
that the log does not hold.

Source: Le, Voloshin and Yue (2019), "Batch Policy Learning under Constraints"; Dabney
et al. (2018), QR-DQN; Hao et al. (2021), "Bootstrapping Fitted Q-Evaluation for
Off-Policy Inference".

Letters: ``K`` members, ``B`` rows of a batch, ``M`` steps of all episodes, ``E``
episodes, ``T`` steps of the longest, ``N`` agents, ``A`` actions, ``I`` input size,
``Q`` quantiles.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_risk.core.off_policy.fqe_fit import FqeFit, FqeSettings
from rllib_risk.core.off_policy.fqe_parts import Ensemble, features_of, find_paths
from rllib_risk.core.off_policy.log import Integers, Log, Replayed
from rllib_risk.core.policy import move_towards
from rllib_risk.ops.quantile import pairwise_quantile_huber_loss, quantile_fractions
from rllib_risk.ops.ratio_terms import Floats

_KAPPA = 0.1
# Number of target quantiles that an update draws at random. All quantiles would cost
# four times as much, and give the same loss on average.
_TARGET_QUANTILES = 4
# Share of the averaged network that each update replaces. Values are read from this
# slow average, because the online and the target network fluctuate.
_MEAN_TAU = 0.005
# Rows of the held-out TD error, per member.
_HELD_OUT_ROWS = 2000
# Rows of one forward pass without gradients.
_BLOCK = 4096


def fit_fqe(
    log: Log,
    replayed: Replayed,
    *,
    gamma: float = 1.0,
    settings: FqeSettings | None = None,
) -> FqeFit:
    """Evaluates a policy from a log.

    Args:
        log: At least two episodes.
        replayed: The policy's decisions on the log.
        gamma: Discount in [0, 1].
        settings: Settings of the fit; None: the defaults.

    Returns:
        The estimates of the ensemble.
    """
    fitting = _Fitting(log, replayed, gamma, settings or FqeSettings())
    updates, settled = fitting.learn()
    return fitting.result(updates, settled)


class _Fitting:
    """Arrays, networks and random generators of one evaluation."""

    def __init__(
        self, log: Log, replayed: Replayed, gamma: float, settings: FqeSettings
    ) -> None:
        self._log, self._replayed, self._gamma = log, replayed, gamma
        self._settings = settings
        self._rng = np.random.default_rng(settings.seed)
        members, episodes = settings.members, len(log.lengths)
        self._counts = self._resample(members, episodes)
        self._rows = [
            np.repeat(np.arange(len(log.rewards)), counts[log.episode])
            for counts in self._counts
        ]
        self._features = torch.from_numpy(features_of(log, replayed))
        self._actions = torch.from_numpy(log.actions)
        self._baseline, self._scale = self._baselines()
        _, agents, actions = log.action_mask.shape
        sizes = (
            self._features.shape[1] + agents * actions,
            settings.hidden,
            1 + settings.num_quantiles,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self._online = Ensemble(members, sizes)
        self._target = copy.deepcopy(self._online).requires_grad_(False)
        self._mean = copy.deepcopy(self._target)
        self._fractions = quantile_fractions(settings.num_quantiles)
        self._luck = torch.Generator().manual_seed(settings.seed)
        # Rounding must not leave the last sum below 1, the bound of random numbers.
        sums = replayed.probabilities.cumsum(-1)
        sums = np.where(sums > 1.0 - 1e-9, 1.0, sums)
        self._cumulative = torch.from_numpy(sums).float()
        self._paths = find_paths(log, replayed, gamma)

    def _resample(self, members: int, episodes: int) -> Integers:
        """Draws counts ``[K, E]``; every member leaves out at least one episode."""
        counts = np.zeros((members, episodes), np.int64)
        for row in counts:
            while row.min() > 0 or row.sum() == 0:
                row[:] = self._rng.multinomial(
                    episodes, np.full(episodes, 1 / episodes)
                )
        return counts

    def _baselines(self) -> tuple[Tensor, float]:
        """Computes the mean return to go in each resample ``[K, T]``, and a scale."""
        log = self._log
        to_go: Floats = np.zeros(log.mask.shape)
        following = np.zeros(len(to_go))
        rewards = log.padded(log.rewards)
        for t in reversed(range(int(log.lengths.max()))):
            following = rewards[:, t] + self._gamma * following
            to_go[:, t] = following
        alive = self._counts @ log.mask
        sums = self._counts @ (to_go * log.mask)
        overall = to_go.sum(0) / log.mask.sum(0)
        # If no episode of a resample is this long, use the log's mean.
        means = np.where(alive > 0, sums / np.maximum(alive, 1), overall)
        spread = float(((to_go - overall) * log.mask)[log.mask].std())
        return torch.from_numpy(means).float(), max(spread, 1e-6)

    # Learning

    def learn(self) -> tuple[int, bool]:
        """Learns until the estimate settles; returns updates and whether it did."""
        s = self._settings
        adam = torch.optim.Adam(self._online.parameters(), s.lr)
        needed = int(self._paths.max_bootstraps / s.tau)
        least, most = max(s.min_updates, needed), max(s.max_updates, 2 * needed)
        spread = max(float(self._log.returns(self._gamma).std()), self._scale)
        seen = [self._members_say()]
        update = 0
        while update < most:
            for _ in range(s.check_every):
                self._update(adam, self._draw(s.batch_size))
            update += s.check_every
            seen.append(self._members_say())
            means = [float(found.mean()) for found in seen[-3:]]
            between = float(seen[-1].std(ddof=1))
            near = max(s.tolerance * spread, 0.25 * between)
            still = bool((np.abs(np.diff(means)) < near).all())
            if update >= least and still and between < spread:
                return update, True
        return update, False

    def _members_say(self) -> Floats:
        """Estimates the mean return of each member's resample, float64 ``[K]``."""
        starts = torch.from_numpy(self._log.starts)
        draws = 1 if self._replayed.is_deterministic else self._settings.draws
        outputs = [self._outputs(self._drawn(starts), starts) for _ in range(draws)]
        values = torch.stack(outputs)[..., 0].mean(0).double().numpy()
        return np.asarray((self._counts * values).sum(-1) / self._counts.sum(-1))

    def _draw(self, number: int) -> Tensor:
        """Draws rows of each member's resample, int64 ``[K, B]``."""
        return torch.from_numpy(
            np.stack(
                [
                    rows[self._rng.integers(len(rows), size=number)]
                    for rows in self._rows
                ]
            )
        )

    def _held_out(self) -> Tensor:
        """Draws rows outside of each member's resample, int64 ``[K, B]``."""
        drawn = []
        for counts in self._counts:
            rows = np.flatnonzero(counts[self._log.episode] == 0)
            drawn.append(self._rng.choice(rows, size=_HELD_OUT_ROWS))
        return torch.from_numpy(np.stack(drawn))

    def _update(self, adam: torch.optim.Adam, rows: Tensor) -> None:
        targets = self._targets(rows)  # [K, B, 1 + Q]
        found = self._online(self._inputs(rows, self._actions[rows]))
        squared = (found[..., 0] - targets[..., 0]).square()
        some = self._rng.integers(len(self._fractions), size=_TARGET_QUANTILES)
        quantile = pairwise_quantile_huber_loss(
            found[..., 1:], targets[..., 1 + some], self._fractions, _KAPPA
        )
        # Members share no weights, so the sum gives each member its own gradient.
        loss = (squared + quantile / len(self._fractions)).mean(-1).sum()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        move_towards(
            self._target.parameters(), self._online.parameters(), self._settings.tau
        )
        move_towards(self._mean.parameters(), self._online.parameters(), _MEAN_TAU)

    @torch.no_grad()
    def _targets(self, rows: Tensor) -> Tensor:
        """Computes targets of the networks' outputs, ``[K, B, 1 + Q]``."""
        paths = self._paths
        cut = paths.cut[rows]  # [K, B]
        at = cut.clamp(min=0)
        after: Tensor = self._target(self._inputs(at, self._drawn(at))) * self._scale
        after += self._means_at(at).unsqueeze(-1)
        weight = (paths.discount[rows] * (cut >= 0)).unsqueeze(-1)
        whole = paths.rewards[rows].unsqueeze(-1) + weight * after
        return (whole - self._means_at(rows).unsqueeze(-1)) / self._scale

    def _drawn(self, rows: Tensor) -> Tensor:
        """Draws joint actions of the policy in these rows, ``[..., N]``."""
        luck = torch.rand(
            *rows.shape, self._cumulative.shape[1], 1, generator=self._luck
        )
        found: Tensor = (self._cumulative[rows] <= luck).sum(-1)
        return found

    @torch.no_grad()
    def _td_error(self, rows: Tensor) -> float:
        """Computes the squared TD error of the means as a share of target variance."""
        targets = self._targets(rows)[..., 0]
        found = self._mean(self._inputs(rows, self._actions[rows]))[..., 0]
        whole = targets * self._scale + self._means_at(rows)
        variance = whole.var() / self._scale**2
        return float((found - targets).square().mean() / variance.clamp(min=1e-12))

    def _inputs(self, rows: Tensor, actions: Tensor) -> Tensor:
        """Joins features of rows ``[K, B]`` and joint actions to ``[K, B, I]``."""
        one_hot = F.one_hot(actions, self._log.action_mask.shape[-1]).flatten(-2)
        return torch.cat([self._features[rows], one_hot.float()], dim=-1)

    def _means_at(self, rows: Tensor) -> Tensor:
        """Returns the resamples' mean return to go at rows ``[K, B]``."""
        return self._baseline.gather(1, torch.from_numpy(self._log.time)[rows])

    # Results

    def result(self, updates: int, settled: bool) -> FqeFit:
        """Evaluates the averaged network at every step of the log."""
        log, members = self._log, self._settings.members
        certain = self._replayed.is_deterministic
        draws = 1 if certain else self._settings.draws
        everything = torch.arange(len(log.rewards))
        taken = self._outputs(self._actions, everything)[..., 0]
        values = torch.zeros_like(taken)
        starts: list[Tensor] = []
        for _ in range(draws):
            outputs = self._outputs(self._drawn(everything), everything)
            values += outputs[..., 0] / draws
            starts.append(outputs[:, log.starts])
        unseen = (self._counts[:, log.episode] == 0).astype(np.float64)
        # If every member learned from an episode, all of them evaluate it.
        unseen[:, unseen.sum(0) == 0] = 1.0
        weights = unseen / unseen.sum(0)
        judged = (weights * values.double().numpy()).sum(0)
        judged_taken = (weights * taken.double().numpy()).sum(0)
        quantiles = torch.cat([start[..., 1:] for start in starts], dim=-1)
        return FqeFit(
            counts=self._counts.astype(np.float64),
            start_values=values[:, log.starts].double().numpy(),
            start_quantiles=quantiles.double()
            .numpy()
            .reshape(members, len(log.starts), -1),
            taken_values=judged_taken,
            values=judged,
            left_over=self._left_over(judged, judged_taken),
            td_error=self._td_error(self._held_out()),
            updates=updates,
            settled=settled,
        )

    def _left_over(self, values: Floats, taken_values: Floats) -> Floats:
        """Computes ``FqeFit.left_over`` from values of rows ``[M]``."""
        log = self._log
        following = np.append(values[1:], 0.0)
        following[log.starts + log.lengths - 1] = 0.0
        errors = log.rewards + self._gamma * following - taken_values
        return np.add.reduceat(errors * self._gamma**log.time, log.starts)

    @torch.no_grad()
    def _outputs(self, actions: Tensor, rows: Tensor) -> Tensor:
        """Predicts returns to go of rows ``[R]`` with joint actions ``[R, N]``.

        Returns:
            ``[K, R, 1 + Q]``.
        """
        found = []
        for part in torch.arange(len(rows)).split(_BLOCK):
            at = rows[part].expand(self._settings.members, -1)
            played = actions[part].expand(self._settings.members, -1, -1)
            out = self._mean(self._inputs(at, played)) * self._scale
            found.append(out + self._means_at(at).unsqueeze(-1))
        return torch.cat(found, dim=1)
