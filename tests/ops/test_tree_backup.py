"""Tree-backup targets against hand-worked numbers and a loop over sums."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops.targets import tree_backup_targets


def column(values):
    """One episode: [1, T, 1]."""
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


def backup(rewards, values, expected, probabilities, *, ends=None, mask=None, **keys):
    length = len(rewards)
    got = tree_backup_targets(
        column(rewards),
        column(values),
        column(expected),
        column(probabilities),
        column(ends or [0.0] * length),
        column(mask or [1.0] * length),
        **keys,
    )
    return got.flatten().tolist()


def test_hand_worked_errors_and_weights():
    # Golden fact 27. Expected next values are 0, so rewards of value plus error give
    # the errors 1, 2, 3. gamma lambda = 0.9207.
    #   y_2 = 30 + 3 = 33
    #   y_1 = 20 + 2 + 0.9207 * 0.25 * 3 = 22.690525
    #   y_0 = 10 + 1 + 0.9207 * 0.5 * 2 + 0.9207^2 * 0.5 * 0.25 * 3 = 12.238583...
    # The probability of the first action (0.9) has no effect.
    got = backup(
        [11.0, 22.0, 33.0],
        [10.0, 20.0, 30.0],
        [0.0, 0.0, 0.0],
        [0.9, 0.5, 0.25],
        gamma=0.99,
        backup_lambda=0.93,
        steps=5,
    )
    assert got == pytest.approx([12.23858, 22.69053, 33.0], abs=1e-5)


@pytest.mark.parametrize(("steps", "backup_lambda"), [(1, 0.93), (5, 0.0), (1, 0.0)])
def test_one_step_or_no_lambda_is_the_expected_one_step_target(steps, backup_lambda):
    # 1 + 0.9 * 20; 2 + 0.9 * 30; and at the end 3 + 0.9 * 40, or 3 if it is a true end.
    keys = {"gamma": 0.9, "steps": steps, "backup_lambda": backup_lambda}
    parts = ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], [20.0, 30.0, 40.0], [0.5, 0.5, 0.5])
    assert backup(*parts, **keys) == pytest.approx([19.0, 29.0, 39.0])
    ended = backup(*parts, ends=[0.0, 0.0, 1.0], **keys)
    assert ended == pytest.approx([19.0, 29.0, 3.0])


def test_padding_may_hold_anything():
    nan = math.nan
    keys = {"gamma": 0.9, "steps": 4, "backup_lambda": 0.8}
    short = backup([1.0, 2.0], [5.0, 6.0], [20.0, 30.0], [0.5, 0.25], **keys)
    padded = backup(
        [1.0, 2.0, nan, nan],
        [5.0, 6.0, nan, nan],
        [20.0, 30.0, nan, nan],
        [0.5, 0.25, nan, nan],
        mask=[1.0, 1.0, 0.0, 0.0],
        **keys,
    )
    assert padded[:2] == short


numbers = st.floats(-10, 10)


@settings(max_examples=60, derandomize=True)
@given(
    st.lists(
        st.tuples(numbers, numbers, numbers, st.floats(0, 1)), min_size=1, max_size=7
    ),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 9),
    st.booleans(),
)
def test_against_the_sum_as_it_is_written(rows, gamma, backup_lambda, steps, ended):
    rewards, values, expected, probabilities = map(list, zip(*rows, strict=True))
    length = len(rows)
    ends = [0.0] * (length - 1) + [float(ended)]
    errors = [
        rewards[t] + gamma * (1 - ends[t]) * expected[t] - values[t]
        for t in range(length)
    ]
    targets = [
        values[t]
        + sum(
            (gamma * backup_lambda) ** ahead
            * math.prod(probabilities[t + 1 : t + ahead + 1])
            * errors[t + ahead]
            for ahead in range(min(steps, length - t))
        )
        for t in range(length)
    ]
    got = backup(
        rewards,
        values,
        expected,
        probabilities,
        ends=ends,
        gamma=gamma,
        backup_lambda=backup_lambda,
        steps=steps,
    )
    assert got == pytest.approx(targets, abs=1e-9)
