"""Off-policy estimators: numbers by hand, and the truth of an enumerated game."""

import itertools

import numpy as np
import pytest

from rllib_risk.ops import off_policy as ope
from rllib_risk.ops import ratio_terms

# Two episodes of two steps; the behaviour policy is uniform. Cumulative ratios:
#   .8 / .5 = 1.6, then 1.6 * .5 / .5 = 1.6;   .3 / .5 = .6, then .6
BEHAVIOUR = np.full((2, 2, 1), 0.5)
TARGET = np.array([[[0.8], [0.5]], [[0.3], [0.5]]])
MASK = np.ones((2, 2), bool)
RATIOS = np.array([[1.6, 1.6], [0.6, 0.6]])
REWARDS = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_ratios_by_hand():
    np.testing.assert_allclose(ope.cumulative_ratios(TARGET, BEHAVIOUR, MASK), RATIOS)
    # Two agents: (.8 / .5) (.3 / .5) = .96. The second step is padding.
    both = np.concatenate([TARGET[:1], TARGET[1:]], axis=-1)
    mask = np.array([[True, False]])
    played = np.full((1, 2, 2), 0.5)
    got = ope.cumulative_ratios(both, played, mask)
    np.testing.assert_allclose(got, [[0.96, 0.96]])
    clipped = ope.cumulative_ratios(TARGET, BEHAVIOUR, MASK, clip=1.0)
    np.testing.assert_allclose(clipped, [[1.0, 1.0], [0.6, 0.6]])
    never = np.zeros_like(TARGET)
    assert not ope.cumulative_ratios(never, BEHAVIOUR, MASK).any()
    with pytest.raises(ValueError, match="behaviour's probability"):
        ope.cumulative_ratios(TARGET, never, MASK)


def test_importance_sampling_by_hand():
    # Discount .5. Plain: (1.6 + 1.8) / 2 + .5 (3.2 + 2.4) / 2 = 1.7 + 1.4.
    # Weighted, by 1.6 + .6 = 2.2: 3.4 / 2.2 + .5 * 5.6 / 2.2 = 31 / 11.
    plain = ope.importance_terms(RATIOS, REWARDS, MASK, 0.5, weighted=False)
    assert plain.value == pytest.approx(3.1)
    assert ope.importance_terms(RATIOS, REWARDS, MASK, 0.5).value == pytest.approx(
        31 / 11
    )
    # 2.2^2 / (1.6^2 + .6^2)
    assert ope.effective_sample_size(RATIOS[:, 1]) == pytest.approx(4.84 / 2.92)
    assert ope.effective_sample_size(np.zeros(3)) == 0.0


# Three episodes of 1, 2 and 3 steps, with ratios 2, then 1 and 4, then 1, 2 and 5.
# Step 0: shares 2/4, 1/4, 1/4; the first episode ends with 1/2, and 1/2 remains.
# Step 1: 4/6 and 2/6 of 1/2; the second episode ends with 1/3. Step 2: 1/6 remains.
UNEQUAL = np.array([[2.0, 2.0, 2.0], [1.0, 4.0, 4.0], [1.0, 2.0, 5.0]])
UNEQUAL_MASK = np.array([[True, False, False], [True, True, False], [True] * 3])


def test_the_shares_of_episodes_that_end_early_add_up():
    """R49: with frozen ratios wis has a bias (28 % on macn), and shares exceed 1."""
    weights = ope.episode_weights(UNEQUAL, UNEQUAL_MASK)
    np.testing.assert_allclose(weights, [1 / 2, 1 / 3, 1 / 6])
    # With a reward of 1 at the end of every episode the value is 1. Frozen ratios would
    # give 2/4 + 4/8 + 5/11 = 1.45.
    ends = np.eye(3)
    terms = ope.importance_terms(UNEQUAL, ends, UNEQUAL_MASK, 1.0)
    assert terms.value == pytest.approx(1.0)
    # Rewards 1 | 1, 7 | 1, 4, 9 with discount .5:
    # 1 + .5 (7/3 + 4/6) + .25 * 9/6 = 1 + 1.5 + .375
    rewards = np.array([[1.0, 0.0, 0.0], [1.0, 7.0, 0.0], [1.0, 4.0, 9.0]])
    terms = ope.importance_terms(UNEQUAL, rewards, UNEQUAL_MASK, 0.5)
    assert terms.value == pytest.approx(2.875)
    below = ope.below_terms(UNEQUAL, rewards.sum(1), UNEQUAL_MASK, 9.0)
    assert below.value == pytest.approx(1 / 2 + 1 / 3)
    # Doubly robust with Q = r leaves V: 1 of all at the start; then 2 and 4 of the two
    # that continue, with shares 1/4; then 6 of the last one, with share 1/6:
    # 1 + .5 (2/4 + 4/4) + .25 * 6/6
    values = np.array([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [1.0, 4.0, 6.0]])
    arrays = UNEQUAL, rewards, rewards, values, UNEQUAL_MASK
    assert ope.doubly_robust_terms(*arrays, 0.5).value == pytest.approx(2.0)


