"""Exact static and nested CVaR: numbers by hand, and all policies enumerated."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.ops import static_risk
from rllib_risk.ops.frontier import LEVELS, exact_frontier
from rllib_risk.ops.return_distribution import (
    Distribution,
    TooManyNodesError,
    play_out,
)
from rllib_risk.ops.robust_mdp import (
    TabularMDP,
    cvar_mean,
    nested_value_iteration,
    robust_value_iteration,
)
from rllib_risk.ops.static_risk import TooManyReturnsError, static_optima

# Outcomes 0 and 10: probabilities, alpha, CVaR, and eta -> eta - E[(eta - X)+] / alpha.
AS_A_MAXIMUM = [
    # the lowest half: 0 with .4, 10 with .1
    ((0.4, 0.6), 0.5, 2.0, {-2: -2, 0: 0, 5: 1, 10: 2, 12: 0}),
    ((0.25, 0.75), 0.25, 0.0, {0: 0, 3: 0, 10: 0}),
    ((0.6, 0.4), 0.5, 0.0, {0: 0, 10: -2}),
    # the lowest quarter: 0 with .2, 10 with .05
    ((0.2, 0.8), 0.25, 2.0, {10: 2, 12: -4}),
]


@pytest.mark.parametrize(("chances", "alpha", "cvar", "bounds"), AS_A_MAXIMUM)
def test_cvar_as_a_maximum(chances, alpha, cvar, bounds):
    values, chances = np.array([0.0, 10.0]), np.array(chances)
    assert cvar_mean(values, chances, alpha) == pytest.approx(cvar, abs=1e-12)
    for eta, bound in bounds.items():
        got = eta - (chances * np.maximum(eta - values, 0)).sum() / alpha
        assert got == pytest.approx(bound, abs=1e-12) and got <= cvar + 1e-12


def test_a_distribution():
    # outcome 1 is given twice; the lowest .3: -2 with .2 and 1 with .1
    mine = Distribution.of(
        np.array([1.0, -2.0, 1.0, 5.0]), np.array([0.1, 0.2, 0.3, 0.4])
    )
    assert mine.values.tolist() == [-2.0, 1.0, 5.0]
    assert mine.probabilities == pytest.approx([0.2, 0.4, 0.4])
    assert mine.mean == pytest.approx(2.0) and mine.cvar(1.0) == pytest.approx(2.0)
    assert mine.cvar(0.3) == pytest.approx((-0.4 + 0.1) / 0.3)


@st.composite
def games(draw, num_states=2, num_actions=2, num_outcomes=2):
    """Small games with whole rewards, in which some steps end the game."""
    shape = (num_states, num_actions, num_outcomes)

    def table(elements):
        size = num_states * num_actions * num_outcomes
        return np.array(draw(st.lists(elements, min_size=size, max_size=size)))

    weights = table(st.integers(0, 4)).reshape(shape) + np.array([1, 0])
    return TabularMDP(
        next_states=table(st.integers(0, num_states - 1)).reshape(shape),
        probabilities=weights / weights.sum(-1, keepdims=True),
        rewards=table(st.integers(-4, 4)).reshape(shape).astype(float),
        terminals=table(st.booleans()).reshape(shape),
        start=0,
    )


def outcomes_of(mdp, state, action):
    """(probability, reward, next state or None) of every possible outcome."""
    for k, chance in enumerate(mdp.probabilities[state, action]):
        if chance > 0:
            after = int(mdp.next_states[state, action, k])
            end = mdp.terminals[state, action, k]
            yield chance, mdp.rewards[state, action, k], None if end else after


def all_lotteries(mdp, state, steps):
    """Every return distribution of every history-dependent policy, as lists."""
    if state is None or steps == 0:
        return [[(1.0, 0.0)]]
    found = []
    for action in range(mdp.rewards.shape[1]):
        after = [
            [
                [(chance * p, reward + x) for p, x in rest]
                for rest in all_lotteries(mdp, following, steps - 1)
            ]
            for chance, reward, following in outcomes_of(mdp, state, action)
        ]
        found += [[*itertools.chain(*choice)] for choice in itertools.product(*after)]
    return found


def tail_mean(lottery, alpha):
    """CVaR as a sum that starts at the worst outcome."""
    left, total = alpha, 0.0
    for chance, value in sorted(lottery, key=lambda pair: pair[1]):
        part = min(chance, left)
        left, total = left - part, total + part * value
    return total / alpha


def nested_best(mdp, state, steps, alpha):
    """The best nested CVaR, by recursion and the maximum over eta."""
    if state is None or steps == 0:
        return 0.0
    best = -np.inf
    for action in range(mdp.rewards.shape[1]):
        lottery = [
            (chance, reward + nested_best(mdp, after, steps - 1, alpha))
            for chance, reward, after in outcomes_of(mdp, state, action)
        ]
        best = max(
            best,
            *(
                eta - sum(p * max(eta - x, 0) for p, x in lottery) / alpha
                for _, eta in lottery
            ),
        )
    return best


@settings(max_examples=40, deadline=None)
@given(games(), st.sampled_from([1.0, 0.7, 0.5, 0.25, 0.1]), st.integers(1, 3))
def test_no_policy_is_better_than_the_optimum(mdp, alpha, steps):
    lotteries = all_lotteries(mdp, 0, steps)
    cvars = [tail_mean(lottery, alpha) for lottery in lotteries]
    (optimum,) = static_optima(mdp, [alpha], step_limit=steps)
    assert optimum.value == pytest.approx(max(cvars), abs=1e-9)
    # and its policy has that value, and its mean
    played = play_out(mdp, optimum.act, step_limit=steps)
    assert played.returns.cvar(alpha) == pytest.approx(max(cvars), abs=1e-9)
    assert played.returns.mean == pytest.approx(optimum.mean, abs=1e-9)
    assert played.returns.probabilities.sum() == pytest.approx(1.0)
    means = [
        sum(p * x for p, x in lottery)
        for lottery, cvar in zip(lotteries, cvars, strict=True)
        if cvar > max(cvars) - 1e-9
    ]
    assert optimum.mean <= max(means) + 1e-9
    if alpha == 1.0:
        assert optimum.mean == pytest.approx(max(means), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(games(), st.sampled_from([1.0, 0.7, 0.5, 0.25, 0.1]), st.integers(1, 3))
def test_nested_value_iteration(mdp, alpha, steps):
    values, choices = nested_value_iteration(mdp, alpha=alpha, step_limit=steps)
    assert values[0] == pytest.approx(nested_best(mdp, 0, steps, alpha), abs=1e-9)
    played = play_out(mdp, lambda h: choices[h.step, h.states[:, -1]], step_limit=steps)
    assert played.nested(alpha) == pytest.approx(values[0], abs=1e-9)
    # the same numbers with memory of the whole history
    by_history = play_out(
        mdp,
        lambda h: choices[h.step, h.states[:, -1]],
        step_limit=steps,
        memory="history",
    )
    assert by_history.nested(alpha) == pytest.approx(values[0], abs=1e-9)
    assert by_history.returns.values == pytest.approx(played.returns.values)


def coin(*, terminal=True):
    """One state, two actions: 1 for sure; 0 or 4 with a half each."""
    rewards = np.array([[[1.0, 1.0], [0.0, 4.0]]])
    return TabularMDP(
        next_states=np.zeros(rewards.shape, np.int64),
        probabilities=np.full(rewards.shape, 0.5),
        rewards=rewards,
        terminals=np.full(rewards.shape, terminal),
        start=0,
    )


def test_nested_values_without_a_limit():
    # Alpha .5: the coin's CVaR is 0, so 1 for sure is best: 1 / (1 - .9) = 10. At .75
    # the coin's lowest three quarters are 0 with .5 and 4 with .25; their mean is 4/3.
    for alpha, value, choice in ((0.5, 10.0, 0), (0.75, 40 / 3, 1), (1.0, 20.0, 1)):
        values, choices = nested_value_iteration(
            coin(terminal=False), alpha=alpha, gamma=0.9
        )
        assert values[0] == pytest.approx(value, abs=1e-8)
        assert choices.tolist() == [[choice]]
    plain, _ = robust_value_iteration(coin(terminal=False), gamma=0.9)
    assert plain[0] == pytest.approx(20.0, abs=1e-8)


def test_discounted_returns():
    # Two steps, the second one discounted by a half. Alpha .5. The coin twice: 0, 2, 4
    # and 6 with a quarter each, so 1. Sure twice: 1.5. The coin, then the coin after 4
    # and sure after 0: .5, .5, 4, 6, so .5. Sure and then the coin: 1 or 3, so 1.
    (optimum,) = static_optima(coin(terminal=False), [0.5], step_limit=2, gamma=0.5)
    assert optimum.value == pytest.approx(1.5)
    # Alpha .75. The coin twice has (0 + 2 + 4) / 3. Taking the sure half after 4 is
    # better: (0 + 2 + 4.5) / 3. The other policies have 1.5 to 1.84.
    (optimum,) = static_optima(coin(terminal=False), [0.75], step_limit=2, gamma=0.5)
    assert optimum.value == pytest.approx(6.5 / 3)
    played = play_out(coin(terminal=False), optimum.act, step_limit=2, gamma=0.5)
    assert played.returns.values.tolist() == [0.0, 2.0, 4.5]


def test_the_frontier_of_a_coin():
    # the coin's mean is 2; its CVaR up to level .5 is 0, so 1 for sure is better there
    points = exact_frontier(coin(), step_limit=5)
    assert [p.alpha for p in points] == list(LEVELS)
    got = [(p.cvar, p.mean, p.nested) for p in points]
    assert got == [pytest.approx([best] * 3) for best in (2.0, 1.0, 1.0, 1.0, 1.0)]


@settings(max_examples=15, deadline=None)
@given(games(), st.integers(1, 2))
def test_frontier_equals_enumeration(mdp, steps):
    for point in exact_frontier(mdp, step_limit=steps):
        lotteries = all_lotteries(mdp, 0, steps)
        best = max(tail_mean(lottery, point.alpha) for lottery in lotteries)
        assert point.cvar == pytest.approx(best, abs=1e-9)
        assert point.nested == pytest.approx(
            nested_best(mdp, 0, steps, point.alpha), abs=1e-9
        )


def test_what_is_refused(monkeypatch):
    for alpha in (0.0, 1.5):
        with pytest.raises(ValueError, match="alpha must be in"):
            static_optima(coin(), [alpha], step_limit=1)
        with pytest.raises(ValueError, match="alpha must be in"):
            nested_value_iteration(coin(), alpha=alpha, step_limit=1)
    with pytest.raises(ValueError, match="lower gamma"):
        monkeypatch.setattr("rllib_risk.ops.robust_mdp.MAX_SWEEPS", 3)
        nested_value_iteration(coin(terminal=False), alpha=0.5)
    with pytest.raises(TooManyNodesError, match="step 2 there are 4"):
        play_out(
            coin(terminal=False),
            lambda h: np.ones(len(h.returns), np.int64),
            step_limit=9,
            memory="history",
            max_nodes=3,
        )
    monkeypatch.setattr(static_risk, "MAX_CELLS", 30)
    with pytest.raises(TooManyReturnsError, match="too many for exact tables"):
        static_optima(coin(terminal=False), [0.5], step_limit=50)
