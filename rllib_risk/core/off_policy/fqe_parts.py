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
    """

    rewards: Tensor
    discount: Tensor
    cut: Tensor


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
