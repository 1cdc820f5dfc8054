"""Exploration: legal actions only, the right frequencies, and schedules."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.parts.exploration import (
    MAX_REPEATS,
    EpsilonGreedy,
    EpsilonZGreedy,
    PolicySampler,
    TeamEpsilonGreedy,
    action_probabilities,
    ladder,
)


def z_greedy(num_envs, num_agents, exponent):
    options = EpsilonZGreedy.Options(epsilon_z_exponent=exponent)
    return EpsilonZGreedy(num_envs, num_agents, options)


def make(kind, num_envs, num_agents, exponent=2.0):
    if kind == "policy":
        return PolicySampler(num_envs, num_agents)
    if kind == "z":
        return z_greedy(num_envs, num_agents, exponent)
    if kind == "team":
        return TeamEpsilonGreedy(num_envs, num_agents)
    return EpsilonGreedy(num_envs, num_agents)


def preferring(actions, num_actions):
    """Utilities that are highest at these actions."""
    return np.where(np.eye(num_actions, dtype=bool)[actions], 1.0, 0.0)


def masked(utilities, mask):
    """Utilities with -inf at unavailable actions, as the actor gives them."""
    return np.where(mask != 0, utilities, -np.inf)


def everything(num_envs, num_agents, num_actions):
    return np.ones((num_envs, num_agents, num_actions), np.uint8)


@settings(max_examples=50, derandomize=True)
@given(
    st.sampled_from(["plain", "team", "z", "policy"]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 6),
    st.floats(0, 1),
    st.integers(0, 2**32),
)
def test_only_legal_actions(kind, num_envs, num_agents, num_actions, epsilon, seed):
    rng = np.random.default_rng(seed)
    explorer = make(kind, num_envs, num_agents)
    shape = (num_envs, num_agents, num_actions)
    for _ in range(20):
        mask = (rng.random(shape) < 0.4).astype(np.uint8)
        legal = rng.integers(num_actions, size=shape[:2])
        np.put_along_axis(mask, legal[..., None], 1, axis=-1)
        utilities = masked(rng.normal(size=shape) * 100, mask)
        epsilons = np.full(num_envs, epsilon)
        actions = explorer.explore(utilities, mask, epsilons, rng)
        assert actions.shape == (num_envs, num_agents)
        assert np.take_along_axis(mask, actions[..., None], -1).all()
        explorer.reset(np.flatnonzero(rng.random(num_envs) < 0.2))


@pytest.mark.parametrize("kind", ["plain", "team", "z"])
def test_epsilon_zero_is_greedy(kind):
    rng = np.random.default_rng(0)
    greedy = rng.integers(5, size=(7, 3))
    explorer = make(kind, 7, 3)
    for _ in range(10):
        utilities = preferring(greedy, 5)
        actions = explorer.explore(utilities, everything(7, 3, 5), np.zeros(7), rng)
        np.testing.assert_array_equal(actions, greedy)


def test_frequencies():
    # Four of five actions are legal, epsilon 0.4: each of the others 0.4 / 4 = 0.1, the
    # greedy one 0.6 + 0.1. 40 000 draws: one standard deviation is 0.0023 at most.
    rng = np.random.default_rng(1)
    mask = everything(10_000, 4, 5)
    mask[..., 1] = 0
    utilities = masked(preferring(np.full((10_000, 4), 2), 5), mask)
    explorer, epsilon = EpsilonGreedy(10_000, 4), np.full(10_000, 0.4)
    actions = explorer.explore(utilities, mask, epsilon, rng)
    shares = np.bincount(actions.ravel(), minlength=5) / actions.size
    np.testing.assert_allclose(shares, [0.1, 0, 0.7, 0.1, 0.1], atol=0.01)


def test_each_environment_has_its_own_epsilon_and_each_agent_its_own_draw():
    rng = np.random.default_rng(2)
    epsilon = np.array([0.0, 0.5, 1.0])
    explorer = EpsilonGreedy(3, 2)
    greedy = preferring(np.zeros((3, 2), np.int64), 1000)
    mask = everything(3, 2, 1000)  # a random action is hardly ever the greedy one
    moved = np.array(
        [explorer.explore(greedy, mask, epsilon, rng) != 0 for _ in range(2000)]
    )
    np.testing.assert_allclose(moved.mean(axis=(0, 2)), [0, 0.5, 1.0], atol=0.03)
    # Both agents of the second environment at once: 0.5 * 0.5.
    assert moved[:, 1].all(axis=-1).mean() == pytest.approx(0.25, abs=0.04)


def test_joint_frequencies_with_one_coin_for_the_team():
    # Two agents of two actions, greedy action 0, epsilon 0.4. The team is random with
    # probability 0.4, and each pair then has 1/4. So (0, 0): 0.6 + 0.1; the others 0.1
    # each. Independent agents would give 0.8^2 = 0.64, 0.16, 0.16, 0.04.
    # 100 000 draws: one standard deviation is 0.0015 at most.
    rng = np.random.default_rng(8)
    draws = 100_000
    greedy = preferring(np.zeros((draws, 2), np.int64), 2)
    epsilon = np.full(draws, 0.4)
    shares = {}
    for kind in ("team", "plain"):
        actions = make(kind, draws, 2).explore(
            greedy, everything(draws, 2, 2), epsilon, rng
        )
        pairs = np.bincount(actions @ [2, 1], minlength=4)
        shares[kind] = pairs / draws
    np.testing.assert_allclose(shares["team"], [0.7, 0.1, 0.1, 0.1], atol=0.008)
    np.testing.assert_allclose(shares["plain"], [0.64, 0.16, 0.16, 0.04], atol=0.008)


def test_the_whole_team_explores_or_no_agent_does():
    # A random action out of 1000 is hardly ever the greedy one. Every
    # environment draws once per step, with its own epsilon.
    rng = np.random.default_rng(9)
    epsilon = np.array([0.0, 0.5, 0.5, 1.0])
    explorer = TeamEpsilonGreedy(4, 3)
    mask = everything(4, 3, 1000)
    mask[:, 2, 500:] = 0
    greedy = masked(preferring(np.zeros((4, 3), np.int64), 1000), mask)
    actions = np.array(
        [explorer.explore(greedy, mask, epsilon, rng) for _ in range(2000)]
    )
    moved = actions != 0
    together = moved.all(axis=-1) | ~moved.any(axis=-1)
    # A random action is the greedy one once in 1000, or in 500 for the last agent.
    assert together.mean() > 0.99
    shares = moved.mean(axis=(0, 2))
    np.testing.assert_allclose(shares, [0, 0.5, 0.5, 1.0], atol=0.04)
    assert moved[:, :3].any(axis=-1)[:, 0].sum() == 0
    # Two teams of epsilon 0.5, and two steps of one, agree half of the time.
    team = moved.any(axis=-1)
    assert (team[:, 1] == team[:, 2]).mean() == pytest.approx(0.5, abs=0.05)
    assert (team[1:, 1] == team[:-1, 1]).mean() == pytest.approx(0.5, abs=0.05)
    # Each agent of an exploring team draws its own action, and only available ones.
    assert actions[..., 2].max() < 500
    first, second = actions[:, 3, 0], actions[:, 3, 1]
    assert (first == second).mean() < 0.01


def repeat_lengths(exponent, steps=40, num_envs=20_000):
    """Length of the first repeat of every environment, at epsilon 1."""
    rng = np.random.default_rng(3)
    explorer = z_greedy(num_envs, 1, exponent)
    mask = everything(num_envs, 1, 50)
    greedy = preferring(np.zeros((num_envs, 1), np.int64), 50)
    lengths = np.zeros(num_envs, np.int64)
    running = np.ones(num_envs, bool)
    before = None
    for _ in range(steps):
        actions = explorer.explore(greedy, mask, np.ones(num_envs), rng)[:, 0]
        if before is not None:
            running &= actions == before
        lengths += running
        before = actions
    return lengths


def test_repeats_follow_the_zeta_distribution():
    # P(n) = n^-2 / zeta(2) with zeta(2) = pi^2 / 6: 0.6079, 0.1520, 0.0675. One in 50
    # repeats counts as longer, because the next one has the same action. This scales
    # P(1) by 49/50, adds P(1) P(1) / 50 to P(2), and so on.
    p = 6 / np.pi**2 / np.arange(1, 4) ** 2
    expected = [
        p[0] * 0.98,
        p[1] * 0.98 + p[0] * p[0] * 0.98 / 50,
        p[2] * 0.98 + 2 * p[0] * p[1] * 0.98 / 50,
    ]
    lengths = repeat_lengths(2.0)
    shares = [(lengths == n).mean() for n in (1, 2, 3)]
    np.testing.assert_allclose(shares, expected, atol=0.012)
    # A smaller exponent makes longer repeats.
    assert (repeat_lengths(1.2) > 10).mean() > 3 * (lengths > 10).mean()


class LongDraws:
    """A generator whose zeta draws are all enormous."""

    def __init__(self):
        self.random = np.random.default_rng(4).random

    def zipf(self, exponent, shape):
        return np.full(shape, 10**12)


def long_repeat():
    """One environment, one agent, in the middle of a very long repeat of action 2."""
    rng = LongDraws()
    explorer = z_greedy(1, 1, 2.0)
    only_two = np.array([[[0, 0, 1]]], np.uint8)
    utilities = masked(preferring(np.array([[2]]), 3), only_two)
    actions = explorer.explore(utilities, only_two, np.ones(1), rng)
    assert actions.item() == 2
    assert explorer.remaining.item() == MAX_REPEATS - 1
    return explorer, rng


GREEDY, FREE = preferring(np.array([[0]]), 3), np.ones((1, 1, 3), np.uint8)


def test_a_repeat_goes_on_without_further_draws_and_ends():
    explorer, rng = long_repeat()
    for _ in range(MAX_REPEATS - 1):
        action = explorer.explore(GREEDY, FREE, np.zeros(1), rng)
        assert action.item() == 2
    assert explorer.explore(GREEDY, FREE, np.zeros(1), rng).item() == 0


def test_a_repeat_ends_for_good_when_its_action_becomes_illegal():
    explorer, rng = long_repeat()
    no_two = np.array([[[1, 1, 0]]], np.uint8)
    greedy = masked(GREEDY, no_two)
    assert explorer.explore(greedy, no_two, np.zeros(1), rng).item() == 0
    assert explorer.explore(GREEDY, FREE, np.zeros(1), rng).item() == 0


def test_a_repeat_does_not_outlast_its_episode():
    explorer, rng = long_repeat()
    explorer.reset(np.array([0]))
    assert explorer.explore(GREEDY, FREE, np.zeros(1), rng).item() == 0


def test_same_generator_same_actions():
    for kind in ("plain", "team", "z", "policy"):
        runs = []
        for _ in range(2):
            rng = np.random.default_rng(5)
            explorer = make(kind, 4, 3)
            greedy = preferring(np.zeros((4, 3), np.int64), 6)
            mask = everything(4, 3, 6)
            runs.append(
                [explorer.explore(greedy, mask, np.full(4, 0.5), rng) for _ in range(9)]
            )
        np.testing.assert_array_equal(*runs)


def test_the_sampler_follows_the_policy_that_the_learner_assumes():
    # Two environments with epsilons of their own, one agent each; the second of five
    # actions is not available. 100 000 draws: one standard deviation is 0.0016 at most.
    draws = 100_000
    rng = np.random.default_rng(6)
    logits = np.array([[0.5, 9.0, -1.0, 2.0, 0.0], [-3.0, 9.0, 0.0, 1.0, 1.0]])
    mask = np.array([1, 0, 1, 1, 1], np.uint8)
    epsilon = np.array([0.1, 0.7])
    actions = PolicySampler(10_000, 1).explore(
        masked(np.tile(logits, (draws, 1))[:, None], mask),
        np.broadcast_to(mask, (2 * draws, 1, 5)),
        np.tile(epsilon, draws),
        rng,
    )
    for env in range(2):
        shares = np.bincount(actions[env::2, 0], minlength=5) / draws
        policy = action_probabilities(
            torch.from_numpy(logits[env]), torch.from_numpy(mask), epsilon[env]
        )
        np.testing.assert_allclose(shares, policy.numpy(), atol=0.008)
        assert shares[1] == 0


def test_at_epsilon_one_the_sampler_is_uniform_over_what_is_available():
    rng = np.random.default_rng(7)
    mask = everything(10_000, 4, 5)
    mask[..., 1] = 0
    logits = masked(rng.normal(size=mask.shape) * 10, mask)
    actions = PolicySampler(10_000, 1).explore(logits, mask, np.ones(10_000), rng)
    shares = np.bincount(actions.ravel(), minlength=5) / actions.size
    np.testing.assert_allclose(shares, [0.25, 0, 0.25, 0.25, 0.25], atol=0.01)


def test_ladder():
    # 0.4 ** (1 + 7 i / 3) for i = 0..3: from 0.4 to 0.4^8.
    rungs = ladder(0.4, 7.0, 4)
    np.testing.assert_allclose(rungs, [0.4, 0.4 ** (10 / 3), 0.4 ** (17 / 3), 0.4**8])
    np.testing.assert_array_equal(ladder(0.4, 0.0, 3), [0.4, 0.4, 0.4])
    np.testing.assert_array_equal(ladder(0.4, 7.0, 1), [0.4])
    np.testing.assert_array_equal(ladder(1.0, 7.0, 3), [1.0, 1.0, 1.0])
    np.testing.assert_array_equal(ladder(0.0, 7.0, 3), [0.0, 0.0, 0.0])
