"""MACN with wind: its effect, seeds, the twin, the tables, and known optima."""

import itertools

import numpy as np
import pytest

from rllib_risk.env_wrappers import (
    EnvConfigError,
    LoopedTeamEnvs,
    TeamEnv,
)
from rllib_risk.env_wrappers.macn.batched import BatchedMACN
from rllib_risk.env_wrappers.macn.env import DOWN, LEFT, MACN, RIGHT, UP
from rllib_risk.ops.robust_mdp import policy_value, robust_value_iteration


def play(env, joint_actions, seed=0):
    """Plays joint actions to the episode's end; returns cells and rewards of steps."""
    env.reset(seed=seed)
    rows = []
    for pair in joint_actions:
        row = env.step(dict(zip(env.possible_agents, pair, strict=True)))
        rows.append((cells_of(env), row[1]["agent_0"]))
        if not env.agents:
            break
    return rows


def cells_of(env):
    """The cells of both agents, read from the state."""
    grid = env.map
    places = env.state().reshape(2, grid.height, grid.width)
    return [tuple(np.argwhere(place)[0].tolist()) for place in places]


def gale(direction, **config):
    """A map of 3 x 4 with a wind that always pushes."""
    return MACN(
        width=4, height=3, wind_probability=1.0, wind_direction=direction, **config
    )


def test_where_it_pushes():
    # the agents move against the walls beside the start (2, 0), so only the wind moves
    # them; down and left the wind is stopped by the walls as well
    for direction, cell in (("up", (1, 0)), ("down", (2, 0)), ("left", (2, 0))):
        rows = play(gale(direction), [(LEFT, DOWN)])
        assert rows == [([cell, cell], -1.0)]
    # right is the cliff
    assert play(gale("right"), [(LEFT, LEFT)]) == [([(2, 1), (2, 1)], -100.0)]


def test_wind_acts_after_the_move_and_before_the_reward():
    # up and blown back down; up and blown to the right, which is the edge
    assert play(gale("down"), [(UP, UP)]) == [([(2, 0), (2, 0)], -1.0)]
    assert play(gale("right"), [(UP, UP)]) == [([(1, 1), (1, 1)], -1.0)]
    # along the edge at (1, 0): right to (1, 1), down into the cliff
    env = gale("down", layout=["....", "S...", ".CCG"])
    assert play(env, [(RIGHT, LEFT)]) == [([(2, 1), (2, 0)], -100.0)]


def test_who_has_fallen_is_not_blown_back():
    # right from the start is the cliff (2, 1); a wind upwards would lift them off it
    rows = play(gale("up"), [(RIGHT, LEFT)])
    assert rows == [([(2, 1), (1, 0)], -100.0)]


@pytest.mark.parametrize("absorbing", [False, True])
def test_the_goal_holds_only_if_it_is_absorbing(absorbing):
    # both step onto the goal (2, 3) and a wind to the left throws them onto the cliff
    config = {"starts": [[1, 3], [1, 3]], "goal_absorbing": absorbing}
    rows = play(gale("left", **config), [(DOWN, DOWN)])
    expected = ([(2, 3), (2, 3)], 0.0) if absorbing else ([(2, 2), (2, 2)], -100.0)
    assert rows == [expected]


def test_each_agent_is_blown_on_its_own_by_the_seed():
    """The draws are repeated here: noise first, then one row of two per step."""
    limit, chance = 12, 0.4
    env = MACN(
        width=4,
        height=9,
        episode_limit=limit,
        wind_probability=chance,
        reward_noise_std=0.5,
    )
    seen = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = rng.normal(0.0, 0.5, limit)
        pushes = rng.random((limit, 2)) < chance
        rows, expected = [8, 8], []
        for step in range(limit):
            # agents go up, and the wind pushes down; the start is row 8
            rows = [
                min(max(row - 1, 0) + int(p), 8)
                for row, p in zip(rows, pushes[step], strict=True)
            ]
            expected.append(([(row, 0) for row in rows], -1.0 + noise[step]))
            seen.add(tuple(pushes[step].tolist()))
        assert play(env, [(UP, UP)] * limit, seed) == expected
    assert len(seen) == 4, "none, one, the other, both"


