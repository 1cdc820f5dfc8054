"""MACN's rules, through the PettingZoo API."""

import pickle
import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils import parallel_to_aec

from rllib_risk.env_wrappers import (
    EnvConfigError,
    TeamEnv,
    make_team_env,
)
from rllib_risk.env_wrappers.macn.env import DOWN, LEFT, MACN, RIGHT, UP


def play(env, joint_actions, seed=0):
    """Plays joint actions until the episode ends; returns the rows after the reset."""
    env.reset(seed=seed)
    rows = []
    for pair in joint_actions:
        rows.append(env.step(dict(zip(env.possible_agents, pair, strict=True))))
        if not env.agents:
            break
    return rows


def rewards_of(rows):
    return [row[1]["agent_0"] for row in rows]


def walk(width):
    """Up, along the edge, down: width + 1 moves."""
    return [UP, *[RIGHT] * (width - 1), DOWN]


@pytest.mark.parametrize("width", [7, 12])
def test_both_along_the_edge_is_the_optimum(width):
    # width + 1 moves; every one costs 1 except the last, which pays 0: -width
    rows = play(MACN(width=width), [(a, a) for a in walk(width)])
    assert len(rows) == width + 1
    assert rewards_of(rows) == [-1.0] * width + [0.0]
    _, _, terminations, truncations, infos = rows[-1]
    for agent in ("agent_0", "agent_1"):
        assert terminations[agent] and not truncations[agent]
        assert infos[agent] == {
            "is_success": True,
            "battle_won": True,
            "episode_limit": False,
        }
    assert not any(rows[-2][2].values())


@pytest.mark.parametrize(("width", "expected"), [(7, -7.5), (12, -12.5)])
def test_one_step_late_costs_half(width, expected):
    # The first agent needs width + 1 moves, the second bumps into the left wall first
    # and needs width + 2. So width steps at -1, one step at -0.5 (the first agent waits
    # on the goal by moving down against the wall), the last at 0: -width - 0.5.
    first = [*walk(width), DOWN]
    second = [LEFT, *walk(width)]
    rows = play(MACN(width=width), zip(first, second, strict=True))
    assert rewards_of(rows) == [-1.0] * width + [-0.5, 0.0]
    assert sum(rewards_of(rows)) == expected
    assert not any(rows[-2][2].values()), "one agent alone does not end the episode"
    assert all(rows[-1][2].values())


@pytest.mark.parametrize("cliff_reward", [-100.0, -50.0])
@pytest.mark.parametrize("joint", [(RIGHT, RIGHT), (RIGHT, UP), (UP, RIGHT)])
def test_a_fall_ends_it_and_is_paid_once(cliff_reward, joint):
    rows = play(MACN(cliff_reward=cliff_reward), [joint])
    assert rewards_of(rows) == [cliff_reward]
    assert all(rows[0][2].values()) and not any(rows[0][3].values())
    assert rows[0][4]["agent_0"]["is_success"] is False


def test_the_cliff_beats_the_goal():
    # agent 0 steps onto the goal (0, 2) while agent 1 steps onto the cliff (1, 0)
    env = MACN(layout=["..G", "C..", "..."], starts=[[0, 1], [0, 0]])
    rows = play(env, [(RIGHT, DOWN)])
    assert rewards_of(rows) == [-100.0]


def test_the_time_limit_truncates():
    # bumping into the left wall is safe and costs -1: -100 in 100 steps
    rows = play(MACN(), [(LEFT, LEFT)] * 200)
    assert len(rows) == 100 and sum(rewards_of(rows)) == -100.0
    _, _, terminations, truncations, infos = rows[-1]
    assert all(truncations.values()) and not any(terminations.values())
    assert infos["agent_1"]["episode_limit"] is True
    assert len(play(MACN(episode_limit=3), [(LEFT, LEFT)] * 9)) == 3


def test_success_in_the_last_step_is_no_truncation():
    # the optimum on width 7 takes 8 steps, exactly the limit
    rows = play(MACN(episode_limit=8), [(a, a) for a in walk(7)])
    assert all(rows[-1][2].values()) and not any(rows[-1][3].values())


def test_waiting_state_and_event():
    # agent 0 starts beside the goal, enters it and waits; agent 1 bumps into the wall
    layout = [".....", "0...G", "1...."]
    steps = [(RIGHT, LEFT)] * 6
    env = MACN(layout=layout)
    # three moves at -1, the fourth reaches the goal; then it waits against the wall
    assert rewards_of(play(env, steps)) == [-1.0, -1.0, -1.0, -0.5, -0.5, -0.5]
    env = MACN(layout=layout, goal_wait_mode="event")
    assert rewards_of(play(env, steps)) == [-1.0, -1.0, -1.0, -0.5, -1.0, -1.0]
    env = MACN(layout=layout, goal_wait_reward=-0.25)
    assert rewards_of(play(env, steps))[3:] == [-0.25] * 3


