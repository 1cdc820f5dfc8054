"""Advantages, clipped losses and the normalisation of values by hand."""

import math

import pytest
import torch

from rllib_risk.ops.policy_gradient import (
    clipped_surrogate,
    clipped_value_losses,
    entropies,
    generalized_advantages,
    standardized,
)
from rllib_risk.ops.targets import lambda_returns
from rllib_risk.ops.value_norm import mean_and_deviation, update_moments


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64).reshape(1, -1, 1)


def advantages(terminated, mask=(1, 1, 1), rewards=(1, 2, 3)):
    ends = column(*[float(terminated and t == sum(mask) - 1) for t in range(3)])
    values = column(2, 4, 6, 8)
    got = generalized_advantages(
        column(*rewards), values, ends, column(*mask), gamma=0.5, gae_lambda=0.5
    )
    return got.flatten().tolist()


def test_advantages_by_hand():
    # Cut by the time limit: errors 1 + 4/2 - 2, 2 + 6/2 - 4, 3 + 8/2 - 6, each 1, and
    # gamma lambda = 1/4: 1, 1 + 1/4, 1 + 5/16.
    assert advantages(False) == [1.3125, 1.25, 1.0]
    # A true end: the last error is 3 - 6 = -3; 1 - 3/4 = 1/4, 1 + 1/16.
    assert advantages(True) == [1.0625, 0.25, -3.0]
    # Two steps, and padding that must not count.
    padded = {"mask": (1, 1, 0), "rewards": (1, 2, math.nan)}
    assert advantages(False, **padded) == [1.25, 1.0, 0.0]
    # 2 - 4 = -2; 1 - 2/4.
    assert advantages(True, **padded) == [0.5, -2.0, 0.0]


def test_advantages_and_values_are_lambda_returns():
    values, rewards = torch.randn(3, 6, 2), torch.randn(3, 5, 1)
    ends = torch.zeros(3, 5, 1)
    ends[0, 4] = 1.0
    keys = (ends, torch.ones(3, 5, 1))
    got = generalized_advantages(rewards, values, *keys, gamma=0.9, gae_lambda=0.7)
    returns = lambda_returns(rewards, values[:, 1:], *keys, gamma=0.9, td_lambda=0.7)
    torch.testing.assert_close(got + values[:, :-1], returns)


def test_standardized_by_hand():
    # Mean 3 and variance 4 of 1 and 5; what stands in padding does not matter.
    got = standardized(column(1, 5, math.nan), column(1, 1, 0), epsilon=2.0)
    assert got.flatten().tolist() == [-0.5, 0.5, 0.0]


def test_clipped_surrogate_by_hand():
    # Clipped at 0.5 and 1.5. A good action gains no more above 1.5; a bad one gains no
    # more below 0.5, and the other sides are not clipped.
    ratios = torch.tensor([2.0, 2.0, 0.25, 0.25, 1.25], requires_grad=True)
    gains = torch.tensor([4.0, -4.0, 4.0, -4.0, 4.0])
    loss = clipped_surrogate(ratios, gains, 0.5)
    assert loss.tolist() == [-6.0, 8.0, -1.0, 2.0, -5.0]
    loss.sum().backward()
    assert ratios.grad.tolist() == [0.0, 4.0, -4.0, 0.0, -4.0]


def test_clipped_value_losses_by_hand():
    values, old = torch.tensor([3.0, 3.0, 1.5]), torch.tensor([1.0, 1.0, 1.0])
    targets = torch.tensor([4.0, 1.0, 8.0])
    # Plain errors 1, -2, 6.5; with values of at most 2: 2, -1, 6.5. The larger counts.
    got = clipped_value_losses(values, old, targets, clip=1.0, huber_delta=None)
    assert got.tolist() == [2.0, 2.0, 21.125]
    # Linear beyond 2: 2 (6.5 - 1).
    got = clipped_value_losses(values, old, targets, clip=1.0, huber_delta=2.0)
    assert got.tolist() == [2.0, 2.0, 11.0]
    got = clipped_value_losses(values, old, targets, clip=None, huber_delta=None)
    assert got.tolist() == [0.5, 2.0, 21.125]


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"advantages must have one shape"):
        clipped_surrogate(torch.ones(2, 1), torch.ones(2), 0.2)
    with pytest.raises(ValueError, match=r"values must have one shape"):
        keys = {"clip": None, "huber_delta": None}
        clipped_value_losses(torch.ones(2, 1), torch.ones(2), torch.ones(2), **keys)


def test_entropies_by_hand():
    logits = torch.tensor([[0.0, 0.0, -math.inf], [3.0, 0.0, 0.0]], requires_grad=True)
    got = entropies(logits.softmax(dim=-1))
    assert got[0].item() == pytest.approx(math.log(2.0))
    got.sum().backward()
    # The uniform policy has the maximum entropy. Unavailable actions have no gradient.
    assert logits.grad[0].tolist() == [0.0, 0.0, 0.0]
    assert torch.isfinite(logits.grad).all() and logits.grad[1, 0] < 0


def test_moments_by_hand():
    # Decay 0.75, batches with the means 4 and 8 of x and 16 and 80 of x^2. The weights
    # of the batches are 3/16 and 1/4, which sum to 7/16.
    moments = torch.zeros(3, dtype=torch.float64)
    assert [v.item() for v in mean_and_deviation(moments)] == [0.0, 0.1]
    moments = update_moments(moments, column(4, 4, math.nan), column(1, 1, 0), 0.75)
    mean, deviation = mean_and_deviation(moments)
    assert (mean.item(), deviation.item()) == (4.0, 0.1)  # variance at least 0.01
    moments = update_moments(moments, column(12, 4), column(1, 1), 0.75)
    assert moments.tolist() == [2.75, 23.0, 0.4375]
    mean, deviation = mean_and_deviation(moments)
    assert mean.item() == pytest.approx(44 / 7)
    assert deviation.item() == pytest.approx(math.sqrt(368 / 7 - (44 / 7) ** 2))