def test_old_seeds_give_the_old_numbers():
    config = {"reward_noise_std": 2.0, "episode_limit": 6}
    for seed in range(5):
        rewards = [
            [
                reward
                for _, reward in play(MACN(**config, **wind), [(LEFT, LEFT)] * 6, seed)
            ]
            for wind in ({}, {"wind_probability": 0.0}, {"wind_probability": 0.7})
        ]
        # at the wall the wind can change nothing except the draws
        noise = np.random.default_rng(seed).normal(0.0, 2.0, 6)
        assert rewards == [(noise - 1.0).tolist()] * 3
    # without a seed the generator goes on as it does without wind
    env, rng = MACN(**config), np.random.default_rng(3)
    env.reset(seed=3)
    env.reset()
    reward = env.step(dict.fromkeys(env.agents, LEFT))[1]["agent_0"]
    assert reward == -1.0 + rng.normal(0.0, 2.0, 12)[6]


def test_stronger_wind_only_adds_pushes():
    def lifted(chance, seed):
        env = MACN(width=4, height=30, wind_probability=chance, wind_direction="up")
        return np.array([c for c, _ in play(env, [(LEFT, LEFT)] * 15, seed)])[:, :, 0]

    for seed in range(5):
        heights = [lifted(chance, seed) for chance in (0.0, 0.2, 0.6, 1.0)]
        for less, more in itertools.pairwise(heights):
            pushed = [-np.diff(h, axis=0, prepend=[[29, 29]]) for h in (less, more)]
            assert (pushed[0] <= pushed[1]).all() and (pushed[0] < pushed[1]).any()


CASES = [
    ({"wind_probability": 0.15}, {}),
    ({"wind_probability": 0.3, "wind_direction": "right", "episode_limit": 7}, {}),
    (
        {"wind_probability": 0.5, "wind_direction": "up", "reward_noise_std": 1.0},
        {"state": "concat_obs"},
    ),
    (
        {
            "wind_probability": 0.3,
            "wind_direction": "left",
            "goal_absorbing": True,
            "goal_wait_mode": "event",
            "layout": ["0...", "..CG", "1..."],
            "episode_limit": 15,
        },
        {"time_limit_is_terminal": True},
    ),
    ({"wind_probability": 1.0, "width": 12, "obs_encoding": "onehot"}, {}),
]


@pytest.mark.parametrize(("kwargs", "adapter"), CASES)
def test_the_twin_agrees(kwargs, adapter):
    num_envs, num_steps = 8, 800
    twin = BatchedMACN(num_envs, **kwargs, **adapter)
    loop = LoopedTeamEnvs(lambda: TeamEnv(MACN(**kwargs), **adapter), num_envs)
    assert twin.spec == loop.spec
    rng = np.random.default_rng(1)
    running, ends = np.zeros(num_envs, bool), set()
    for _ in range(num_steps):
        # leave some finished slots alone for a while
        idle = np.flatnonzero(~running)
        slots = idle[rng.random(idle.size) < 0.7]
        seeds = rng.integers(0, 2**31, slots.size)
        twin.reset(slots, seeds)
        loop.reset(slots, seeds)
        running[slots] = True
        # away from the cliff more often than not
        actions = rng.choice(4, (num_envs, 2), p=[0.4, 0.15, 0.15, 0.3])
        active = running & (rng.random(num_envs) < 0.9)
        one, two = twin.step(actions, active), loop.step(actions, active)
        np.testing.assert_array_equal(one.rewards, two.rewards)
        np.testing.assert_array_equal(one.terminateds, two.terminateds)
        np.testing.assert_array_equal(one.truncateds, two.truncateds)
        assert one.infos == two.infos and not one.crashed
        np.testing.assert_array_equal(twin.obs[active], loop.obs[active])
        np.testing.assert_array_equal(twin.state[active], loop.state[active])
        over = one.terminateds | one.truncateds
        running &= ~over
        for slot in np.flatnonzero(over):
            info = one.infos[slot]
            ends.add((info["is_success"], info["episode_limit"]))
    assert (False, False) in ends, "no agent fell, so this test tests nothing"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"wind_probability": 1.2}, r"wind_probability must be in \[0, 1\], not 1.2"),
        ({"wind_probability": -0.1}, "wind_probability must be in"),
        ({"wind_probability": "0.1"}, "wind_probability must be a number"),
        ({"wind_direction": "north"}, "wind_direction must be one of"),
    ],
)
def test_wrong_arguments_say_so(config, text):
    with pytest.raises(EnvConfigError, match=text):
        MACN(**config)
    with pytest.raises(EnvConfigError, match=text):
        BatchedMACN(2, **config)


