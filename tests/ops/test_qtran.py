"""QTRAN's constraints, worked by hand."""

import pytest
import torch

from rllib_risk.ops.qtran import nonoptimality_losses, optimality_losses
from rllib_risk.ops.shapes import check_shapes


def column(*numbers):
    return torch.tensor(numbers).reshape(1, -1, 1)


def test_by_hand():
    # Q_tot - Q_jt + V: 3 - 0 - 1 = 2, 7 - 13 + 2 = -4, 4 - 9 + 5 = 0.
    mixed, joint = column(3.0, 7.0, 4.0), column(0.0, 13.0, 9.0)
    offset = column(-1.0, 2.0, 5.0)
    assert optimality_losses(mixed, joint, offset).flatten().tolist() == [4, 16, 0]
    # Values above 0 keep the lower bound, so they have no loss.
    assert nonoptimality_losses(mixed, joint, offset).flatten().tolist() == [0, 16, 0]


def test_shapes_that_would_broadcast_are_refused():
    values, wide = torch.zeros(2, 3, 1), torch.zeros(2, 3, 4)
    for losses in (optimality_losses, nonoptimality_losses):
        with pytest.raises(ValueError, match=r"\[2, 3, 1\], \[2, 3, 4\], \[2, 3, 1\]"):
            losses(values, wide, values)
    check_shapes(one=(values, values), other=(wide,))
