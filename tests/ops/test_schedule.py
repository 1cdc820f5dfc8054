"""Piecewise linear schedules."""

import pytest

from rllib_risk.ops.schedule import schedule_value


# From 1 to 0.05 over 50 000: 1 - 0.95 * steps / 50 000, then flat.
@pytest.mark.parametrize(
    ("env_steps", "epsilon"),
    [(0, 1.0), (1000, 0.981), (25_000, 0.525), (50_000, 0.05), (10**7, 0.05)],
)
def test_epsilon_schedule(env_steps, epsilon):
    points = [[0, 1.0], [50_000, 0.05]]
    assert schedule_value(points, env_steps) == pytest.approx(epsilon, abs=1e-12)


def test_points_in_one_unit():
    assert schedule_value(0.3, 12_345) == 0.3
    assert schedule_value(1, 5) == 1.0
    # Constant before the first point, straight lines between.
    points = [[100, 1.0], [200, 0.0], [300, 0.5]]
    values = [schedule_value(points, at) for at in (0, 100, 150, 200, 250, 400)]
    assert values == [1.0, 1.0, 0.5, 0.0, 0.25, 0.5]
