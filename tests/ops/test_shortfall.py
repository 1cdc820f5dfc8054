"""Shortfalls below a threshold, by hand; exact numbers of the risky two-step game."""

import numpy as np
import pytest
import torch

from rllib_risk.ops.shortfall import (
    returns_so_far,
    shortfall_rewards,
    threshold_values,
)


def test_a_path_by_hand():
    # gamma .5: x = 0, 2, 2 - .5, 1.5 + .75. b = 1: u = -1, 0, 0, 0. b = 2: u = -2, 0,
    # -.5, 0.
    rewards = torch.tensor([[2.0, -1.0, 3.0]])
    path = returns_so_far(rewards, 0.5)
    assert path.tolist() == [[0.0, 2.0, 1.5, 2.25]]
    assert shortfall_rewards(path, torch.tensor([[1.0]])).tolist() == [[1.0, 0.0, 0.0]]
    got = shortfall_rewards(path, torch.tensor([[2.0]]))
    assert got.tolist() == [[2.0, -0.5, 0.5]]
    # A row that begins at step 1 with 2 earned goes on along the same path; a step
    # before the episode (-1) has no reward.
    later = returns_so_far(
        torch.tensor([[-1.0, 3.0]]), 0.5, torch.tensor([1]), torch.tensor([2.0])
    )
    assert later.tolist() == [[2.0, 1.5, 2.25]]
    padded = returns_so_far(torch.tensor([[0.0, 2.0]]), 0.5, torch.tensor([-1]))
    assert padded.tolist() == [[0.0, 0.0, 2.0]]


A, B = ((0, 0.4), (9, 0.6)), ((3, 1.0),)
G, M = ((-5, 0.4), (9, 0.6)), ((-2, 0.4), (4, 0.6))


def best_value(b):
    """The greatest ``E[min(R - b, 0)]`` of the two-step game, by enumeration."""

    def shortfall(paid, outcomes):
        return sum(p * min(paid + reward - b, 0.0) for reward, p in outcomes)

    return max(
        sum(p * max(shortfall(paid, G), shortfall(paid, M)) for paid, p in first)
        for first in (A, B)
    )


@pytest.mark.parametrize(
    ("alpha", "cvar", "threshold"),
    [(1.0, 8.8, 18), (0.75, 5.96, 13), (0.5, 3.56, 9), (0.25, 1.0, 1), (0.1, 1.0, 1)],
)
def test_thresholds_of_the_two_step_game(alpha, cvar, threshold):
    """The static optimum of every level, and the threshold at which it is found."""
    candidates = np.arange(-10.0, 19.0)
    # A single "return" of b plus the best shortfall has this shortfall at b.
    returns = np.array([[b + best_value(b)] for b in candidates])
    values = threshold_values(returns, candidates, alpha)
    assert values.max() == pytest.approx(cvar)
    assert values[candidates == threshold] == pytest.approx(cvar)


def test_a_threshold_value_is_at_most_cvar():
    # A, then G after 0 and M after 9: -5 in .16, 9 in .24, 7 in .24, 13 in .36. The
    # worst half: .16 * -5 + .24 * 7 + .1 * 9 = 1.78, twice that is 3.56.
    returns = np.repeat([-5.0, 7.0, 9.0, 13.0], [16, 24, 24, 36])
    for b, value in ((8.0, 3.36), (9.0, 3.56), (10.0, 3.28)):
        got = threshold_values(returns[None], np.array([b]), 0.5)
        assert got == pytest.approx(value)
