"""Running mean and standard deviation of a critic's targets (value normalisation).

Source: the appendix on value normalisation of Yu et al., "The Surprising Effectiveness
of PPO in Cooperative Multi-Agent Games" (NeurIPS 2022), and their code. The moments are
three numbers: the running mean, the running mean of squares, and their total weight.
Both means are divided by that weight, as in Adam's bias correction.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rllib_risk.ops.targets import masked_mean

# Minimum weight and minimum variance, as in their code.
_MIN_WEIGHT = 1e-5
_MIN_VARIANCE = 1e-2


def update_moments(
    moments: Tensor,
    values: Tensor,
    mask: Tensor,
    decay: float,
    mean: Callable[[Tensor, Tensor], Tensor] = masked_mean,
) -> Tensor:
    """Updates the moments with one batch.

    ``m <- d m + (1 - d) mean(x)``, likewise for the squares, and
    ``w <- d w + (1 - d)``.

    Args:
        moments: Moments before the batch, ``[3]``; zeros before the first batch.
        values: ``x``, ``[B, T, G]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        decay: ``d`` in [0, 1).
        mean: Mean over real steps. With several learners, the mean over all of them.

    Returns:
        Moments after the batch, ``[3]``.
    """
    values = values.to(moments.dtype)
    batch = torch.stack(
        [
            mean(values, mask),
            mean(values.square(), mask),
            torch.ones_like(moments[0]),
        ]
    )
    return decay * moments + (1.0 - decay) * batch


def mean_and_deviation(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation; the variance is at least 0.01.

    Args:
        moments: Moments ``[3]``. Before the first batch they give 0 and 0.1.

    Returns:
        Two scalars.
    """
    mean, square = moments[:2] / moments[2].clamp_min(_MIN_WEIGHT)
    return mean, (square - mean**2).clamp_min(_MIN_VARIANCE).sqrt()
