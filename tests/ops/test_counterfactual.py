"""Counterfactual advantages by hand."""

import pytest
import torch

from rllib_risk.ops.counterfactual import counterfactual_advantages


def test_by_hand():
    # Agent 0: the policy gets 0.25 * 4 + 0.75 * 8 = 7; action 1 is worth 1 more. Agent
    # 1: 0.5 * 2 - 0.5 * 6 = -2; action 0 is worth 4 more.
    values = torch.tensor([[4.0, 8.0], [2.0, -6.0]])
    chances = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    got = counterfactual_advantages(values, chances, torch.tensor([1, 0]))
    assert got.tolist() == [1.0, 4.0]


def test_wrong_shapes_are_refused():
    values, chances = torch.zeros(2, 3), torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"actions must have one shape.*\[1, 3\]"):
        counterfactual_advantages(values, chances, torch.zeros(2, dtype=torch.long))
