"""Bellman targets and masks against hand-worked numbers and the forward view."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.targets import (
    UNAVAILABLE_UTILITY,
    lambda_returns,
    mask_utilities,
    masked_mean,
)

REWARDS, NEXT_VALUES = [1.0, 2.0, 3.0], [20.0, 30.0, 40.0]


def column(values):
    """One episode with one output: [1, T, 1]."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


def returns(terminated, td_lambda, trace=None):
    got = lambda_returns(
        column(REWARDS),
        column(NEXT_VALUES),
        column([0, 0, float(terminated)]),
        column([1, 1, 1]),
        gamma=0.9,
        td_lambda=td_lambda,
        trace=None if trace is None else column(trace),
    )
    return got.flatten().tolist()


# gamma 0.9, lambda 0.8, backwards.
# Terminated: 3; 2 + 0.9 (0.2 * 30 + 0.8 * 3) = 9.56;
#   1 + 0.9 (0.2 * 20 + 0.8 * 9.56) = 11.4832.
# Truncated: 3 + 0.9 * 40 = 39; 2 + 0.9 (6 + 0.8 * 39) = 35.48;
#   1 + 0.9 (4 + 0.8 * 35.48) = 30.1456.
# lambda 0: 1 + 0.9 * 20, 2 + 0.9 * 30, and 3 at the end. lambda 1: 3, 2 + 0.9 * 3,
#   1 + 0.9 * 4.7.
@pytest.mark.parametrize(
    ("terminated", "td_lambda", "expected"),
    [
        (True, 0.8, [11.4832, 9.56, 3.0]),
        (False, 0.8, [30.1456, 35.48, 39.0]),
        (True, 0.0, [19.0, 29.0, 3.0]),
        (False, 0.0, [19.0, 29.0, 39.0]),
        (True, 1.0, [5.23, 4.7, 3.0]),
    ],
)
def test_hand_worked_returns(terminated, td_lambda, expected):
    assert returns(terminated, td_lambda) == pytest.approx(expected)


# Truncated, lambda 0.8; a trace of 0 keeps G of that step out of the step before it.
# [1,0,1]: G_1 = 35.48 as before, G_0 = 1 + 0.9 * 20.
# [1,1,0]: G_1 = 2 + 0.9 * 30 = 29, G_0 = 1 + 0.9 (0.2 * 20 + 0.8 * 29) = 25.48.
# [0,1,1]: the trace of the first action has no effect.
@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ([1, 0, 1], [19.0, 35.48, 39.0]),
        ([1, 1, 0], [25.48, 29.0, 39.0]),
        ([0, 1, 1], [30.1456, 35.48, 39.0]),
        ([0, 0, 0], [19.0, 29.0, 39.0]),
    ],
)
def test_watkins_trace(trace, expected):
    assert returns(False, 0.8, trace) == pytest.approx(expected)


def forward_view(rewards, next_values, terminated, gamma, td_lambda):
    """The lambda-return as a weighted mean of n-step returns."""
    steps = len(rewards)
    result = []
    for t in range(steps):
        longest = steps - t
        total = 0.0
        for n in range(1, longest + 1):
            n_step = sum(gamma**k * rewards[t + k] for k in range(n))
            if n < longest or not terminated:
                n_step += gamma**n * next_values[t + n - 1]
            weight = td_lambda ** (n - 1)
            total += (weight if n == longest else (1 - td_lambda) * weight) * n_step
        result.append(total)
    return result


NUMBERS = st.floats(-10, 10)


@settings(max_examples=100, derandomize=True)
@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 4),
)
def test_forward_view_and_padding(steps, terminated, gamma, td_lambda, padding):
    rewards, values = (list(x) for x in zip(*steps, strict=True))
    ends = [0.0] * (len(steps) - 1) + [float(terminated)]
    junk = [float("nan")] * padding
    got = lambda_returns(
        column(rewards + junk),
        column(values + junk),
        column(ends + junk),
        column([1.0] * len(steps) + [0.0] * padding),
        gamma=gamma,
        td_lambda=td_lambda,
    )
    expected = forward_view(rewards, values, terminated, gamma, td_lambda)
    np.testing.assert_allclose(
        got.flatten()[: len(steps)], expected, rtol=1e-9, atol=1e-9
    )


def test_episodes_and_outputs_are_separate():
    # Two episodes of different length and two outputs, each as if it were alone.
    rewards = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    values = torch.randn(2, 3, 2)
    ends = torch.tensor([[[0.0], [0.0], [1.0]], [[0.0], [0.0], [0.0]]])
    mask = torch.tensor([[[1.0], [1.0], [1.0]], [[1.0], [1.0], [0.0]]])
    for trace in (None, torch.ones(2, 3, 2), torch.ones(2, 3, 1)):
        got = lambda_returns(
            rewards, values, ends, mask, gamma=0.9, td_lambda=0.7, trace=trace
        )
        for b, (steps, terminated) in enumerate([(3, True), (2, False)]):
            for g in range(2):
                expected = forward_view(
                    rewards[b, :steps, 0].tolist(),
                    values[b, :steps, g].tolist(),
                    terminated,
                    0.9,
                    0.7,
                )
                assert got[b, :steps, g].tolist() == pytest.approx(expected, rel=1e-5)


def test_masked_mean():
    # Over steps and the last axis: (1 + 2 + 3 + 4) / 4; padding is not counted.
    values = torch.tensor([[[1.0, 2.0], [9.0, 9.0]], [[3.0, 4.0], [9.0, 9.0]]])
    mask = torch.tensor([[[1.0], [0.0]], [[1.0], [0.0]]])
    assert masked_mean(values, mask).item() == 2.5
    assert masked_mean(values, torch.ones(2, 2, 1)).item() == 46 / 8
    # Without a real step there is no division by zero.
    assert masked_mean(values, torch.zeros(2, 2, 1)).item() == 0.0


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
def test_padding_reaches_neither_mean_nor_gradient(junk):
    values = column([1.0, 3.0, junk]).requires_grad_()
    mean = masked_mean(values, column([1, 1, 0]))
    mean.backward()
    assert mean.item() == 2.0
    assert values.grad.flatten().tolist() == [0.5, 0.5, 0.0]


def test_mean_gradient_by_finite_differences():
    values = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[[1.0], [1.0], [0.0]], [[1.0], [0.0], [0.0]]])
    assert torch.autograd.gradcheck(lambda x: masked_mean(x.square(), mask), values)


def test_unavailable_utilities_never_win():
    utilities = torch.tensor([[-500.0, 1e6, -501.0], [1e6, 1e6, -1e5]])
    mask = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.uint8)
    masked = mask_utilities(utilities, mask)
    assert masked.argmax(dim=-1).tolist() == [0, 2]
    assert masked[0].tolist() == [-500.0, UNAVAILABLE_UTILITY, -501.0]
    # The original tensor does not change.
    assert utilities[0, 1] == 1e6
