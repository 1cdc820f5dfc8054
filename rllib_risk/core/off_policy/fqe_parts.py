"""Parts of FQE: networks, their inputs, and how far targets follow a log.

Letters: see :mod:`.fqe`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rllib_risk.core.off_policy.log import Log, Replayed, Singles


class Ensemble(nn.Module):
    """Ensemble of networks with two hidden layers; output layers start at zero."""

    def __init__(self, members: int, sizes: tuple[int, int, int]) -> None:
        """Initializes the networks; ``sizes`` of input, hidden layers and output."""
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
        """Maps ``[K, B, I]`` to mean and quantiles, ``[K, B, 1 + Q]``."""
        layers = list(zip(self.weights, self.biases, strict=True))
        for weight, bias in layers[:-1]:
            inputs = torch.baddbmm(bias, inputs, weight).relu()
        return torch.baddbmm(layers[-1][1], inputs, layers[-1][0])


@dataclass(frozen=True)
class Paths:
    """Targets of every row, without the bootstrapped value.

    Attributes:
        rewards: Discounted sum of rewards up to the cut, ``[M]``.
        discount: Discount of the value at the cut, ``[M]``.
        cut: Row to bootstrap from, int64 ``[M]``; -1 if the episode ends before.
        max_bootstraps: Maximum number of bootstraps between the end of an episode and
            any of its steps.
    """

    rewards: Tensor
    discount: Tensor
    cut: Tensor
    max_bootstraps: int


def find_paths(log: Log, replayed: Replayed, gamma: float) -> Paths:
    """Finds how far each target follows the log.

    A target follows the log as long as the policy takes the logged joint action with
    probability 1.

    Args:
        log: The log.
        replayed: The policy's decisions on the log.
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
    """Builds the standardised inputs of values, without the action, ``[M, F]``.

    Constant columns and copies of other columns are left out. The state often repeats
    the observations.
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
