"""Fitted Q evaluation: the value of a policy, and its distribution, from a log alone.

``Q(h, a)`` of the team is one network of the state, all observations, the joint action,
the step of the episode and what the policy remembers at that step. A fixed policy is
evaluated, so no maximum over joint actions is taken, and a mixer, which makes that
maximum cheap, would only restrict the values. A recurrent policy acts on its memory,
and so the memory is an input: the value depends on what the policy will do later.

The target of a deterministic policy follows the log for as long as the policy takes the
logged joint action, and bootstraps at the first step at which it does not:

    y = r_t + .. + gamma^(n-1) r_(t+n-1) + gamma^n Z(h_(t+n), a'),   a' ~ pi(h_(t+n))

Given ``a_t``, what follows does not depend on who chose it, so such a target has the
mean of one of a single step, and bootstraps less often. For a stochastic policy ``n``
is 1 and ``a'`` is drawn in every update. The end of a logged episode is an end, a time
limit too: the value is that of an episode as the log has it.

The network learns the difference to the log's mean return from each step on, and begins
with zero: what the data do not correct stays at the value of the log. Its outputs are
the mean, by squared errors, and quantiles of the return, by QR-DQN's loss. All members
of an ensemble learn at once, each from its own resample of the episodes. Those left out
of it are its held-out ones, by whose TD error learning stops; and doubly robust
estimates use for each episode only the members that have not seen it.

Source: Le, Voloshin and Yue (2019), "Batch Policy Learning under Constraints"; Dabney
et al. (2018), QR-DQN; Hao et al. (2021), "Bootstrapping Fitted Q-Evaluation for
Off-Policy Inference".

Letters: ``K`` members, ``B`` rows of a batch, ``M`` steps of all episodes, ``E``
episodes, ``T`` steps of the longest, ``N`` agents, ``A`` actions, ``I`` input size,
``Q`` quantiles.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_risk.core.off_policy.fqe_parts import Ensemble, Paths, features_of
from rllib_risk.core.off_policy.log import Integers, Log, Replayed
from rllib_risk.core.policy import move_towards
from rllib_risk.ops.off_policy import weighted_cvar
from rllib_risk.ops.quantile import pairwise_quantile_huber_loss, quantile_fractions
from rllib_risk.ops.ratio_terms import Floats

_KAPPA = 0.1
# Quantiles of a target that one update compares with, drawn at random: all of them cost
# four times as much, and give the same loss on average.
_TARGET_QUANTILES = 4
# Rows of the held-out TD error, per member.
_HELD_OUT_ROWS = 2000
# Rows of one forward pass without gradients.
_BLOCK = 4096


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
        least_updates: Updates before learning may stop.
        most_updates: Updates at most.
        check_every: Updates between two looks at the held-out TD error.
        patience: Looks without a lower one after which learning stops.
        draws: Joint actions that values of a stochastic policy are means over.
        seed: Of everything random.
    """

    members: int = 6
    hidden: int = 64
    num_quantiles: int = 25
    batch_size: int = 64
    lr: float = 2e-3
    tau: float = 0.02
    least_updates: int = 1000
    most_updates: int = 2000
    check_every: int = 250
    patience: int = 2
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
        td_error: Least held-out squared TD error, as a share of the variance of its
            targets.
        updates: Updates made.
    """

    counts: Floats
    start_values: Floats
    start_quantiles: Floats
    taken_values: Floats
    values: Floats
    td_error: float
    updates: int

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
        replayed: What the policy would have done in it.
        gamma: Discount in [0, 1].
        settings: How to learn; None: the defaults.

    Returns:
        What the ensemble says.
    """
    fitting = _Fitting(log, replayed, gamma, settings or FqeSettings())
    td_error, updates = fitting.learn()
    return fitting.result(td_error, updates)


