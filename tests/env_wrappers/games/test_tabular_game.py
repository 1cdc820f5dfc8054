"""The tabular games: tables, values worked out by hand, and a user's own tables.

Values of the shortcut at the fork with n = 0, 1 and 2 loads on the bridge, for discount
.95, failure .1 and rho .3:

    plain            10, 10.985,  11.97     5 (2 - n) + .95 * .9 * 7 n
    contamination    10,  9.1895,  8.379    5 (2 - n) + .95 * .7 * .9 * 7 n
    total variation  10,  8.99,    7.98     5 (2 - n) + .95 * (.7 - .1) * 7 n
"""

import itertools
import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils import parallel_to_aec

from rllib_risk.env_wrappers import (
    EnvConfigError,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.games.tabular_game import (
    BOTH_OVER,
    BRIDGE,
    END,
    FORK,
    ONE_OVER,
    RIVER,
    ROAD,
    TabularGame,
)
from rllib_risk.ops.robust_mdp import policy_value, robust_value_iteration

GAMMA, RHO = 0.95, 0.3
PAIRS = list(itertools.product((ROAD, BRIDGE), repeat=2))
SETS = ("plain", "contamination", "tv")
# values at the fork with 0, 1 and 2 loads on the bridge
SHORTCUT = {
    "plain": (10.0, 10.985, 11.97),
    "contamination": (10.0, 9.1895, 8.379),
    "tv": (10.0, 8.99, 7.98),
}
# three states, agents with 2, 1 and 3 actions: agent 0 moves on, agent 2 is paid
OWN = {
    "transitions": [
        [[[[0.5, 0.5, 0]] * 3], [[[0, 0.5, 0.5]] * 3]],
        [[[[0, 1, 0]] * 3], [[[0, 0, 1]] * 3]],
        [[[[0, 0, 1]] * 3]] * 2,
    ],
    "rewards": [[[[0, 1, 2]]] * 2, [[[0, 10, 20]]] * 2, [[[0, 0, 0]]] * 2],
    "terminal_states": [2],
}


def values_of(kind, problem="shortcut", over="next_value", failure=0.1):
    """Action values at the fork, [2, 2]."""
    mdp = TabularGame.joint_mdp(problem=problem, failure_probability=failure)
    if kind == "plain":
        _, q = robust_value_iteration(mdp, gamma=GAMMA)
    else:
        _, q = robust_value_iteration(
            mdp, gamma=GAMMA, rho=RHO, uncertainty=kind, over=over
        )
    return q[FORK].reshape(2, 2)


@pytest.mark.parametrize("kind", SETS)
def test_values_of_the_shortcut(kind):
    none, one, two = SHORTCUT[kind]
    q = values_of(kind)
    np.testing.assert_allclose(q, [[none, one], [one, two]], atol=1e-9)
    best = np.unravel_index(q.argmax(), (2, 2))
    assert best == ((BRIDGE, BRIDGE) if kind == "plain" else (ROAD, ROAD))
    # the values are a sum of one term per agent
    assert q[0, 0] + q[1, 1] == pytest.approx(q[0, 1] + q[1, 0])


@pytest.mark.parametrize("kind", SETS)
def test_values_of_the_convoy(kind):
    none, _, two = SHORTCUT[kind]
    q = values_of(kind, "convoy")
    np.testing.assert_allclose(q, [[none, 5.0], [5.0, two]], atol=1e-9)
    # not monotonic: the order of agent 0's ROAD and BRIDGE depends on agent 1's action
    assert q[ROAD, ROAD] > q[BRIDGE, ROAD] and q[ROAD, BRIDGE] < q[BRIDGE, BRIDGE]


def test_values_over_the_transition():
    # .7 of the road's 10; bridge under contamination .7 of 8.379. Under total variation
    # the far side is worth .7 * 14 = 9.8 and the fork (.7 - .1) * .95 * 9.8.
    q = values_of("contamination", over="transition")
    np.testing.assert_allclose([q[0, 0], q[1, 1]], [7.0, 5.8653], atol=1e-9)
    q = values_of("tv", over="transition")
    np.testing.assert_allclose([q[0, 0], q[1, 1]], [7.0, 5.586], atol=1e-9)


@pytest.mark.parametrize("problem", ["shortcut", "convoy"])
@pytest.mark.parametrize(("kind", "turn"), [("contamination", 0.1646), ("tv", 0.1481)])
def test_where_the_robust_choice_turns(problem, kind, turn):
    # 1 - 10 / 11.97 and .9 - 10 / 13.3
    mdp = TabularGame.joint_mdp(problem=problem)
    for rho, road in ((turn - 1e-3, False), (turn + 1e-3, True), (0.45, True)):
        _, q = robust_value_iteration(mdp, gamma=GAMMA, rho=rho, uncertainty=kind)
        best = q[FORK].argmax()
        assert best == (0 if road else 3)


@pytest.mark.parametrize(("kind", "worst"), [("contamination", 0.37), ("tv", 0.4)])
def test_the_robust_value_holds_within_the_set(kind, worst):
    # .1 + .3 * .9 = .37 and .1 + .3 = .4: the worst failure probabilities in the sets
    robust = values_of(kind)
    for failure in (0.0, 0.1, 0.2, 0.3, 0.35):
        assert (values_of("plain", failure=failure) >= robust - 1e-9).all()
    np.testing.assert_allclose(values_of("plain", failure=worst), robust, atol=1e-9)
    assert values_of("plain", failure=worst + 0.05)[1, 1] < robust[1, 1]


def test_returns_on_worn_bridges():
    for failure in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        mdp = TabularGame.joint_mdp(failure_probability=failure)
        returns = [
            policy_value(mdp, np.full(5, joint), gamma=1.0, step_limit=100)[mdp.start]
            for joint in range(4)
        ]
        one = 5 + 7 * (1 - failure)
        np.testing.assert_allclose(returns, [10, one, one, 14 * (1 - failure)])


@pytest.mark.parametrize("problem", ["shortcut", "convoy"])
@pytest.mark.parametrize("joint", PAIRS)
def test_what_is_played_is_what_is_tabled(problem, joint):
    """Compares every play of the env with the rules, which are written again here."""
    env = make_team_env("tabular", {"problem": problem, "failure_probability": 0.3})
    loads = sum(joint)
    crosses = loads == 2 or (loads == 1 and problem == "shortcut")
    seen = []
    for seed in range(400):
        obs, _ = env.reset(seed=seed)
        assert obs["state"].tolist() == np.eye(5)[FORK].tolist()
        obs, reward, terminated, truncated, info = env.step(joint)
        assert reward == 5.0 * (2 - loads)
        place = int(obs["state"].argmax())
        assert obs["obs"].tolist() == np.eye(5)[[place, place]].tolist()
        assert terminated == (not crosses) and not truncated and info == {}
        seen.append(place)
        if terminated:
            continue
        _, reward, terminated, truncated, _ = env.step([seed % 2, 0])
        assert reward == (0.0 if place == RIVER else 7.0 * loads)
        assert terminated and not truncated
    if not crosses:
        assert set(seen) == {END}
        return
    assert set(seen) == {RIVER, ONE_OVER if loads == 1 else BOTH_OVER}
    # 120 falls expected of 400, with a standard deviation of 9.2
    assert abs(seen.count(RIVER) - 120) < 40


def test_a_seed_is_no_luckier_on_a_worse_bridge():
    def fell(failure, seed):
        env = make_team_env("tabular", {"failure_probability": failure})
        env.reset(seed=seed)
        return env.step([BRIDGE, BRIDGE])[0]["state"].argmax() == RIVER

    falls = np.array([[fell(f, seed) for f in (0, 0.2, 0.5, 1)] for seed in range(60)])
    assert not falls[:, 0].any() and falls[:, 3].all()
    assert (np.diff(falls.astype(int), axis=1) >= 0).all()
    assert 0 < falls[:, 1].sum() < falls[:, 2].sum() < 60


MAKERS = [
    TabularGame,
    lambda: TabularGame("convoy"),
    lambda: TabularGame(**OWN, episode_limit=3),
]


@pytest.mark.parametrize("make", MAKERS)
def test_pettingzoo_accepts_them(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(make(), num_cycles=1000)
        parallel_seed_test(make, num_cycles=100)
        state_test(parallel_to_aec(make()), make())


@pytest.mark.parametrize("config", [{}, {"problem": "convoy"}, OWN])
def test_the_check_has_no_findings(config):
    report = check_env("tabular", config)
    assert report.ok, str(report)
    assert {finding.level for finding in report.findings} == {"ok"}


def test_tables_of_ones_own():
    env = make_team_env("tabular", {**OWN, "episode_limit": 4})
    spec = env.spec_team
    assert (spec.num_agents, spec.num_actions, spec.state_size) == (3, 3, 3)
    obs, _ = env.reset(seed=0)
    assert obs["action_mask"].tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    # agent 0 plays 0, which stays in state 1; agent 2 picks the pay
    place, rows = 0, []
    for _ in range(50):
        env.reset(seed=len(rows))
        place = 0
        for step in range(4):
            obs, reward, terminated, truncated, _ = env.step([0, 0, step % 3])
            assert reward == (step % 3) * (10 if place == 1 else 1)
            after = int(obs["state"].argmax())
            assert after in ((0, 1) if place == 0 else (1,))
            place = after
            assert (terminated, truncated) == (False, step == 3)
        rows.append(place)
    # state 0 is left with probability 15 / 16 within four steps
    assert 40 < rows.count(1) <= 50
    mdp = TabularGame.joint_mdp(**OWN)
    assert mdp.next_states.shape == (3, 6, 3)
    # joint action (u_0, 0, u_2) is number 3 u_0 + u_2
    assert mdp.rewards[1, :, 0].tolist() == [0, 10, 20, 0, 10, 20]
    assert mdp.probabilities[0, 3].tolist() == [0, 0.5, 0.5]
    assert mdp.terminals[0, 0].tolist() == [False, False, True]
    # Best at discount .5: to stay, for 20 a step in state 1, 20 / (1 - .5) = 40. In
    # state 0, staying: V = 2 + .5 (.5 V + .5 * 40) = 16; moving: 2 + .5 * .5 * 40 = 12.
    values, q = robust_value_iteration(mdp, gamma=0.5)
    np.testing.assert_allclose(values[:2], [16.0, 40.0])
    np.testing.assert_allclose(q[0, [2, 5]], [16.0, 12.0])


def test_rewards_may_depend_on_the_next_state():
    config = {
        "transitions": [[[0.5, 0.5]], [[0.0, 1.0]]],
        "rewards": [[[1.0, -1.0]], [[0.0, 0.0]]],
        "terminal_states": [1],
    }
    env = make_team_env("tabular", config)
    seen = set()
    for seed in range(30):
        env.reset(seed=seed)
        obs, reward, terminated, *_ = env.step([0])
        seen.add((int(obs["state"].argmax()), reward, terminated))
    assert seen == {(0, 1.0, False), (1, -1.0, True)}
    # V = .5 (1 + .8 V) + .5 * -1 = 0
    values, _ = robust_value_iteration(TabularGame.joint_mdp(**config), gamma=0.8)
    assert values[0] == pytest.approx(0.0, abs=1e-9)


def test_it_is_registered():
    env = make_batched("tabular", {"problem": "convoy"}, 3)
    env.reset(np.arange(3), np.arange(3))
    step = env.step(np.array([[0, 0], [0, 1], [1, 1]]), np.ones(3, bool))
    assert step.rewards.tolist() == [10.0, 5.0, 0.0]
    assert step.terminateds.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"problem": "maze"}, "unknown problem 'maze'"),
        ({"failure_probability": 1.5}, "failure_probability must be in"),
        ({"failure_probability": "0.1"}, "failure_probability must be in"),
        ({"episode_limit": 0}, "episode_limit must be a positive"),
        ({"start_state": 1}, "need your own tables"),
        ({**OWN, "problem": "shortcut"}, "a problem and your own tables are given"),
        ({"transitions": OWN["transitions"]}, "rewards is missing"),
        ({"rewards": OWN["rewards"]}, "transitions is missing"),
        ({**OWN, "transitions": [[0.5, 0.5], [0, 1]]}, "must have a level"),
        ({**OWN, "transitions": [[[0.5, 0.6]], [[0, 1]]]}, "sum to 1"),
        ({**OWN, "transitions": [[["a"]]]}, "nested lists of numbers"),
        ({**OWN, "rewards": [[1.0]]}, "rewards must have the lengths"),
        ({**OWN, "rewards": [[[[0, 1, float("inf")]]] * 2] * 3}, "finite"),
        ({**OWN, "terminal_states": [3]}, "terminal_states must hold states"),
        ({**OWN, "start_state": "0"}, "start_state must hold states"),
        ({**OWN, "start_state": 2}, "must not be one of terminal_states"),
    ],
)
def test_invalid_tabular_games_are_refused(changes, text):
    with pytest.raises(EnvConfigError, match=text):
        TabularGame(**changes)


def test_misuse_says_so():
    env = TabularGame()
    actions = dict.fromkeys(env.possible_agents, 0)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(actions)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="has no action 2"):
        env.step(dict.fromkeys(env.possible_agents, 2))
