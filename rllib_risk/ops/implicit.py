"""Weights of implicit constraint Q-learning (ICQ).

Letters: ``B`` rows of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def batch_weights(values: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Softmax weights over the rows of a batch, scaled to mean 1.

    ``n exp(x_b / beta) / sum_b exp(x_b / beta)`` over the ``n`` unmasked rows. ICQ
    (Yang et al., 2021, Section 3.3) uses the sum over the batch in place of the
    normalising constant of its implicit policy. That constant would need the values of
    other actions.

    Args:
        values: Values of the rows, ``[B, ...]``.
        mask: Nonzero where a row counts, of the same shape.
        temperature: ``beta``, above 0.

    Returns:
        Weights of the shape of ``values``; 0 where the mask is 0.
    """
    counts = mask > 0
    scores = torch.where(counts, values / temperature, -torch.inf)
    # A softmax over masked rows alone would be NaN.
    scores = torch.where(counts.any(dim=0), scores, 0.0)
    shares = torch.where(counts, scores.softmax(dim=0), 0.0)
    return shares * counts.sum(dim=0)
