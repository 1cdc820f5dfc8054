"""Robust targets of finite distributions: by hand, by search, and by their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rllib_risk.ops.robust import (
    contaminate,
    contaminated_rewards,
    dual_losses,
    worst_tv,
)

# V = 1, 2, 4, 10 with probabilities .1, .2, .3, .4 as ten samples; the mean is 5.7.
SAMPLES = torch.tensor([1.0] + [2.0] * 2 + [4.0] * 3 + [10.0] * 4)

# The mass rho of the best outcomes goes to a fail state of value 0:
#   .1: 5.7 - .1 * 10; .25: 5.7 - 2.5; .4: 5.7 - 4; .5: 5.7 - 4 - .1 * 4;
#   .75: 5.7 - 4 - 1.2 - .05 * 2; 1: 0. The dual variable is the (1 - rho)-quantile.
TABLE = [
    (0.0, 5.7, (10.0, 12.0)),
    (0.1, 4.7, (10.0,)),
    (0.25, 3.2, (10.0,)),
    (0.4, 1.7, (4.0, 7.0, 10.0)),
    (0.5, 1.3, (4.0,)),
    (0.75, 0.4, (2.0,)),
    (1.0, 0.0, (0.0, 1.0)),
]


@pytest.mark.parametrize(("rho", "worst", "duals"), TABLE)
def test_total_variation_of_a_finite_distribution(rho, worst, duals):
    for eta in duals:
        dual = torch.full_like(SAMPLES, eta)
        got = worst_tv(SAMPLES, dual, rho, 0.0).mean().item()
        assert got == pytest.approx(worst, abs=1e-5)
    # No other dual variable gives more.
    for eta in np.linspace(-3, 14, 171):
        dual = torch.full_like(SAMPLES, float(eta))
        assert worst_tv(SAMPLES, dual, rho, 0.0).mean().item() <= worst + 1e-5


@pytest.mark.parametrize(
    ("rho", "expected"), [(0.0, 5.7), (0.1, 5.13), (0.25, 4.275), (0.4, 3.42), (1, 0)]
)
def test_contamination_of_the_same(rho, expected):
    got = contaminate(SAMPLES, rho, 0.0).mean().item()
    assert got == pytest.approx(expected, abs=1e-5)
    shifted = contaminate(SAMPLES, rho, -2.0).mean().item()
    assert shifted == pytest.approx(expected - 2 * rho, abs=1e-5)


def minimise(samples, rho, kind):
    """The dual variable with the lowest loss on a fine grid."""
    grid = torch.linspace(-12, 12, 24_001)
    losses = dual_losses(samples, grid.unsqueeze(-1), rho, kind).mean(dim=-1)
    return grid[losses.argmin()].item()


@pytest.mark.parametrize(("rho", "eta"), [(0.25, 10.0), (0.5, 4.0), (0.75, 2.0)])
def test_pinball_is_minimal_at_the_quantile(rho, eta):
    assert minimise(SAMPLES, rho, "pinball") == pytest.approx(eta, abs=1e-3)


# The square of the dual. For V > 0 it is zero at eta = 0 for every rho. The worst mean
# is then 0 instead of the right 5.7, 3.2 and 1.3.
@pytest.mark.parametrize("rho", [0.0, 0.25, 0.5])
def test_the_squared_loss_draws_positive_values_to_zero(rho):
    eta = minimise(SAMPLES, rho, "squared_released")
    assert eta == pytest.approx(0.0, abs=1e-3)
    dual = torch.full_like(SAMPLES, eta)
    assert worst_tv(SAMPLES, dual, rho, 0.0).mean().item() == pytest.approx(0, abs=1e-2)


# V = -10, -4, -2, -1 with the same probabilities, mean -2.8. The right dual variables
# are -1 and -2: lower tails -2.55 and -2.2. All results lie above the mean, because a
# fail state of value 0 is better than negative values.
@pytest.mark.parametrize(
    ("rho", "squared_eta", "squared_worst", "worst"),
    [(0.25, -2.0, -2.7, -2.55), (0.5, -3.6, -2.52, -2.2)],
)
def test_negative_values(rho, squared_eta, squared_worst, worst):
    samples = torch.tensor([-10.0] + [-4.0] * 2 + [-2.0] * 3 + [-1.0] * 4)
    eta = minimise(samples, rho, "squared_released")
    assert eta == pytest.approx(squared_eta, abs=1e-2)
    dual = torch.full_like(samples, squared_eta)
    got = worst_tv(samples, dual, rho, 0.0).mean().item()
    assert got == pytest.approx(squared_worst, abs=1e-5)
    dual = torch.full_like(samples, minimise(samples, rho, "pinball"))
    assert worst_tv(samples, dual, rho, 0.0).mean().item() == pytest.approx(
        worst, abs=2e-3
    )
    assert min(squared_worst, worst) > -2.8


@pytest.mark.parametrize("rho", [0.1, 0.25, 0.5, 0.75])
def test_gradient_descent_finds_the_quantile(rho):
    torch.manual_seed(0)
    samples = torch.randn(4096)
    eta = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([eta], 0.01)
    for _ in range(1500):
        optimizer.zero_grad()
        dual_losses(samples, eta.expand_as(samples), rho, "pinball").mean().backward()
        optimizer.step()
    assert (samples <= eta).float().mean().item() == pytest.approx(1 - rho, abs=0.02)


values = st.lists(st.floats(-20, 20), min_size=1, max_size=8)
shares = st.floats(0, 1)


@given(values, st.floats(-25, 25), shares)
def test_pinball_is_the_dual_up_to_a_term_without_eta(outcomes, eta, rho):
    samples = torch.tensor(outcomes, dtype=torch.float64)
    dual = torch.full_like(samples, eta)
    level = 1.0 - rho
    of_dual = (dual - samples).clamp(min=0.0) - level * dual
    pinball = dual_losses(samples, dual, rho, "pinball")
    torch.testing.assert_close(of_dual, pinball - level * samples)


def worst_by_moving_mass(samples, rho, v_min):
    """A second implementation: the best outcomes lose mass rho to the fail state."""
    mass = np.full(len(samples), 1.0 / len(samples))
    left = rho
    for index in np.argsort(samples)[::-1]:
        moved = min(left, mass[index])
        mass[index] -= moved
        left -= moved
    return float(mass @ samples) + rho * v_min


@given(values, shares)
def test_total_variation_is_what_an_adversary_can_do(outcomes, rho):
    """R3: the dual of total variation equals a search."""
    samples = torch.tensor(outcomes, dtype=torch.float64)
    v_min = float(samples.min()) - 1.0
    best = max(
        worst_tv(samples, torch.full_like(samples, eta), rho, v_min).mean().item()
        for eta in [*outcomes, v_min]
    )
    expected = worst_by_moving_mass(np.array(outcomes), rho, v_min)
    assert best == pytest.approx(expected, abs=1e-9)
    # The set of contamination lies within that of total variation.
    contaminated = contaminate(samples, rho, v_min).mean().item()
    assert best <= contaminated + 1e-9 <= samples.mean().item() + 2e-9


@given(values, shares, shares)
def test_a_larger_set_is_no_better(outcomes, one, other):
    samples = np.array(outcomes)
    small, large = sorted((one, other))
    v_min = float(samples.min())
    tensor = torch.tensor(outcomes, dtype=torch.float64)
    for rho in (small, large):
        eta = float(np.quantile(samples, 1 - rho, method="inverted_cdf"))
        got = worst_tv(tensor, torch.full_like(tensor, eta), rho, v_min).mean().item()
        assert got == pytest.approx(worst_by_moving_mass(samples, rho, v_min), abs=1e-9)
    worse = worst_by_moving_mass(samples, large, v_min)
    assert worse <= worst_by_moving_mass(samples, small, v_min) + 1e-9
    means = [contaminate(tensor, rho, v_min).mean().item() for rho in (large, small)]
    assert means[0] <= means[1] + 1e-9


@given(values, st.floats(-25, 25), shares, st.floats(-5, 5))
def test_shifts_pass_through(outcomes, eta, rho, shift):
    # A shift of values, dual variable and fail state by c shifts the worst mean by c.
    samples = torch.tensor(outcomes, dtype=torch.float64)
    dual = torch.full_like(samples, eta)
    moved = worst_tv(samples + shift, dual + shift, rho, shift - 3.0)
    torch.testing.assert_close(moved, worst_tv(samples, dual, rho, -3.0) + shift)
    moved = contaminate(samples + shift, rho, shift - 3.0)
    torch.testing.assert_close(moved, contaminate(samples, rho, -3.0) + shift)


@pytest.mark.parametrize("over", ["next_value", "transition"])
def test_contaminated_rewards_by_hand(over):
    # Reward 6, gamma 0.5, rho 0.2, v_min -10, next value 8. The value alone: 6 + 0.5
    # (0.8 * 8 - 2) = 8.2; with the reward: 0.8 (6 + 0.5 * 8) - 2 = 6.
    rewards, gamma = contaminated_rewards(torch.tensor(6.0), 0.5, 0.2, -10.0, over)
    assert gamma == 0.4
    got = (rewards + gamma * 8.0).item()
    assert got == pytest.approx({"next_value": 8.2, "transition": 6.0}[over])


def test_contamination_of_something_else_is_refused():
    with pytest.raises(ValueError, match="next_value or transition, not 'reward'"):
        contaminated_rewards(torch.tensor(6.0), 0.5, 0.2, -10.0, "reward")
