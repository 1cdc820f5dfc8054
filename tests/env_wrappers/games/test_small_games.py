"""Matrix games, the two-step game, the MMDP, the memory game, the risky bandit.

Also tests what low risk and noisy rewards, two variants of MACN, change.
"""

import itertools
import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from rllib_risk.env_wrappers import EnvConfigError, make_team_env
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.games.matrix_games import PAYOFFS, MatrixGame
from rllib_risk.env_wrappers.games.memory_game import MemoryGame
from rllib_risk.env_wrappers.games.mmdp_game import MMDPGame
from rllib_risk.env_wrappers.games.risky_bandit import RiskyBandit
from rllib_risk.env_wrappers.games.two_step import TwoStepGame

# Games with other arguments than the defaults; test_wrapper_contract.py tests those.
GAMES = [
    lambda: MatrixGame([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
    lambda: MMDPGame(episode_limit=1),
    lambda: MemoryGame(num_agents=3, delay=0),
]


@pytest.mark.parametrize("make", GAMES)
def test_pettingzoo_accepts_them(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=1000)
        parallel_seed_test(make, num_cycles=100)


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


def test_the_tables_are_those_of_the_literature():
    # 8 in the corner, -12 along row and column 0, 0 elsewhere; the star has 6 on the
    # rest of the diagonal.
    for name, size, diagonal in (("P3", 3, 0), ("P4", 4, 0), ("P3_star", 3, 6)):
        expected = np.diag([8.0] + [diagonal] * (size - 1))
        expected[0, 1:] = expected[1:, 0] = -12.0
        np.testing.assert_array_equal(MatrixGame(name).payoff, expected)
    climb = [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
    np.testing.assert_array_equal(MatrixGame("climb").payoff, climb)
    assert set(PAYOFFS) == {"P3", "P4", "P3_star", "climb"}


def expectile(values, beta):
    """The q at which the errors v - q cancel if negative errors have weight beta."""
    low, high = min(values), max(values)
    for _ in range(60):
        q = (low + high) / 2
        errors = [value - q for value in values]
        total = sum(error if error > 0 else beta * error for error in errors)
        low, high = (q, high) if total > 0 else (low, q)
    return q


@pytest.mark.parametrize(
    ("beta", "rows", "columns", "payoff"),
    [
        # Means: -19 / 3, -17 / 3, 5 / 3 of the rows; -19 / 3, -23 / 3, 11 / 3 of the
        # columns. Both pick action 2, which pays 5.
        (1.0, (-6.3333, -5.6667, 1.6667), (-6.3333, -7.6667, 3.6667), 5),
        # Row 0 (11, -30, 0): (11 - q) + .1 (-30 - q) + .1 (0 - q) = 0, q = 8 / 1.2.
        # Row 1: 13 - 3 = 2.1 q. Row 2: 5 = 1.2 q. Column 1 (-30, 7, 0): 4 = 1.2 q.
        # Column 2 (0, 6, 5): 6 + .5 = 1.2 q. Both pick action 0, which pays 11.
        (0.1, (6.6667, 4.7619, 4.1667), (6.6667, 3.3333, 5.4167), 11),
    ],
)
def test_hysteresis_climbs(beta, rows, columns, payoff):
    # Values that independent learners fit to uniform play of the climbing game.
    table = MatrixGame("climb").payoff
    one = [expectile(row, beta) for row in table]
    two = [expectile(column, beta) for column in table.T]
    np.testing.assert_allclose(one, rows, atol=1e-4)
    np.testing.assert_allclose(two, columns, atol=1e-4)
    assert table[np.argmax(one), np.argmax(two)] == payoff


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
def test_invalid_payoff_tables_are_refused(payoff, text):
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


JOINT = list(itertools.product(range(2), repeat=2))


def test_the_mmdp_by_pairs():
    # live: (0, 0) pays 1 and stays, (0, 1) and (1, 0) stay, (1, 1) leaves for good
    live, absorbed = [1, 0], [0, 1]
    for first in JOINT:
        for second in JOINT:
            one, two = play("mmdp", {}, first, second)
            left = first == (1, 1)
            assert one[1:] == (float(first == (0, 0)), False, False, {})
            assert two[1:] == (float(second == (0, 0) and not left), False, False, {})
            for row, gone in ((one, left), (two, left or second == (1, 1))):
                state = absorbed if gone else live
                assert row[0]["state"].tolist() == state
                assert row[0]["obs"].tolist() == [state, state]
                assert row[0]["action_mask"].tolist() == [[1, 1], [1, 1]]
    obs, _ = make_team_env("mmdp").reset()
    assert obs["obs"].tolist() == [live, live] and obs["state"].tolist() == live


def test_the_mmdp_by_all_plays_of_four_steps():
    returns = []
    for joints in itertools.product(JOINT, repeat=4):
        *rows, last = play("mmdp", {"episode_limit": 4}, *joints)
        assert all(row[2:] == (False, False, {}) for row in rows)
        # counted in another way: the (0, 0) that come before any (1, 1)
        alive = list(itertools.takewhile(lambda joint: joint != (1, 1), joints))
        expected = alive.count((0, 0))
        assert sum(row[1] for row in (*rows, last)) == expected
        assert last[2:4] == (False, True), "a time limit truncates"
        assert last[4] == {"is_success": expected == 4, "episode_limit": True}
        returns.append(expected)
    assert len(returns) == 256 and max(returns) == 4 and returns.count(4) == 1
    # uniform play: sum over t of (3 / 4) ** t / 4 = 1 - (3 / 4) ** 4 = 175 / 256
    assert sum(returns) == 175


def test_the_best_play_of_the_mmdp():
    rewards = np.array([row[1] for row in play("mmdp", {}, *[(0, 0)] * 100)])
    assert rewards.sum() == 100
    # (1 - .99 ** 100) / (1 - .99) = (1 - .366032) / .01
    assert (0.99 ** np.arange(100) * rewards).sum() == pytest.approx(63.3968, abs=1e-4)
    config = {"time_limit_is_terminal": True}
    *_, last = play("mmdp", config, *[(0, 0)] * 100)
    assert last[2:4] == (True, False) and last[4]["is_success"]
    # nothing is carried over from one episode to the next
    env = make_team_env("mmdp", {"episode_limit": 2})
    for first, success in (((1, 1), False), ((0, 0), True), ((0, 0), True)):
        env.reset()
        rows = [env.step(joint) for joint in (first, (0, 0))]
        assert [row[3] for row in rows] == [False, True]
        assert rows[-1][4]["is_success"] == success


def test_a_sum_of_utilities_diverges_on_the_mmdp():
    # The targets of the live state, read off the game, with V = 10 and gamma = .9:
    # 1 + 9, 9, 9 and 0. Row means 9.5 and 4.5, columns alike, mean 7: the additive fit
    # is 12 at (0, 0), which is 3 / 4 + 5 / 4 * 9.
    def best_of_fit(gamma, value):
        targets = []
        for joint in JOINT:
            ((obs, reward, *_),) = play("mmdp", {}, joint)
            targets.append(reward + gamma * value * obs["state"][0])
        one_hot = [[*np.eye(2)[first], *np.eye(2)[second]] for first, second in JOINT]
        utilities, *_ = np.linalg.lstsq(np.array(one_hot), np.array(targets), None)
        return (np.array(one_hot) @ utilities).max()

    assert best_of_fit(0.9, 10.0) == pytest.approx(12.0)
    # At gamma .7 < 4 / 5 it settles at .75 / (1 - 1.25 * .7) = 6, above the true value
    # 1 / (1 - .7) = 3.33. At .99 it grows by the factor 1.2375 per round, from 1 to
    # over 1000 in 30 rounds (1.2375 ** 30 = 596, and the rewards add more than that).
    settled = grown = 1.0
    for _ in range(60):
        settled = best_of_fit(0.7, settled)
    for _ in range(30):
        grown = best_of_fit(0.99, grown)
    assert settled == pytest.approx(6.0, abs=0.01) and grown > 1000


def test_the_mmdp_passes_the_check():
    report = check_env("mmdp")
    assert report.ok, str(report)
    assert {finding.level for finding in report.findings} == {"ok"}
    assert report.summary["state_size"] == 2
    assert report.summary["episode_limit"] == 100


@pytest.mark.parametrize("episode_limit", [0, -1, 2.0, True, "100"])
def test_mmdps_that_never_end(episode_limit):
    with pytest.raises(EnvConfigError, match="episode_limit must be a positive"):
        MMDPGame(episode_limit)


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
            answer[1] = 2 - cue  # one wrong answer makes the reward 0
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
def test_bandits_without_a_risk_tradeoff_are_refused(kwargs, text):
    with pytest.raises(EnvConfigError, match=text):
        RiskyBandit(**kwargs)


@pytest.mark.parametrize(
    "make", [MatrixGame, TwoStepGame, MMDPGame, MemoryGame, RiskyBandit]
)
def test_misuse_says_so(make):
    env = make()
    actions = dict.fromkeys(env.possible_agents, 0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(actions)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="has no action 9"):
        env.step(dict.fromkeys(env.possible_agents, 9))


def random_walks(config):
    """Random MACN episodes; rows of joint action, observations, reward, ends, info."""
    env = make_team_env("macn", {"episode_limit": 10, **config})
    rng = np.random.default_rng(0)
    walks = []
    for seed in range(100):
        obs, _ = env.reset(seed=seed)
        done, rows = False, []
        while not done:
            joint = rng.integers(4, size=2)
            obs, reward, *ends, info = env.step(joint)
            seen = {key: value.tolist() for key, value in obs.items()}
            rows.append((joint.tolist(), seen, reward, ends, info))
            done = any(ends)
        walks.append(rows)
    return walks


def without_reward(walks):
    return [[(*row[:2], *row[3:]) for row in rows] for rows in walks]


def test_noise_and_low_risk_change_rewards_alone():
    plain = random_walks({})
    noisy = random_walks({"reward_noise_std": 3.0})
    low = random_walks({"cliff_reward": -50.0})
    # observations and ends are the same; both kinds of end occur
    assert without_reward(plain) == without_reward(noisy) == without_reward(low)
    ends = {tuple(rows[-1][3]) for rows in plain}
    assert ends == {(True, False), (False, True)}
    # every reward is noisy, also the last; low risk halves only the cost of a fall
    pairs = [
        (one[2], two[2], three[2])
        for walk, other, third in zip(plain, noisy, low, strict=True)
        for one, two, three in zip(walk, other, third, strict=True)
    ]
    assert {one for one, _, _ in pairs} >= {-1.0, -100.0}
    assert all(one != two for one, two, _ in pairs)
    assert all(three == (-50.0 if one == -100.0 else one) for one, _, three in pairs)
    # the same seeds give the same noise
    assert random_walks({"reward_noise_std": 3.0}) == noisy
