"""The env uav: the authors' numbers, the twin, the reference policies, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import parallel_api_test, parallel_seed_test

from rllib_risk.env_wrappers import LoopedTeamEnvs
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import make_batched, make_team_env
from rllib_risk.env_wrappers.scripted import reference_policies
from rllib_risk.env_wrappers.uav.batched import BatchedUAV
from rllib_risk.env_wrappers.uav.env import UAV
from rllib_risk.env_wrappers.uav.world import DEVICE_CELLS, RISK_REGION

IDLE = 50


def play(env, *joint_actions):
    """Plays joint actions; returns rewards and infos of the first UAV."""
    rewards, infos = [], []
    for actions in joint_actions:
        _, reward, _, _, info = env.step(dict(zip(env.agents, actions, strict=True)))
        assert len(set(reward.values())) == 1
        rewards.append(reward["uav_0"])
        infos.append(info["uav_0"])
    return rewards, infos


def test_the_papers_map():
    assert len(DEVICE_CELLS) == 10 and len(RISK_REGION) == 20
    assert not set(DEVICE_CELLS) & set(RISK_REGION)
    env = UAV()
    assert env.action_space("uav_0").n == 55
    assert env.observation_space("uav_1").shape == env.state_space.shape == (14,)
    assert env.world.risk.sum() == 20 and len(env.world.safe_cells) == 80


# 500 P = 500 (100^2 + 100^2 d^2) (2^5 - 1) 1e-12 / 1e-3 = 0.155 (1 + d^2).
@pytest.mark.parametrize(
    ("device", "cell", "cost"),
    [
        (0, (3, 1), 0.155),
        (0, (3, 2), 0.31),
        (0, (9, 9), 15.655),
        (2, (0, 0), 13.33),
        (6, (0, 9), 22.63),
        (5, (4, 1), 5.115),
        (10, (4, 1), 0.0),
    ],
)
def test_the_price_of_a_poll(device, cell, cost):
    world = UAV().world
    assert 500 * world.power_w[(*cell, device)] == pytest.approx(cost, abs=1e-12)
    # With the noise that the authors state, -100 dBm, the cost is a tenth.
    quiet = UAV(noise_dbm=-100.0).world
    assert 500 * quiet.power_w[(*cell, device)] == pytest.approx(cost / 10, abs=1e-12)


def test_a_fixed_trajectory():
    env = UAV()
    env.reset(seed=0, options={"cells": [[0, 0], [9, 9]]})
    env._uniforms[:] = 1.0  # no UAV is hit
    steps = [(1, 17), (48, 10), (50, 50), (31, 12), (54, 51)]
    cells = [(2, 0, 7, 9), (2, 2, 7, 9), (2, 2, 7, 9), (4, 2, 5, 9), (4, 0, 7, 9)]
    ages = [
        [1, 2, 2, 1, 2, 2, 2, 2, 2, 2],
        [2, 3, 1, 2, 3, 3, 3, 3, 3, 1],
        [3, 4, 2, 3, 4, 4, 4, 4, 4, 2],
        [4, 5, 1, 4, 5, 5, 1, 5, 5, 3],
        [5, 6, 2, 5, 6, 6, 2, 6, 6, 4],
    ]
    train = [-9.395, -3.64, -3.4, -8.915, -4.8]
    report = [-5.5975, -3.02, -3.4, -6.3575, -4.8]
    for t, actions in enumerate(steps):
        (reward,), (info,) = play(env, actions)
        assert env.state().tolist() == [*cells[t], *ages[t]]
        assert reward == info["reward_train"] == pytest.approx(train[t], abs=1e-12)
        assert info["reward_report"] == pytest.approx(report[t], abs=1e-12)
        assert info["in_risk"] == (t == 3)


@pytest.mark.parametrize(
    ("aggregation", "reward"), [("sum", -308.915), ("mean", -156.3575)]
)
def test_a_hit(aggregation, reward):
    env = UAV(reward_aggregation=aggregation)
    env.reset(options={"cells": [[0, 0], [9, 9]]})
    env._uniforms[:] = 0.0
    rewards, infos = play(env, (1, 17), (48, 10), (50, 50), (31, 12))
    assert rewards[-1] == pytest.approx(reward, abs=1e-12)
    assert infos[-1]["risk_hit"] == 1 and infos[-2]["risk_hit"] == 0


@pytest.mark.parametrize(
    ("action", "device", "cell"),
    [
        (0, 0, (4, 4)),
        (1, 0, (6, 4)),
        (7, 1, (2, 4)),
        (17, 3, (2, 4)),
        (48, 9, (4, 6)),
        (IDLE, None, (4, 4)),
        (54, None, (4, 2)),
    ],
)
def test_actions_are_device_and_move(action, device, cell):
    env = UAV(num_uavs=1, initial_age=7)
    env.reset(options={"cells": [[4, 4]]})
    play(env, [action])
    state = env.state()
    assert tuple(state[:2]) == cell
    assert [int(d) for d in np.flatnonzero(state[2:] == 1)] == (
        [] if device is None else [device]
    )


def test_moves_end_at_the_edge():
    env = UAV(num_uavs=2)
    env.reset(options={"cells": [[8, 9], [1, 0]]})
    play(env, (IDLE + 1, IDLE + 2))
    assert env.state()[:4].tolist() == [9, 9, 0, 0]
    play(env, (IDLE + 2, IDLE + 4))
    assert env.state()[:4].tolist() == [7, 9, 0, 0]


def test_an_idle_episode():
    # Ages 2, 3, ..., 100 and then 100 for ever: their sum is 5149.
    env = UAV()
    env.reset(options={"cells": [[0, 0], [0, 0]]})
    rewards, infos = play(env, *[(IDLE, IDLE)] * 100)
    assert sum(rewards) == -5149.0
    assert not env.agents
    end = infos[-1]
    assert end["return_train"] == end["return_report"] == -5149.0
    assert end["mean_age"] == 51.49
    assert end["entered_risk"] == end["risk_step_fraction"] == end["num_risk_hits"] == 0
    assert env.state()[4:].tolist() == [100.0] * 10
    with pytest.raises(RuntimeError, match="reset"):
        env.step({})


def test_hovering_and_polling_in_turn():
    # One UAV at (2, 3) polls the even devices, one at (9, 1) the odd ones. Two fresh
    # devices per step give the lowest sum of ages, 298. The sums of 1 + d^2 are 144 and
    # 178 in five steps, so the power is .155 (144 + 178) * 20 = 998.2. The authors'
    # report counts half of it: -298 - 998.2 / 2 = -797.1, as in their env.
    env = UAV()
    env.reset(options={"cells": [[2, 3], [9, 1]]})
    steps = [(5 * (2 * t % 10), 5 * ((2 * t + 1) % 10)) for t in range(100)]
    _, infos = play(env, *steps)
    assert sum(info["aoi_mean"] for info in infos) == pytest.approx(298.0)
    assert sum(info["weighted_power"] for info in infos) == pytest.approx(998.2)
    assert infos[-1]["return_report"] == pytest.approx(-797.1)


def test_starts_are_uniform_outside_the_region():
    env, counts = UAV(num_uavs=40), np.zeros((10, 10))
    for seed in range(200):
        env.reset(seed=seed)
        state = env.state()
        np.add.at(counts, tuple(state[:80].reshape(40, 2).astype(int).T), 1)
        assert (state[80:] == 1).all()
    assert not counts[env.world.risk].any()
    # 8000 draws of 80 cells: 100 each, standard deviation 10.
    safe = counts[~env.world.risk]
    assert safe.min() > 55 and safe.max() < 150


def test_hits_are_binomial():
    env = UAV(num_uavs=2)
    hits = []
    for seed in range(100):
        env.reset(seed=seed, options={"cells": [[4, 4], [0, 0]]})
        _, infos = play(env, *[(IDLE, IDLE)] * 100)
        hits.append(infos[-1]["num_risk_hits"])
        assert infos[-1]["risk_step_fraction"] == 0.5
        assert sum(i["risk_hit"] for i in infos) == hits[-1]
    # Binomial(100, .1): mean 10, standard deviation 3; of the mean of 100, .3.
    assert np.mean(hits) == pytest.approx(10.0, abs=1.2)
    assert np.std(hits) == pytest.approx(3.0, abs=0.8)


def test_random_maps():
    first, again, other = (
        UAV(device_cells="random", risk_region="random", layout_seed=s).world
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.device_cells, again.device_cells)
    np.testing.assert_array_equal(first.risk, again.risk)
    assert not np.array_equal(first.device_cells, other.device_cells)
    corners = set()
    for seed in range(200):
        world = UAV(device_cells="random", risk_region="random", layout_seed=seed).world
        (x, y), (x_end, y_end) = (
            f(np.argwhere(world.risk), 0) for f in (np.min, np.max)
        )
        assert world.risk.sum() == 20 and (x_end - x, y_end - y) == (3, 4)
        corners.add((x, y))
    assert {x for x, _ in corners} == set(range(7))
    assert {y for _, y in corners} == set(range(6))
    many = UAV(num_uavs=3, device_cells="random", num_devices=25, grid_size=20)
    assert many.action_space("uav_2").n == 5 * 26
    assert many.state_space.shape == (31,)


@pytest.mark.parametrize(
    "env_config",
    [
        {},
        {"normalise": True, "local_obs": True},
        {"num_uavs": 3, "risk_region": [], "reward_aggregation": "mean"},
    ],
    ids=str,
)
def test_the_env_keeps_pettingzoos_contract(env_config):
    parallel_api_test(UAV(**env_config), num_cycles=250)
    parallel_seed_test(lambda: UAV(**env_config), num_cycles=250)
    report = check_env("uav", env_config)
    assert report.ok and "WARNING" not in str(report).upper(), str(report)


@settings(derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    normalise=st.booleans(),
    local_obs=st.booleans(),
    num_uavs=st.integers(1, 4),
    state=st.sampled_from(["auto", "concat_obs", "none"]),
    aggregation=st.sampled_from(["sum", "mean"]),
    risk_probability=st.sampled_from([0.0, 0.1, 1.0]),
    terminal=st.booleans(),
)
def test_the_twin_is_the_env(
    seed, normalise, local_obs, num_uavs, state, aggregation, risk_probability, terminal
):
    env_config = {
        "num_uavs": num_uavs,
        "normalise": normalise,
        "local_obs": local_obs,
        "reward_aggregation": aggregation,
        "risk_probability": risk_probability,
        "risk_penalty": 7.0,
        "episode_steps": 6,
        "state": state,
        "time_limit_is_terminal": terminal,
    }
    rng = np.random.default_rng(seed)
    twin = make_batched("uav", env_config, 3)
    assert isinstance(twin, BatchedUAV)
    loop = LoopedTeamEnvs(lambda: make_team_env("uav", env_config), 3)
    assert twin.spec == loop.spec
    running = np.zeros(3, bool)
    for _ in range(20):
        slots = np.flatnonzero(~running)[: rng.integers(4)]
        seeds = rng.integers(1000, size=len(slots))
        twin.reset(slots, seeds)
        loop.reset(slots, seeds)
        running[slots] = True
        np.testing.assert_array_equal(twin.obs[running], loop.obs[running])
        np.testing.assert_array_equal(twin.state[running], loop.state[running])
        actions = rng.integers(twin.spec.num_actions, size=(3, num_uavs))
        active = running & (rng.random(3) < 0.8)
        one, two = twin.step(actions, active), loop.step(actions, active)
        np.testing.assert_allclose(one.rewards, two.rewards, rtol=1e-6)
        np.testing.assert_array_equal(one.terminateds, two.terminateds)
        np.testing.assert_array_equal(one.truncateds, two.truncateds)
        for mine, theirs in zip(one.infos, two.infos, strict=True):
            assert mine == pytest.approx(theirs)
        running &= ~(one.terminateds | one.truncateds)


def mean_of(policy, episodes, **env_config):
    """Mean infos at the ends of some episodes of a scripted policy."""
    env = make_batched("uav", env_config, episodes)
    rng = np.random.default_rng(0)
    env.reset(np.arange(episodes), np.arange(episodes))
    chosen = reference_policies("uav", env_config)[policy]
    for _ in range(100):
        actions = chosen.act(env.obs, env.action_mask, rng)
        result = env.step(actions, np.ones(episodes, bool))
    keys = set(result.infos[0]) - {"episode_limit"}
    return {k: np.mean([info[k] for info in result.infos]) for k in keys}


# Means of 2000 episodes of an independent program, with tolerances for 400 episodes.
@pytest.mark.parametrize(
    ("policy", "report", "train", "age", "power", "risk"),
    [
        ("random", (-1488, 20), (-2422, 30), (5.53, 0.05), (9.38, 0.1), (0.154, 0.01)),
        ("greedy", (-393, 4), (-462, 6), (3.25, 0.03), (1.38, 0.05), (0.0, 0.0)),
        ("risk_blind", (-1464, 40), (-2617, 80), (3.1, 0.3), (0.8, 0.5), (0.36, 0.02)),
        ("idle", (-5149, 0), (-5149, 0), (51.49, 0), (0.0, 0.0), (0.0, 0.0)),
    ],
)
def test_reference_policies(policy, report, train, age, power, risk):
    found = mean_of(policy, 400)
    for key, (value, tolerance) in {
        "return_report": report,
        "return_train": train,
        "mean_age": age,
        "mean_weighted_power": power,
        "risk_step_fraction": risk,
    }.items():
        assert found[key] == pytest.approx(value, abs=tolerance + 1e-9), key


@pytest.mark.parametrize("policy", ["greedy", "risk_blind"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("local_obs", [False, True])
def test_reference_policies_read_what_is_shown(policy, normalise, local_obs):
    plain = mean_of(policy, 5)
    assert mean_of(policy, 5, normalise=normalise, local_obs=local_obs) == plain


def test_a_greedy_team_with_no_way_out_still_works():
    # Risk all around: the UAV stays where it may start, and polls.
    everywhere = [[x, y] for x in range(10) for y in range(10) if (x, y) != (5, 5)]
    found = mean_of("greedy", 3, risk_region=everywhere, num_uavs=1)
    assert found["risk_step_fraction"] == 0.0
    assert found["mean_age"] < 10.0


def test_a_picture():
    env = UAV(render_mode="rgb_array")
    env.reset(seed=3)
    image = env.render()
    assert image.shape == (480, 480, 3) and image.dtype == np.uint8
    # (3, 2) is in the region, row 9 - 2 from above.
    assert image[7 * 48 + 5, 3 * 48 + 5].tolist() == [246, 205, 200]
    assert image[9 * 48 + 5, 5].tolist() == [240, 240, 236]
    before = image.copy()
    play(env, (IDLE, IDLE), (IDLE + 1, IDLE + 3))
    assert not np.array_equal(before, env.render())
    assert UAV().render() is None


NO_CELLS = r"device_cells must be 'paper', 'random' or a list of cells \[x, y\]"


@pytest.mark.parametrize(
    ("env_config", "message"),
    [
        ({"num_uavs": 0}, "num_uavs must be a positive integer"),
        ({"grid_size": 8}, r"device_cells: cell \[8, 5\] lies outside the grid of 8x8"),
        ({"device_cells": []}, "device_cells must hold at least one cell"),
        (
            {"device_cells": "rnd"},
            NO_CELLS,
        ),
        (
            {"device_cells": [[1, 2, 3]]},
            NO_CELLS,
        ),
        (
            {"device_cells": [[1, 2.5]]},
            NO_CELLS,
        ),
        ({"num_devices": 3}, "num_devices is 3, but device_cells holds 10"),
        ({"risk_region": [[10, 0]]}, r"risk_region: cell \[10, 0\] lies outside"),
        (
            {"grid_size": 2, "device_cells": [[0, 0]], "risk_region": "random"},
            "random block of 4x5",
        ),
        (
            {
                "grid_size": 1,
                "device_cells": [[0, 0]],
                "risk_region": [[0, 0]],
            },
            "covers the whole grid",
        ),
        ({"initial_age": 101}, r"initial_age \(101\) must not exceed max_age"),
        ({"risk_probability": 1.5}, "risk_probability must lie in"),
        ({"risk_penalty": -1}, "risk_penalty must not be negative"),
        ({"cell_m": 0}, "cell_m must be above 0"),
        ({"layout_seed": -1}, "layout_seed must be an integer of at least 0"),
        ({"reward_aggregation": "max"}, "reward_aggregation must be one of"),
        ({"normalise": 1}, "normalise must be true or false"),
        ({"render_mode": "human"}, "render_mode must be 'rgb_array' or None"),
        ({"state": "all"}, "state must be one of"),
        ({"gridsize": 3}, "gridsize"),
    ],
    ids=str,
)
def test_bad_arguments(env_config, message):
    with pytest.raises(EnvConfigError, match=message):
        make_team_env("uav", env_config)


def test_bad_cells_and_actions():
    env = UAV()
    for cells in ([[0, 0]], [[0, 0], [10, 0]], [[0.5, 0], [1, 1]]):
        with pytest.raises(EnvConfigError, match="one cell"):
            env.reset(options={"cells": cells})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="uav_1: action 55"):
        env.step({"uav_0": 0, "uav_1": 55})
