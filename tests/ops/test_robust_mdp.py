"""Exact worst cases: the numbers of a worked table, linear programs, and DrIGM."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from rllib_risk.ops.robust_mdp import (
    TabularMDP,
    policy_value,
    robust_q,
    robust_value_iteration,
    worst_case_mean,
)

BOTH = ("contamination", "tv")
OVER = ("next_value", "transition")

# Four outcomes 1, 2, 4, 10 with probabilities .1, .2, .3, .4, and v_min 0.
# Contamination: (1 - rho) 5.7. Total variation: the lowest 1 - rho of the mass, at .25
# for example .1 * 1 + .2 * 2 + .3 * 4 + .15 * 10 = 3.2.
VALUES = np.array([1.0, 2.0, 4.0, 10.0])
CHANCES = np.array([0.1, 0.2, 0.3, 0.4])
TABLE = [
    # rho, tv, contamination, lowest and highest of the best dual variables
    (0.0, 5.7, 5.7, 10.0, 20.0),
    (0.1, 4.7, 5.13, 10.0, 10.0),
    (0.25, 3.2, 4.275, 10.0, 10.0),
    (0.4, 1.7, 3.42, 4.0, 10.0),
    (0.5, 1.3, 2.85, 4.0, 4.0),
    (0.75, 0.4, 1.425, 2.0, 2.0),
    (1.0, 0.0, 0.0, 0.0, 1.0),
]


def dual(eta, values, chances, rho):
    return (1 - rho) * eta - (chances * np.maximum(eta - values, 0.0)).sum()


def linear_program(values, chances, rho, v_min, uncertainty):
    """The same worst mean as an optimisation over kernels p of K + 1 outcomes."""
    size = len(values) + 1
    nominal = np.append(chances, 0.0)  # the fail state is the last outcome
    cost = np.append(values, v_min)
    if uncertainty == "contamination":
        bounds = [((1 - rho) * chance, 1.0) for chance in nominal]
        done = linprog(cost, A_eq=np.ones((1, size)), b_eq=[1.0], bounds=bounds)
        return done.fun
    # p = nominal + up - down, up and down not negative, sum(up) = sum(down) <= rho
    eye, ones, zeros = np.eye(size), np.ones((1, size)), np.zeros((1, size))
    equal = np.vstack([np.hstack([eye, -eye, eye]), np.hstack([ones, zeros, zeros])])
    done = linprog(
        np.concatenate([cost, np.zeros(2 * size)]),
        A_eq=equal,
        b_eq=np.append(nominal, 1.0),
        A_ub=np.hstack([zeros, ones, zeros]),
        b_ub=[rho],
    )
    return done.fun


@pytest.mark.parametrize(("rho", "tv", "contamination", "low", "high"), TABLE)
def test_the_worked_table(rho, tv, contamination, low, high):
    expected = {"tv": tv, "contamination": contamination}
    for kind, value in expected.items():
        # in any order of the outcomes
        for order in itertools.permutations(range(4)):
            order = list(order)
            got = worst_case_mean(VALUES[order], CHANCES[order], rho, 0.0, kind)
            assert got == pytest.approx(value, abs=1e-12)
        program = linear_program(VALUES, CHANCES, rho, 0.0, kind)
        assert program == pytest.approx(value, abs=1e-9)
    for eta in (low, (low + high) / 2, high):
        assert dual(eta, VALUES, CHANCES, rho) == pytest.approx(tv, abs=1e-12)
    # Dual variables outside of that interval are worse. It has no upper end at rho 0,
    # and at rho 1 only v_min bounds it from below.
    outside = [low - 0.1] * (rho < 1.0) + [high + 0.1] * (rho > 0.0)
    for eta in outside:
        assert dual(eta, VALUES, CHANCES, rho) < tv - 1e-3


numbers = st.floats(-10.0, 10.0).map(lambda x: round(x, 3))
weights = st.floats(0.0, 1.0).map(lambda x: round(x, 3))


@st.composite
def distributions(draw):
    size = draw(st.integers(1, 5))
    values = np.array(draw(st.lists(numbers, min_size=size, max_size=size)))
    mass = np.array(draw(st.lists(weights, min_size=size, max_size=size)))
    mass[draw(st.integers(0, size - 1))] += 0.1  # at least one outcome has mass
    v_min = values.min() - draw(st.floats(0.0, 5.0))
    return values, mass / mass.sum(), v_min


@settings(max_examples=60)
@given(distributions(), st.floats(0.0, 1.0), st.sampled_from(BOTH))
def test_worst_means_solve_the_linear_program(distribution, rho, kind):
    """R3: at most five states, against a linear program."""
    values, chances, v_min = distribution
    got = worst_case_mean(values, chances, rho, v_min, kind)
    program = linear_program(values, chances, rho, v_min, kind)
    assert got == pytest.approx(program, abs=1e-6)
    if kind == "tv":
        # the dual is concave and piecewise linear: its kinks are at the outcomes
        etas = [*values, v_min]
        best = max(dual(eta, values, chances, rho) for eta in etas) + rho * v_min
        assert got == pytest.approx(best, abs=1e-9)


@given(distributions())
def test_worst_means_fall_in_rho_and_are_convex(distribution):
    values, chances, v_min = distribution
    rhos = np.linspace(0.0, 1.0, 21)
    curves = {
        kind: np.array(
            [worst_case_mean(values, chances, rho, v_min, kind) for rho in rhos]
        )
        for kind in BOTH
    }
    for curve in curves.values():
        assert curve[0] == pytest.approx((chances * values).sum())
        assert curve[-1] == pytest.approx(v_min)
        assert (np.diff(curve) <= 1e-9).all()
        assert (np.diff(curve, 2) >= -1e-9).all()
    assert (curves["tv"] <= curves["contamination"] + 1e-9).all()


def test_without_chance_the_two_sets_agree():
    for rho in (0.0, 0.3, 1.0):
        one, two = (
            worst_case_mean(np.array([3.0, 9.0]), np.array([1.0, 0.0]), rho, -2.0, kind)
            for kind in BOTH
        )
        assert one == pytest.approx((1 - rho) * 3.0 - rho * 2.0) == two


def random_mdp(seed, num_states=6, num_actions=3, ends=0.0, low=-1.0):
    """Random tables in which every state may follow every state."""
    rng = np.random.default_rng(seed)
    shape = (num_states, num_actions, num_states)
    chances = rng.random(shape) ** 3  # uneven, so that actions differ
    return TabularMDP(
        next_states=np.broadcast_to(np.arange(num_states), shape).copy(),
        probabilities=chances / chances.sum(axis=-1, keepdims=True),
        rewards=rng.uniform(low, 1.0, shape),
        terminals=rng.random(shape) < ends,
        start=0,
    )


@settings(max_examples=12)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.05, 0.3, 0.8]),
    st.sampled_from(BOTH),
    st.sampled_from(OVER),
)
def test_value_iteration_solves_its_equation(seed, num_states, rho, kind, over):
    # A contraction has one fixed point. Values that satisfy the equation, with linear
    # programs as the worst means, are therefore the solution.
    mdp = random_mdp(seed, num_states, num_actions=2, ends=0.2)
    gamma, v_min = 0.9, -25.0
    values, q = robust_value_iteration(
        mdp, gamma=gamma, rho=rho, v_min=v_min, uncertainty=kind, over=over
    )
    np.testing.assert_allclose(values, q.max(axis=1))
    for s, a in itertools.product(range(num_states), range(2)):
        after = [
            0.0 if mdp.terminals[s, a, k] else values[k] for k in range(num_states)
        ]
        outcomes, rewards = gamma * np.array(after), mdp.rewards[s, a]
        chances = mdp.probabilities[s, a]
        if over == "transition":
            expected = linear_program(outcomes + rewards, chances, rho, v_min, kind)
        else:
            worst = linear_program(outcomes, chances, rho, gamma * v_min, kind)
            expected = (chances * rewards).sum() + worst
        assert q[s, a] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("rho", "shift"), [(0.1, -9.4737), (0.3, -14.5946)])
def test_another_fail_value_shifts_everything(kind, rho, shift):
    # gamma rho dv / (1 - gamma (1 - rho)): at rho .1, .9 * .1 * -20 / .19 = -9.4737;
    # at .3, .9 * .3 * -20 / .37 = -14.5946.
    mdp = random_mdp(3)
    target = {"gamma": 0.9, "rho": rho, "uncertainty": kind}
    _, one = robust_value_iteration(mdp, v_min=-10.0, **target)
    _, two = robust_value_iteration(mdp, v_min=-30.0, **target)
    np.testing.assert_allclose(two - one, shift, atol=1e-4)
    assert (one.argmax(axis=1) == two.argmax(axis=1)).all()
    # over the transition the fail state is not discounted again
    _, one = robust_value_iteration(mdp, v_min=-10.0, over="transition", **target)
    _, two = robust_value_iteration(mdp, v_min=-30.0, over="transition", **target)
    np.testing.assert_allclose(two - one, shift / 0.9, atol=1e-4)


def test_with_true_ends_the_fail_value_changes_policies():
    # Stopping pays 1; two steps pay 0 and then 2, which is better without a set. Two
    # steps can fail twice. At rho .1 and v_min 0 they are worth .9 * 2 = 1.8, at v_min
    # -20 only .9 * (2 - 2) + .1 * -20 = -2, and stopping is worth 1 - 2 = -1.
    mdp = TabularMDP(
        next_states=np.array([[[1], [0]], [[0], [0]]]),
        probabilities=np.ones((2, 2, 1)),
        rewards=np.array([[[0.0], [1.0]], [[2.0], [2.0]]]),
        terminals=np.array([[[False], [True]], [[True], [True]]]),
        start=0,
    )
    for v_min, expected in ((0.0, [1.8, 1.0]), (-20.0, [-2.0, -1.0])):
        _, q = robust_value_iteration(mdp, gamma=1.0, rho=0.1, v_min=v_min)
        np.testing.assert_allclose(q[0], expected)


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("kind", BOTH)
def test_the_operator_contracts(kind, over):
    mdp = random_mdp(5, ends=0.1)
    rng = np.random.default_rng(0)
    target = {
        "gamma": 0.9,
        "rho": 0.2,
        "v_min": -30.0,
        "uncertainty": kind,
        "over": over,
    }
    for _ in range(50):
        one, two = rng.normal(0, 5, (2, 6))
        gap = robust_q(mdp, one, **target).max(1) - robust_q(mdp, two, **target).max(1)
        assert 0 < np.abs(gap).max() <= 0.9 * np.abs(one - two).max() + 1e-12


@pytest.mark.parametrize("over", OVER)
def test_robust_values_lie_below_the_plain_ones(over):
    mdp = random_mdp(7, ends=0.1)
    plain, plain_q = robust_value_iteration(mdp, gamma=0.9, over=over)
    assert plain.min() > -10.0
    before = plain_q
    for rho in (0.05, 0.2, 0.5, 1.0):
        results = {
            kind: robust_value_iteration(
                mdp, gamma=0.9, rho=rho, v_min=-20.0, uncertainty=kind, over=over
            )[1]
            for kind in BOTH
        }
        assert (results["tv"] <= results["contamination"] + 1e-9).all()
        assert (results["contamination"] < plain_q).all()
        assert (results["tv"] < before).all(), "it falls with rho"
        before = results["tv"]


def test_contamination_at_zero_is_a_shorter_horizon():
    mdp = random_mdp(11, ends=0.1)
    target = {"rho": 0.2, "uncertainty": "contamination"}
    _, robust = robust_value_iteration(mdp, gamma=0.9, **target)
    _, plain = robust_value_iteration(mdp, gamma=0.9 * 0.8)
    np.testing.assert_allclose(robust, plain, atol=1e-8)
    # Q = .8 (E r + gamma max Q') has .8 of these values as its fixed point: whether
    # the reward is included makes no difference to the policy
    _, over = robust_value_iteration(mdp, gamma=0.9, over="transition", **target)
    np.testing.assert_allclose(over, 0.8 * plain, atol=1e-8)


def moved(chances, rho, kind, rng):
    """A random kernel of the set around `chances`, without a fail state."""
    other = rng.dirichlet(np.full(chances.shape[-1], 0.3), chances.shape[:-1])
    if kind == "contamination":
        return (1 - rho) * chances + rho * other
    # take at most the mass rho at random and distribute it at random
    taken = rho * rng.dirichlet(np.full(chances.shape[-1], 0.3), chances.shape[:-1])
    taken = np.minimum(taken, chances)
    return chances - taken + taken.sum(axis=-1, keepdims=True) * other


@pytest.mark.parametrize("kind", BOTH)
def test_robust_value_is_a_lower_bound_in_the_set(kind):
    # Rewards of at least 0: nothing is worth less than v_min = 0.
    rng = np.random.default_rng(0)
    for seed in range(10):
        mdp = random_mdp(seed, ends=0.1, low=0.0)
        # one reward per state and action, so that another kernel does not change it
        mdp = dataclasses.replace(
            mdp, rewards=np.repeat(mdp.rewards[..., :1], 6, axis=-1)
        )
        promised, q = robust_value_iteration(mdp, gamma=0.9, rho=0.3, uncertainty=kind)
        policy = q.argmax(axis=1)
        for _ in range(20):
            test = dataclasses.replace(
                mdp, probabilities=moved(mdp.probabilities, 0.3, kind, rng)
            )
            distance = np.abs(test.probabilities - mdp.probabilities).sum(-1).max() / 2
            assert 0.05 < distance <= 0.3 + 1e-12
            assert (policy_value(test, policy, gamma=0.9) > promised).all()


def test_policy_values_by_hand():
    # One state. Action 0 pays 1 and continues with .5; action 1 pays 2 and ends.
    mdp = TabularMDP(
        next_states=np.zeros((1, 2, 2), np.int64),
        probabilities=np.array([[[0.5, 0.5], [1.0, 0.0]]]),
        rewards=np.array([[[1.0, 1.0], [2.0, 9.0]]]),
        terminals=np.array([[[False, True], [True, True]]]),
        start=0,
    )
    go, stop = np.array([0]), np.array([1])
    # V = 1 + .9 * .5 V = 1 / .55; over three steps at gamma 1: 1 + .5 + .25
    assert policy_value(mdp, go, gamma=0.9) == pytest.approx([1 / 0.55])
    assert policy_value(mdp, go, gamma=1.0, step_limit=3) == pytest.approx([1.75])
    assert policy_value(mdp, go, gamma=0.9, step_limit=2) == pytest.approx([1.45])
    assert policy_value(mdp, stop, gamma=1.0, step_limit=3) == pytest.approx([2.0])
    with pytest.raises(ValueError, match="needs a step_limit"):
        policy_value(mdp, go, gamma=1.0)


@pytest.mark.parametrize("kind", BOTH)
def test_rho_zero_is_the_plain_optimum(kind):
    mdp = random_mdp(13, ends=0.2)
    # a second implementation: the best of all 3 ** 6 policies in every state
    best = np.max(
        [
            policy_value(mdp, np.array(policy), gamma=0.9)
            for policy in itertools.product(range(3), repeat=6)
        ],
        axis=0,
    )
    for over in OVER:
        values, _ = robust_value_iteration(
            mdp, gamma=0.9, v_min=-50.0, uncertainty=kind, over=over
        )
        np.testing.assert_allclose(values, best, atol=1e-8)


def test_misuse_says_so(monkeypatch):
    mdp = random_mdp(0)
    with pytest.raises(ValueError, match="uncertainty must be in"):
        robust_value_iteration(mdp, gamma=0.9, uncertainty="kl")
    with pytest.raises(ValueError, match="rho must be in"):
        robust_value_iteration(mdp, gamma=0.9, rho=1.5)
    with pytest.raises(ValueError, match="over must be in"):
        robust_value_iteration(mdp, gamma=0.9, over="reward")
    with pytest.raises(ValueError, match="gamma must be in"):
        robust_value_iteration(mdp, gamma=1.1)
    monkeypatch.setattr("rllib_risk.ops.robust_mdp.MAX_SWEEPS", 100)
    with pytest.raises(ValueError, match="did not converge in 100 sweeps"):
        robust_value_iteration(random_mdp(0, 1, 1, low=0.5), gamma=1.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rewards": np.zeros((6, 3, 2))}, "one shape"),
        ({"next_states": np.full((6, 3, 6), 6)}, "must be states 0 .. 5"),
        ({"probabilities": np.full((6, 3, 6), 0.1)}, "sum to 1"),
        ({"start": 6}, "start must be a state"),
    ],
)
def test_tables_that_are_no_process(changes, text):
    with pytest.raises(ValueError, match=text):
        dataclasses.replace(random_mdp(0), **changes)


# DrIGM: each agent's own robust optimum must be its part of the robust joint optimum.
# Two agents with two actions, one state, additive values; a model is (Q_1, Q_2).


def joint_values(model):
    """Q_1(a) + Q_2(b), [2, 2]."""
    return np.add.outer(*(np.array(part, float) for part in model))


def greedy(model):
    """The greedy action of each agent."""
    return tuple(int(np.argmax(part)) for part in model)


def anchored(models):
    """The robust joint values, their best joint action, and its worst models."""
    tables = np.array([joint_values(model) for model in models])
    robust = tables.min(axis=0)
    best = np.unravel_index(robust.argmax(), robust.shape)
    best = tuple(int(action) for action in best)
    worst = [k for k, table in enumerate(tables) if table[best] == robust[best]]
    return robust, best, worst


def test_robust_agents_one_by_one_are_no_robust_team():
    models = [((3, 2), (1, 0)), ((0, 2), (6, 0))]
    robust, best, worst = anchored(models)
    # P1 [[4, 3], [3, 2]], P2 [[6, 0], [8, 2]], their minimum:
    assert robust.tolist() == [[4, 0], [3, 2]]
    assert best == (0, 0) and worst == [0]
    # each agent's own worst case: Q_1 = (0, 2), Q_2 = (1, 0)
    alone = np.min(np.array(models), axis=0)
    assert alone.tolist() == [[0, 2], [1, 0]]
    assert greedy(alone) == (1, 0) and robust[1, 0] == 3 < robust[best]
    # the factors of the model that is worst at the joint optimum agree with it
    assert greedy(models[worst[0]]) == best


def test_anchoring_fails_where_no_model_is_worst_everywhere():
    models = [((5, 2.5), (1, 2.5)), ((1, 2.5), (5, 2.5))]
    robust, best, worst = anchored(models)
    # P1 [[6, 7.5], [3.5, 5]], P2 [[6, 3.5], [7.5, 5]]
    assert robust.tolist() == [[6, 3.5], [3.5, 5]]
    assert best == (0, 0) and worst == [0, 1], "a tie: both models are worst there"
    # and neither set of factors picks the robust optimum, which is worth 6
    assert [greedy(model) for model in models] == [(0, 1), (1, 0)]
    assert robust[0, 1] == robust[1, 0] == 3.5