TABLED = [
    {},
    {"wind_probability": 0.2, "cliff_reward": -20.0},
    {"wind_probability": 0.3, "wind_direction": "left", "goal_wait_mode": "event"},
    {"wind_probability": 0.3, "wind_direction": "up", "goal_absorbing": True},
]


@pytest.mark.parametrize("config", TABLED)
def test_the_tables_are_the_env(config):
    """Tests every pair of free cells and goal, every joint move and every push."""
    config = {"width": 4, "height": 3, **config}
    mdp = MACN.joint_mdp(**config)
    env = MACN(**config)
    assert mdp.start == 8 * 12 + 8  # cell (2, 0) is 8
    wind = env.wind_probability
    walkable = [cell for cell in range(12) if cell not in (9, 10)]
    outcomes = list(itertools.product([False, True], repeat=2))
    for one, two in itertools.product(walkable, walkable):
        joint = 12 * one + two
        if one == two == 11:  # the episode is over
            assert mdp.terminals[joint].all() and (mdp.rewards[joint] == 0).all()
            continue
        for (a, b), (k, pushed) in itertools.product(
            itertools.product(range(4), repeat=2), enumerate(outcomes)
        ):
            entry = (joint, 4 * a + b, k)
            chance = np.prod([wind if p else 1 - wind for p in pushed])
            assert mdp.probabilities[entry] == pytest.approx(chance)
            if chance == 0:
                continue
            env.reset(seed=0)
            # set directly: no seed leads to all pairs
            env._cells = [divmod(one, 4), divmod(two, 4)]
            env._pushes = np.array([pushed])
            _, rewards, ends, _, _ = env.step({"agent_0": a, "agent_1": b})
            cells = [4 * row + column for row, column in cells_of(env)]
            assert mdp.next_states[entry] == 12 * cells[0] + cells[1]
            assert mdp.rewards[entry] == rewards["agent_0"]
            assert mdp.terminals[entry] == ends["agent_0"]


def test_tables_hold_no_noise():
    with pytest.raises(EnvConfigError, match="set reward_noise_std to 0"):
        MACN.joint_mdp(reward_noise_std=1.0)


# The gate for robust learners: 4 columns, 3 rows, a fall costs 20, trained in a wind of
# .02 and played in winds of up to .3. Row 1 is the edge, row 0 is safe and two steps
# longer: 5 steps cost 4 and 7 steps cost 6 without wind.
GATE = {"width": 4, "height": 3, "cliff_reward": -20.0}
NOMINAL, WINDS = 0.02, (0.0, 0.05, 0.1, 0.2, 0.3)
GAMMA = 0.97


def returns_of(policy):
    """Undiscounted returns over 30 steps in every wind of the grid."""
    got = []
    for wind in WINDS:
        mdp = MACN.joint_mdp(wind_probability=wind, **GATE)
        value = policy_value(mdp, policy, gamma=1.0, step_limit=30)
        got.append(value[mdp.start])
    return np.array(got)


def optimum(**target):
    """The policy, its value at the start, and Q(both right) - Q(both up) after "up"."""
    mdp = MACN.joint_mdp(wind_probability=NOMINAL, **GATE)
    values, q = robust_value_iteration(mdp, gamma=GAMMA, **target)
    corner = 12 * 4 + 4  # both at (1, 0), where the ways part
    edge = q[corner, 4 * RIGHT + RIGHT] - q[corner, 4 * UP + UP]
    return q.argmax(axis=1), values[mdp.start], edge


