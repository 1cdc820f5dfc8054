"""The weights of implicit constraint Q-learning.

Letters: ``B`` rows of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def batch_weights(values: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """How much each row of a batch counts, by its value: with mean 1.

    ``n exp(x_b / beta) / sum_b exp(x_b / beta)`` over the ``n`` rows that count. ICQ
    (Yang et al., 2021, Section 3.3) has the sum over the batch in the place of the
    normalising constant of its implicit policy, which needs values of other actions.

    Args:
        values: ``[B, ...]``.
        mask: Nonzero where a row counts, of the same shape.
        temperature: ``beta``, above 0.

    Returns:
        As ``values``; 0 where a row does not count.
    """
    counts = mask > 0
    scores = torch.where(counts, values / temperature, -torch.inf)
    # A softmax over nothing would be NaN.
    scores = torch.where(counts.any(dim=0), scores, 0.0)
    shares = torch.where(counts, scores.softmax(dim=0), 0.0)
    return shares * counts.sum(dim=0)