class _Fitting:
    """One evaluation: arrays, networks and randomness."""

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
        self._fractions = quantile_fractions(settings.num_quantiles)
        self._luck = torch.Generator().manual_seed(settings.seed)
        # Luck is below 1, and the last action of positive probability ends at 1.
        sums = replayed.probabilities.cumsum(-1)
        sums = np.where(sums > 1.0 - 1e-9, 1.0, sums)
        self._cumulative = torch.from_numpy(sums).float()
        self._paths = self._find_paths()

    def _resample(self, members: int, episodes: int) -> Integers:
        """Counts ``[K, E]``; every member leaves at least one episode out."""
        counts = np.zeros((members, episodes), np.int64)
        for row in counts:
            while row.min() > 0 or row.sum() == 0:
                row[:] = self._rng.multinomial(
                    episodes, np.full(episodes, 1 / episodes)
                )
        return counts

    def _baselines(self) -> tuple[Tensor, float]:
        """Mean return from each step on in each resample ``[K, T]``, and a scale."""
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
        # Where no episode of a resample is this long, the log's mean.
        means = np.where(alive > 0, sums / np.maximum(alive, 1), overall)
        spread = float(((to_go - overall) * log.mask)[log.mask].std())
        return torch.from_numpy(means).float(), max(spread, 1e-6)

    # Learning

    def learn(self) -> tuple[float, int]:
        """Learns; the target network ends with the best weights seen."""
        s = self._settings
        adam = torch.optim.Adam(self._online.parameters(), s.lr)
        held = self._held_out()
        best, least, waited, update = None, np.inf, 0, 0
        while update < s.most_updates and waited < s.patience:
            for _ in range(s.check_every):
                self._update(adam, self._draw(s.batch_size))
            update += s.check_every
            if update < s.least_updates:
                continue
            error = self._td_error(held)
            waited += 1
            if error < least * 0.995:
                least, waited = error, 0
                best = copy.deepcopy(self._target.state_dict())
        if best is not None:
            self._target.load_state_dict(best)
        return float(least), update

    def _draw(self, number: int) -> Tensor:
        """Rows of each member's resample, int64 ``[K, B]``."""
        return torch.from_numpy(
            np.stack(
                [
                    rows[self._rng.integers(len(rows), size=number)]
                    for rows in self._rows
                ]
            )
        )

    def _held_out(self) -> Tensor:
        """Rows of episodes that each member does not learn from, int64 ``[K, B]``."""
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
        # The members share nothing: each gets its own gradient.
        loss = (squared + quantile / len(self._fractions)).mean(-1).sum()
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
        move_towards(
            self._target.parameters(), self._online.parameters(), self._settings.tau
        )

    @torch.no_grad()
    def _targets(self, rows: Tensor) -> Tensor:
        """Targets of the networks' outputs, ``[K, B, 1 + Q]``."""
        paths = self._paths
        cut = paths.cut[rows]  # [K, B]
        at = cut.clamp(min=0)
        after: Tensor = self._target(self._inputs(at, self._drawn(at))) * self._scale
        after += self._means_at(at).unsqueeze(-1)
        weight = (paths.discount[rows] * (cut >= 0)).unsqueeze(-1)
        whole = paths.rewards[rows].unsqueeze(-1) + weight * after
        return (whole - self._means_at(rows).unsqueeze(-1)) / self._scale

    def _drawn(self, rows: Tensor) -> Tensor:
        """Joint actions of the policy in these rows, ``[..., N]``."""
        luck = torch.rand(
            *rows.shape, self._cumulative.shape[1], 1, generator=self._luck
        )
        found: Tensor = (self._cumulative[rows] <= luck).sum(-1)
        return found

    @torch.no_grad()
    def _td_error(self, rows: Tensor) -> float:
        """Squared TD error of the means over the variance of their targets."""
        targets = self._targets(rows)[..., 0]
        found = self._target(self._inputs(rows, self._actions[rows]))[..., 0]
        whole = targets * self._scale + self._means_at(rows)
        variance = whole.var() / self._scale**2
        return float((found - targets).square().mean() / variance.clamp(min=1e-12))

    def _inputs(self, rows: Tensor, actions: Tensor) -> Tensor:
        """``[K, B]`` and joint actions ``[K, B, N]`` to ``[K, B, I]``."""
        one_hot = F.one_hot(actions, self._log.action_mask.shape[-1]).flatten(-2)
        return torch.cat([self._features[rows], one_hot.float()], dim=-1)

    def _means_at(self, rows: Tensor) -> Tensor:
        """The log's mean return from the steps of rows ``[K, B]`` on."""
        return self._baseline.gather(1, torch.from_numpy(self._log.time)[rows])

    def _find_paths(self) -> Paths:
        """How far targets follow the log."""
        log = self._log
        rewards = log.rewards.copy()
        discount = np.full(len(rewards), self._gamma)
        cut = np.arange(1, len(rewards) + 1)
        cut[log.starts + log.lengths - 1] = -1
        agrees = self._replayed.taken(log.actions).prod(-1) == 1.0
        for t in reversed(range(int(log.lengths.max()) - 1)):
            rows = (log.starts + t)[t + 1 < log.lengths]
            rows = rows[agrees[rows + 1]]
            rewards[rows] += self._gamma * rewards[rows + 1]
            discount[rows] *= discount[rows + 1]
            cut[rows] = cut[rows + 1]
        return Paths(
            torch.from_numpy(rewards).float(),
            torch.from_numpy(discount).float(),
            torch.from_numpy(cut),
        )

    # What comes of it

    def result(self, td_error: float, updates: int) -> FqeFit:
        """Asks the target network of every step."""
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
        # An episode that every member learned from is judged by all of them.
        unseen[:, unseen.sum(0) == 0] = 1.0
        weights = unseen / unseen.sum(0)
        quantiles = torch.cat([start[..., 1:] for start in starts], dim=-1)
        return FqeFit(
            counts=self._counts.astype(np.float64),
            start_values=values[:, log.starts].double().numpy(),
            start_quantiles=quantiles.double()
            .numpy()
            .reshape(members, len(log.starts), -1),
            taken_values=(weights * taken.double().numpy()).sum(0),
            values=(weights * values.double().numpy()).sum(0),
            td_error=td_error,
            updates=updates,
        )

    @torch.no_grad()
    def _outputs(self, actions: Tensor, rows: Tensor) -> Tensor:
        """Returns from each row on with these joint actions, ``[K, M, 1 + Q]``."""
        found = []
        for first in range(0, len(rows), _BLOCK):
            at = rows[first : first + _BLOCK].expand(self._settings.members, -1)
            out = self._target(self._inputs(at, actions[at])) * self._scale
            found.append(out + self._means_at(at).unsqueeze(-1))
        return torch.cat(found, dim=1)