EDGE = [-4.0, -7.25, -10.04, -14.42, -17.46]
SAFE = [-6.0, -6.0, -6.21, -7.24, -9.04]
SAFER = [-6.0, -6.01, -6.05, -6.22, -6.54]
OPTIMA = [
    # target, value at the start, edge minus safe, returns
    ({}, -5.126, 0.426, EDGE),
    ({"uncertainty": "tv", "rho": 0.2, "over": "transition"}, -2.803, -0.557, SAFE),
    ({"uncertainty": "tv", "rho": 0.3, "over": "transition"}, -1.973, -0.683, SAFER),
    ({"uncertainty": "tv", "rho": 0.3}, -2.815, -0.725, SAFE),
    ({"uncertainty": "contamination", "rho": 0.3}, -2.807, -0.653, SAFE),
    (
        {"uncertainty": "contamination", "rho": 0.3, "over": "transition"},
        -1.965,
        -0.457,
        SAFE,
    ),
]


@pytest.mark.parametrize(("target", "value", "edge", "returns"), OPTIMA)
def test_robust_optima_take_the_safe_way(target, value, edge, returns):
    # v_min 0 lies above all returns here, so these values bound no worst case. Total
    # variation is (1 - rho) times the CVaR at level 1 - rho; contamination is the
    # discount gamma (1 - rho). Both give a fall now more weight than later steps.
    policy, at_start, difference = optimum(**target)
    assert at_start == pytest.approx(value, abs=1e-3)
    assert difference == pytest.approx(edge, abs=1e-3)
    np.testing.assert_allclose(returns_of(policy), returns, atol=6e-3)


@pytest.mark.parametrize("kind", ["contamination", "tv"])
@pytest.mark.parametrize("over", ["next_value", "transition"])
def test_a_true_lower_bound_makes_the_team_hurry(kind, over):
    # With v_min at the worst outcome, a fall, every step may be the last one whatever
    # the agents do. So the short way is the robust one, with a greater margin than the
    # plain optimum's .426.
    policy, _, edge = optimum(uncertainty=kind, rho=0.3, v_min=-20.0, over=over)
    assert edge > 1.0
    returns = returns_of(policy)
    assert returns[0] == -4.0 and returns[-1] < -17.0


def test_returns_of_the_tables_are_those_of_the_env():
    """Compares episodes of the twin with exact returns, including the time limit."""
    policy, _, _ = optimum()
    wind, num_envs = 0.2, 4000
    env = BatchedMACN(num_envs, wind_probability=wind, episode_limit=8, **GATE)
    env.reset(np.arange(num_envs), np.arange(num_envs))
    returns, active = np.zeros(num_envs), np.ones(num_envs, bool)
    while active.any():
        cells = env.state.reshape(num_envs, 2, 12).argmax(axis=-1)
        joint = policy[12 * cells[:, 0] + cells[:, 1]]
        step = env.step(np.stack(np.divmod(joint, 4), axis=1), active)
        returns += step.rewards
        active &= ~(step.terminateds | step.truncateds)
    mdp = MACN.joint_mdp(wind_probability=wind, **GATE)
    exact = policy_value(mdp, policy, gamma=1.0, step_limit=8)[mdp.start]
    error = returns.std() / np.sqrt(num_envs)
    assert abs(returns.mean() - exact) < 4 * error
    assert 0.01 < error < 0.2


def test_what_each_agent_sees_is_enough():
    # On this map the 3x3 view identifies every cell except (0, 1) and (0, 2), where the
    # best move is the same. So an agent that sees only its view can follow the joint
    # optimum.
    env = MACN(**GATE, obs_encoding="onehot")
    groups = {}
    for cell in range(12):
        if cell in (9, 10):
            continue
        env.reset()
        env._cells = [divmod(cell, 4), (2, 0)]
        view = env._observations()["agent_0"].reshape(9, 4)[:, :3]
        groups.setdefault(view.tobytes(), []).append(cell)
    assert sorted(map(len, groups.values())) == [1] * 8 + [2]
    assert [1, 2] in groups.values()