def test_an_agent_may_leave_the_goal_unless_it_absorbs():
    layout = ["....", "0.G.", "1..."]
    steps = [(RIGHT, LEFT), (RIGHT, LEFT), (RIGHT, LEFT)]
    assert rewards_of(play(MACN(layout=layout), steps)) == [-1.0, -0.5, -1.0]
    env = MACN(layout=layout, goal_absorbing=True)
    assert rewards_of(play(env, steps)) == [-1.0, -0.5, -0.5]


def test_step_reward():
    assert rewards_of(play(MACN(step_reward=-2.0), [(UP, LEFT)])) == [-2.0]


def test_the_view_as_codes():
    env = MACN()
    obs, _ = env.reset()
    # Lower left corner, both agents in it. Rows above, at and below the agent:
    # outside 1, free 0, other agent 4, cliff 2.
    expected = np.array([[1, 0, 0], [1, 4, 2], [1, 1, 1]]) / 5
    np.testing.assert_allclose(obs["agent_0"].reshape(3, 3), expected, rtol=1e-6)
    obs, *_ = env.step({"agent_0": UP, "agent_1": LEFT})
    expected = np.array([[1, 0, 0], [1, 0, 0], [1, 4, 2]]) / 5
    np.testing.assert_allclose(obs["agent_0"].reshape(3, 3), expected, rtol=1e-6)
    expected = np.array([[1, 4, 0], [1, 0, 2], [1, 1, 1]]) / 5
    np.testing.assert_allclose(obs["agent_1"].reshape(3, 3), expected, rtol=1e-6)


def test_the_view_of_the_goal():
    # agent 0 above the goal, agent 1 left of agent 0; then agent 0 steps onto the goal
    env = MACN(starts=[[2, 6], [2, 5]])
    obs, _ = env.reset()
    expected = np.array([[0, 0, 1], [4, 0, 1], [2, 3, 1]]) / 5
    np.testing.assert_allclose(obs["agent_0"].reshape(3, 3), expected, rtol=1e-6)
    obs, *_ = env.step({"agent_0": DOWN, "agent_1": RIGHT})
    # the other agent on the goal is code 5
    expected = np.array([[0, 0, 1], [0, 0, 1], [2, 5, 1]]) / 5
    np.testing.assert_allclose(obs["agent_1"].reshape(3, 3), expected, rtol=1e-6)
    expected = np.array([[0, 4, 1], [2, 3, 1], [1, 1, 1]]) / 5
    np.testing.assert_allclose(obs["agent_0"].reshape(3, 3), expected, rtol=1e-6)


