"""Matrix games, the two-step game, the memory game and the risky bandit."""

import itertools
import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils import parallel_to_aec

from rllib_risk.env_wrappers import EnvConfigError, make_team_env
from rllib_risk.env_wrappers.matrix_games import MatrixGame
from rllib_risk.env_wrappers.memory_game import MemoryGame
from rllib_risk.env_wrappers.risky_bandit import RiskyBandit
from rllib_risk.env_wrappers.two_step import TwoStepGame

GAMES = [
    MatrixGame,
    lambda: MatrixGame([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
    TwoStepGame,
    MemoryGame,
    lambda: MemoryGame(num_agents=3, delay=0),
    RiskyBandit,
]


@pytest.mark.parametrize("make", GAMES)
def test_pettingzoo_accepts_them(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=1000)
        parallel_seed_test(make, num_cycles=100)


@pytest.mark.parametrize("make", [TwoStepGame, MemoryGame])
def test_pettingzoo_accepts_their_states(make):
    # (the one-number states of the one-step games are meant, but PettingZoo warns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state_test(parallel_to_aec(make()), make())


def play(name, config, *joint_actions, seed=0):
    """Plays joint actions through the adapter; returns the rows after the reset."""
    env = make_team_env(name, config)
    env.reset(seed=seed)
    return [env.step(actions) for actions in joint_actions]


@pytest.mark.parametrize(
    ("name", "size", "best", "cell", "value"),
    [
        ("P3", 3, (0, 0), (0, 1), -12),
        ("P4", 4, (0, 0), (3, 3), 0),
        ("P3_star", 3, (0, 0), (2, 2), 6),
        ("climb", 3, (0, 0), (1, 1), 7),
    ],
)
def test_matrix_games(name, size, best, cell, value):
    env = make_team_env("matrix_game", {"payoff": name})
    spec = env.spec_team
    assert (spec.num_agents, spec.num_actions) == (2, size)
    obs, _ = env.reset()
    assert obs["obs"].tolist() == [[1.0], [1.0]] and obs["state"].tolist() == [1.0]
    payoffs = {}
    for joint in itertools.product(range(size), repeat=2):
        ((_, reward, terminated, truncated, info),) = play(
            "matrix_game", {"payoff": name}, joint
        )
        assert terminated and not truncated
        payoffs[joint] = reward
        assert info["is_success"] == (joint == best)
    assert max(payoffs, key=payoffs.get) == best and payoffs[cell] == value


def test_a_matrix_game_of_ones_own():
    # three agents with 2, 1 and 3 actions
    table = [[[0, 1, 2]], [[3, 4, 5]]]
    env = make_team_env("matrix_game", {"payoff": table})
    obs, _ = env.reset()
    assert obs["action_mask"].tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    assert env.step([1, 0, 2])[1] == 5.0


@pytest.mark.parametrize(
    ("payoff", "text"),
    [
        ("P5", "unknown payoff 'P5'"),
        ([[1, 2], [3]], "nested lists"),
        ([], "at least one"),
        ([["a"]], "nested lists"),
        ([[float("nan")]], "finite"),
    ],
)
def test_tables_that_are_none(payoff, text):
    with pytest.raises(EnvConfigError, match=text):
        MatrixGame(payoff)


def test_the_two_step_game():
    # Agent 0 picks the branch: 2A pays 7 always, 2B pays [[0, 1], [1, 8]].
    payoff = [[0, 1], [1, 8]]
    for first in itertools.product(range(2), repeat=2):
        for second in itertools.product(range(2), repeat=2):
            one, two = play("two_step", {}, first, second)
            assert one[1:4] == (0.0, False, False)
            expected = payoff[second[0]][second[1]] if first[0] else 7
            assert two[1:4] == (expected, True, False)
            assert two[4]["is_success"] == (expected == 8)
            state = [0, 0, 1] if first[0] else [0, 1, 0]
            assert one[0]["state"].tolist() == state
            assert one[0]["obs"].tolist() == [state, state]


def test_the_memory_game():
    env = make_team_env("memory_game", {"delay": 2, "num_agents": 3})
    cues = set()
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        cue = int(obs["obs"][0].argmax())
        cues.add(cue)
        assert obs["obs"].tolist() == [[1 - cue, cue, 0]] * 3
        for _ in range(2):  # two blank rows
            assert obs["action_mask"].tolist() == [[1, 0, 0]] * 3
            obs, reward, terminated, _, _ = env.step([0, 0, 0])
            assert obs["obs"].tolist() == [[0, 0, 0]] * 3
            assert reward == 0 and not terminated
        obs, *_ = env.step([0, 0, 0])
        assert obs["obs"].tolist() == [[0, 0, 1]] * 3, "go"
        assert obs["action_mask"].tolist() == [[0, 1, 1]] * 3
        answer = [1 + cue] * 3
        if seed % 2:
            answer[1] = 2 - cue  # one wrong answer spoils it
        _, reward, terminated, truncated, info = env.step(answer)
        assert terminated and not truncated
        assert reward == (0.0 if seed % 2 else 1.0)
        assert info["is_success"] == (reward == 1.0)
    assert cues == {0, 1}
    assert env.spec_team.episode_limit == 4


def test_memoryless_policies_get_a_half():
    # All deterministic joint answers at "go"; each is right for at most one of the two
    # equally likely cues, so the best memoryless value is 1/2.
    values = {}
    for joint in itertools.product((1, 2), repeat=2):
        right = [all(action == 1 + cue for action in joint) for cue in (0, 1)]
        values[joint] = sum(right) / 2
    assert max(values.values()) == 0.5
    # and the env agrees for the best of them: 400 seeds, standard error 0.025
    wins = [
        play("memory_game", {"delay": 0}, [0, 0], [1, 1], seed=seed)[-1][1]
        for seed in range(400)
    ]
    assert abs(np.mean(wins) - 0.5) < 0.125


@pytest.mark.parametrize("kwargs", [{"delay": -1}, {"delay": 1.5}, {"num_agents": 0}])
def test_memory_games_that_are_none(kwargs):
    with pytest.raises(EnvConfigError, match="must be an integer of at least"):
        MemoryGame(**kwargs)


def test_the_risky_bandit():
    def rewards(joint, num_seeds):
        env = make_team_env("risky_bandit")
        values = []
        for seed in range(num_seeds):
            env.reset(seed=seed)
            _, reward, terminated, _, info = env.step(joint)
            assert terminated and info["joint_safe"] == (joint == [0, 0])
            assert info["joint_risky"] == (joint == [1, 1])
            values.append(reward)
        return np.sort(values)

    assert set(rewards([0, 0], 10)) == {1.0}
    assert set(rewards([0, 1], 10)) == set(rewards([1, 0], 10)) == {-1.0}
    risky = rewards([1, 1], 2000)
    np.testing.assert_array_equal(risky, rewards([1, 1], 2000))
    assert set(risky) == {-5.0, 4.0}
    # P(-5) = 0.2, standard error 0.009
    assert abs((risky == -5).mean() - 0.2) < 0.045
    # The mean is .2 * -5 + .8 * 4 = 2.2 > 1: risky. CVaR at level a > .2 is
    # (.2 * -5 + (a - .2) * 4) / a = 4 - 1.8 / a, which is 1 at a = .6. At .5 it is .4
    # and at .7 it is 1.43.
    assert RiskyBandit().risk_threshold == pytest.approx(0.6)
    assert abs(risky.mean() - 2.2) < 0.4
    for level, expected in ((0.1, -5.0), (0.5, 0.4), (0.7, 4 - 1.8 / 0.7)):
        tail = risky[: int(level * len(risky))].mean()
        assert abs(tail - expected) < 0.9
        exact = (0.2 * -5 + (level - 0.2) * 4) / level if level > 0.2 else -5.0
        assert exact == pytest.approx(expected)
        assert (exact < 1.0) == (level < RiskyBandit().risk_threshold)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"low_probability": 0.0}, "strictly between 0 and 1"),
        ({"low_probability": 0.6}, "ordered low < mismatch < safe < mean"),
        ({"mismatch_reward": 2.0}, "ordered"),
        ({"safe_reward": "1"}, "must be numbers"),
    ],
)
def test_bandits_that_ask_nothing(kwargs, text):
    with pytest.raises(EnvConfigError, match=text):
        RiskyBandit(**kwargs)


@pytest.mark.parametrize("make", [MatrixGame, TwoStepGame, MemoryGame, RiskyBandit])
def test_misuse_says_so(make):
    env = make()
    actions = dict.fromkeys(env.possible_agents, 0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(actions)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="has no action 9"):
        env.step(dict.fromkeys(env.possible_agents, 9))
