"""What FQE is made of: its networks, what they read, and how far targets follow a log.

Letters: see :mod:`.fqe`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rllib_risk.core.off_policy.log import Log, Replayed, Singles


class Ensemble(nn.Module):
    """Networks of two hidden layers side by side, the last layer zero."""

    def __init__(self, members: int, sizes: tuple[int, int, int]) -> None:
        """Initializes the networks; ``sizes``: input, hidden, output."""
        super().__init__()
        inputs, hidden, outputs = sizes
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for into, out in ((inputs, hidden), (hidden, hidden), (hidden, outputs)):
            bound = into**-0.5 if out != outputs else 0.0
            weight = torch.empty(members, into, out).uniform_(-bound, bound)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, out)))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[K, B, I]`` to ``[K, B, 1 + Q]``: mean and quantiles."""
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            inputs = torch.baddbmm(bias, inputs, weight).relu()
        return torch.baddbmm(layers[-1][1], inputs, layers[-1][0])


@dataclass(frozen=True)
class Paths:
    """Targets before their bootstrap, of every row.

    Attributes:
        rewards: Discounted, up to the cut, ``[M]``.
        discount: Of what follows the cut, ``[M]``.
        cut: Row to bootstrap from; -1: the episode ends before, int64 ``[M]``.
        max_bootstraps: Bootstraps between the end of an episode and any of its steps,
            at most.
    """

    rewards: Tensor
    discount: Tensor
    cut: Tensor
    max_bootstraps: int


def find_paths(log: Log, replayed: Replayed, gamma: float) -> Paths:
    """How far targets follow the log: as long as the policy certainly does.

    Args:
        log: The log.
        replayed: What the policy would have done in it.
        gamma: Discount in [0, 1].
    """
    rewards = log.rewards.copy()
    discount = np.full(len(rewards), gamma)
    cut = np.arange(1, len(rewards) + 1)
    cut[log.starts + log.lengths - 1] = -1
    bootstraps = np.zeros(len(rewards), np.int64)
    agrees = replayed.taken(log.actions).prod(-1) == 1.0
    for t in reversed(range(int(log.lengths.max()) - 1)):
        every = (log.starts + t)[t + 1 < log.lengths]
        bootstraps[every] = bootstraps[every + 1] + ~agrees[every + 1]
        rows = every[agrees[every + 1]]
        rewards[rows] += gamma * rewards[rows + 1]
        discount[rows] *= discount[rows + 1]
        cut[rows] = cut[rows + 1]
    return Paths(
        torch.from_numpy(rewards).float(),
        torch.from_numpy(discount).float(),
        torch.from_numpy(cut),
        int(bootstraps.max()),
    )


def features_of(log: Log, replayed: Replayed) -> Singles:
    """What values are a function of besides the action, standardised, ``[M, F]``.

    Columns that are constant, or copies of another one, are left out: the state often
    repeats the observations.
    """
    rows = len(log.rewards)
    time = (log.time / log.lengths.max())[:, None].astype(np.float32)
    columns = np.concatenate(
        [log.state, log.obs.reshape(rows, -1), replayed.memory, time], axis=1
    )
    spread = columns.std(0)
    scaled = (columns - columns.mean(0)) / np.where(spread > 1e-6, spread, 1.0)
    _, first = np.unique(scaled.round(4), axis=1, return_index=True)
    kept = np.array([index for index in sorted(first) if spread[index] > 1e-6], int)
    return np.ascontiguousarray(scaled[:, kept], np.float32)