def test_a_log_that_cannot_be_followed_to_its_end_has_no_weights():
    ratios = UNEQUAL * [[1.0], [0.0], [0.0]] + UNEQUAL_MASK * [1.0, 0.0, 0.0]
    assert not ope.episode_weights(ratios, UNEQUAL_MASK).any()
    assert np.isnan(ope.importance_terms(ratios, np.eye(3), UNEQUAL_MASK, 1.0).value)
    # If the policy plays only the short episode, nothing is missing.
    ratios = UNEQUAL * [[1.0], [0.0], [0.0]]
    weights = ope.episode_weights(ratios, UNEQUAL_MASK)
    np.testing.assert_allclose(weights, [1.0, 0.0, 0.0])
    terms = ope.importance_terms(ratios, 3.0 * np.eye(3), UNEQUAL_MASK, 1.0)
    assert terms.value == pytest.approx(3.0)


def test_errors_of_unequal_episodes_are_derivatives():
    """The influence of an episode is the change from one more copy of it."""
    rewards = np.array([[1.0, 0.0, 0.0], [1.0, 7.0, 0.0], [1.0, 4.0, 9.0]])

    def terms(rows):
        arrays = UNEQUAL[rows], rewards[rows], UNEQUAL_MASK[rows]
        plain = ratio_terms.mean_terms(rewards[rows].sum(1))
        return ope.importance_terms(*arrays, 0.5).minus(plain)

    every = np.repeat(np.arange(3), 1000)
    base = terms(every).value
    more = [terms(np.append(every, e)).value for e in range(3)]
    influence = 3000 * (np.array(more) - base)
    error = np.sqrt((influence**2).sum() / 3 / 2)
    got = terms(np.arange(3))
    assert got.value == pytest.approx(2.875 - (1 + 8 + 14) / 3)
    assert got.standard_error == pytest.approx(error, rel=1e-2)