def test_the_view_as_flags():
    env = MACN(starts=[[2, 6], [2, 5]], obs_encoding="onehot")
    obs, *_ = play(env, [(DOWN, RIGHT)])[0]
    view = obs["agent_1"].reshape(3, 3, 4)  # outside, cliff, goal, other
    outside = [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    cliff = [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    goal = other = [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
    for channel, expected in enumerate((outside, cliff, goal, other)):
        np.testing.assert_array_equal(view[:, :, channel], expected)


def test_the_state():
    env = MACN()
    env.reset()
    env.step({"agent_0": UP, "agent_1": LEFT})
    # cells are numbered row by row: (2, 0) is 14, (3, 0) is 21; 28 cells per agent
    assert np.flatnonzero(env.state()).tolist() == [14, 28 + 21]
    assert MACN(width=12).state_space.shape == (96,)
    env = MACN(state_encoding="coordinates", starts=[[0, 3], [2, 6]])
    env.reset()
    # rows over 3, columns over 6
    np.testing.assert_allclose(env.state(), [0, 0.5, 2 / 3, 1], rtol=1e-6)


def test_reward_noise():
    def returns(seed, std):
        return rewards_of(play(MACN(reward_noise_std=std), [(LEFT, LEFT)] * 100, seed))

    noisy = np.array(returns(3, 0.5))
    assert returns(3, 0.5) == noisy.tolist(), "the same seed, the same noise"
    assert returns(4, 0.5) != noisy.tolist()
    assert returns(3, 0.0) == [-1.0] * 100
    # 400 draws: the mean lies within 5 standard errors (0.125), the standard deviation
    # within 5 of its own (about 0.5 / sqrt(800) = 0.018)
    sample = np.concatenate([returns(seed, 0.5) for seed in range(4)]) + 1.0
    assert abs(sample.mean()) < 0.125 and abs(sample.std() - 0.5) < 0.09
    env = MACN(reward_noise_std=1.0)
    first = rewards_of(play(env, [(LEFT, LEFT)] * 3))
    env.reset()
    again = [env.step({"agent_0": LEFT, "agent_1": LEFT})[1]["agent_0"] for _ in "abc"]
    assert again != first, "without a seed the generator goes on"


def test_maps():
    grid = """
        0.G
        .C1
    """
    env = MACN(layout=grid)
    assert env.map.starts == ((0, 0), (1, 2))
    assert env.map.cliff.tolist() == [[False] * 3, [False, True, False]]
    assert env.map.goal.tolist() == [[False, False, True], [False] * 3]
    assert MACN(layout=["S.G"]).map.starts == ((0, 0), (0, 0))
    assert MACN(layout=["S.G", "S.."]).map.starts == ((0, 0), (1, 0))
    assert MACN(layout="S.G").map.width == 3
    assert MACN(width=12).map.cliff[3].sum() == 10
    assert MACN(starts=[[0, 0], [3, 0]]).map.starts == ((0, 0), (3, 0))


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"width": 2}, "width must be an integer of at least 3"),
        ({"width": 7.5}, "width"),
        ({"height": 1}, "height"),
        ({"width": 100, "height": 100}, "at most 1024"),
        ({"starts": [[0, 0]]}, "starts must be two cells"),
        ({"starts": [[0, 0], [9, 9]]}, "outside the map"),
        ({"starts": [[3, 1], [0, 0]]}, "cliff or goal"),
        ({"starts": 3}, "starts must be two cells"),
        ({"layout": "clasic"}, "unknown layout 'clasic'"),
        ({"layout": ["S.G", "...."]}, "one length"),
        ({"layout": ["S#G"]}, "unknown letters"),
        ({"layout": ["S.."]}, "no goal"),
        ({"layout": ["..G"]}, "no start"),
        ({"layout": ["0.G"]}, "one '0' and one '1'"),
        ({"layout": ["S.G"], "starts": [[0, 0], [0, 0]]}, "given twice"),
        ({"layout": ["S.G"], "width": 7}, "remove the argument width"),
        ({"layout": 7}, "layout must be"),
        ({"cliff_reward": "low"}, "cliff_reward must be a number"),
        ({"step_reward": float("nan")}, "finite"),
        ({"reward_noise_std": -1.0}, "negative"),
        ({"episode_limit": 0}, "episode_limit"),
        ({"goal_wait_mode": "once"}, "goal_wait_mode must be one of"),
        ({"obs_encoding": "rgb"}, "obs_encoding"),
        ({"state_encoding": "rgb"}, "state_encoding"),
        ({"render_mode": "human"}, "render_mode"),
        ({"goal_absorbing": 1}, "goal_absorbing"),
    ],
)
def test_wrong_arguments_say_so(kwargs, text):
    with pytest.raises(EnvConfigError, match=text):
        MACN(**kwargs)


def test_misuse_says_so():
    env = MACN()
    with pytest.raises(RuntimeError, match="reset"):
        env.step({"agent_0": 0, "agent_1": 0})
    env.reset()
    with pytest.raises(ValueError, match="action 4"):
        env.step({"agent_0": 4, "agent_1": 0})


def test_render():
    env = MACN(render_mode="ansi")
    env.reset()
    assert env.render() == ".......\n.......\n.......\n*CCCCCG"
    env.step({"agent_0": UP, "agent_1": LEFT})
    assert env.render().splitlines()[2:] == ["0......", "1CCCCCG"]
    env = make_team_env("macn", {"render_mode": "rgb_array"})
    env.reset(seed=0)
    frame = env.render()
    assert frame.dtype == np.uint8 and frame.shape == (4 * 48, 7 * 48, 3)
    # free, start, cliff, goal, two agents and the lines
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 7
    assert MACN().render() is None


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"width": 12, "obs_encoding": "onehot"},
        {"state_encoding": "coordinates", "reward_noise_std": 1.0},
        {"layout": ["0..C", "1..G"], "goal_absorbing": True},
    ],
)
def test_pettingzoo_accepts_it(kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Random play may lead both agents to the first cell, with coordinates of zero.
        warnings.filterwarnings("ignore", "State numpy array is all zeros")
        parallel_api_test(MACN(**kwargs), num_cycles=1000)
        parallel_seed_test(lambda: MACN(**kwargs), num_cycles=100)
        state_test(parallel_to_aec(MACN(**kwargs)), MACN(**kwargs))


def test_pickle_goes_on_alike():
    env = TeamEnv(MACN(reward_noise_std=1.0))
    env.reset(seed=5)
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(5):
        one, two = env.step([UP, LEFT]), twin.step([UP, LEFT])
        np.testing.assert_array_equal(one[0]["obs"], two[0]["obs"])
        assert one[1:] == two[1:]