def test_sums_of_ratios_by_hand():
    numbers = np.array([1.0, -1.0, 0.0])
    got = ratio_terms.ratios_of_means(numbers, np.array([2.0, 0.0, 0.0]))
    np.testing.assert_array_equal(got, [0.5, -np.inf, np.nan])
    # Every resample of one episode contains it once.
    (counts,) = ratio_terms.resamples(1, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(counts, np.ones((3, 1)))
    # A term of step 1: the ratio 6/2 times the share 3/4 that continues after step 0.
    terms = ratio_terms.Terms(
        np.array([[2.0], [4.0]]),
        np.array([[1.0], [1.0]]),
        np.array([1]),
        np.array([[1.0, 0.0], [2.0, 0.0]]),
        np.array([[2.0, 0.0], [2.0, 0.0]]),
    )
    assert terms.value == pytest.approx(3.0 * 3 / 4)
    with pytest.raises(ValueError, match="have factors"):
        terms.minus(terms)


def test_doubly_robust_by_hand():
    taken, values = np.array([[1.0, 2.0], [2.0, 3.0]]), np.array([[2.0, 1.0]] * 2)
    # r - Q is 0, 0 and 1, 1. Plain: (.6 / 2 + 2) + .5 (.6 / 2 + 2.2 / 2) = 2.3 + .7.
    # Weighted: (.6 / 2.2 + 2) + .5 (.6 / 2.2 + 1) = 32 / 11.
    for weighted, expected in ((False, 3.0), (True, 32 / 11)):
        terms = ope.doubly_robust_terms(
            RATIOS, REWARDS, taken, values, MASK, 0.5, weighted=weighted
        )
        assert terms.value == pytest.approx(expected)


def test_distribution_by_hand():
    returns, weights = np.array([7.0, 3.0]), np.array([0.6, 1.6])
    ratios, mask = weights[:, None], np.ones((2, 1), bool)
    below = ope.below_terms(ratios, returns, mask, 5.0)
    assert below.value == pytest.approx(8 / 11)
    # Of the weight 2.2: half is 1.1, all of it at 3. Nine tenths are 1.98, which is 1.6
    # at 3 and .38 at 7.
    assert ope.weighted_cvar(returns, weights, 0.5) == pytest.approx(3.0)
    assert ope.weighted_cvar(returns, weights, 0.9) == pytest.approx(7.46 / 1.98)
    assert ope.weighted_cvar(returns, weights, 1.0) == pytest.approx(9.0 / 2.2)


def test_intervals_by_hand():
    # Two refits 1 and 3: deviation sqrt(2), and Student's t with one degree is 12.706.
    low, high = ratio_terms.refit_interval(2.0, np.array([1.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 17.969, 2 + 17.969), abs=1e-3)
    # Residuals of episodes 1 and 5: mean 3, variance 8, normal quantile 1.96.
    # sqrt(17.969^2 + 1.96^2 (9 + 8 / 2)) = 19.309
    refits, left_over = np.array([1.0, 3.0]), np.array([1.0, 5.0])
    low, high = ratio_terms.refit_interval(2.0, refits, left_over=left_over)
    assert (low, high) == pytest.approx((2 - 19.309, 2 + 19.309), abs=1e-3)
    same = ratio_terms.mean_terms(np.full(4, 5.0))
    assert ratio_terms.studentised_interval(same) == (5.0, 5.0)
    assert ope.weighted_cvar_interval(np.full(3, 5.0), np.ones(3), 0.1) == (5.0, 5.0)
    # 1 and 2: standard error sqrt(.5 / 2). The difference to itself is 0.
    two = ratio_terms.mean_terms(np.array([1.0, 2.0]))
    assert two.standard_error == pytest.approx(0.5)
    assert two.minus(two).value == two.minus(two).standard_error == 0.0


def test_unbiased_on_a_game_that_is_enumerated():
    """R49: Two agents, two states, two steps: every episode with its probability."""
    rng = np.random.default_rng(3)
    moves = rng.dirichlet(np.ones(2), size=(2, 2, 2))
    rewards = rng.normal(size=(2, 2, 2))
    target, played = rng.dirichlet(np.ones(2), size=(2, 2, 2))  # [S, N, A] each
    gamma, guess = 0.9, rng.normal(size=(2, 2, 2, 2))  # any Q: [T, S, A, A]

    joint = np.einsum("sa,sb->sab", target[:, 0], target[:, 1])
    values = np.zeros(2)
    for _ in range(2):
        values = (joint * (rewards + gamma * moves @ values)).sum((1, 2))
    truth = values[0]

    chances, ratios, earned, taken, expected = [], [], [], [], []
    for a, b, c, d, after in itertools.product(range(2), repeat=5):
        path = [(0, a, b), (after, c, d)]
        each = [played[s, 0, x] * played[s, 1, y] for s, x, y in path]
        chances.append(np.prod(each) * moves[0, a, b, after])
        wanted = [target[s, 0, x] * target[s, 1, y] for s, x, y in path]
        ratios.append(np.cumprod(np.divide(wanted, each)))
        earned.append([rewards[step] for step in path])
        taken.append([guess[(t, *step)] for t, step in enumerate(path)])
        expected.append(
            [(joint[s] * guess[t, s]).sum() for t, (s, _, _) in enumerate(path)]
        )
    arrays = [np.array(part) for part in (ratios, earned, taken, expected)]
    mask = np.ones((len(chances), 2), bool)
    sampling = ope.importance_terms(*arrays[:2], mask, gamma, weighted=False)
    robust = ope.doubly_robust_terms(*arrays, mask, gamma, weighted=False)
    for terms in (sampling, robust):
        assert chances @ terms.numerators.sum(1) == pytest.approx(truth)
    # With the right probabilities of the episodes as weights, the tail is exact too.
    returns = arrays[1].sum(1)
    weights = np.array(chances) * arrays[0][:, 1]
    whole = ope.weighted_cvar(returns, weights, 1.0)
    assert whole == pytest.approx((weights * returns).sum())


def test_intervals_have_their_nominal_coverage():
    """R49: Skewed returns: the mean of an exponential distribution, 40 episodes."""
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).exponential(size=40)
        low, high = ratio_terms.studentised_interval(
            ratio_terms.mean_terms(values), reps=400, seed=seed
        )
        held += low <= 1.0 <= high
    # Binomial: 95 % of 200, three standard deviations of 3.1.
    assert 181 <= held <= 199


def test_products_over_many_steps_stay_finite():
    target, played = np.full((3, 400, 5), 0.9), np.full((3, 400, 5), 0.01)
    ratios = ope.cumulative_ratios(target, played, np.ones((3, 400), bool))
    mask = np.ones((3, 400), bool)
    terms = ope.importance_terms(ratios, np.ones((3, 400)), mask, 1.0)
    assert terms.value == pytest.approx(400.0)
    assert ope.effective_sample_size(ratios[:, -1]) == pytest.approx(3.0)
