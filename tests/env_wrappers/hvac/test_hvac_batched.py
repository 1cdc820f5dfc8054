"""The vectorised `hvac` gives the same numbers as the PettingZoo env in the adapter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.env_wrappers import (
    LoopedTeamEnvs,
    TeamEnv,
    make_batched,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.batched import BatchedHVAC
from rllib_risk.env_wrappers.hvac.data import CITIES, load_weather
from rllib_risk.env_wrappers.hvac.env import HVAC

# The 50 days that the paper evaluates on, and the days of the other season.
S1 = np.random.default_rng(11).integers(0, 200, 50)
S2 = np.arange(200, 365)

CASES = [
    ({"episode_steps": 20}, {}),
    (
        {
            "city": ["new_york", "tampa", "fairbanks"],
            "day_range": (300, 365),
            "day_split": "test",
            "sensor_sigma": 0.7,
            "episode_steps": 13,
        },
        {"state": "env"},
    ),
    (
        {"normalise": True, "bins": 21, "sensor_sigma": 0.1, "episode_steps": 9},
        {"state": "concat_obs", "time_limit_is_terminal": True},
    ),
    (
        {
            "building": "RetailStripmall",
            "city": "denver",
            "power_scale": 0.5,
            "solar_scale": 2.0,
            "ground_scale": 0.3,
            "target": 20.0,
            "episode_steps": 30,
        },
        {"state": "none"},
    ),
    # episodes run over the end of the year's table
    ({"day_range": (364, 365), "episode_steps": 290}, {}),
]


def same_infos(one, two):
    """Compares infos: the keys are equal, and sums may round differently."""
    assert [set(info) for info in one] == [set(info) for info in two]
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("kwargs", "adapter"), CASES)
def test_twins_agree(kwargs, adapter):
    num_envs, num_steps = 5, 400
    twin = BatchedHVAC(num_envs, **kwargs, **adapter)
    loop = LoopedTeamEnvs(lambda: TeamEnv(HVAC(**kwargs), **adapter), num_envs)
    assert twin.spec == loop.spec
    rng = np.random.default_rng(1)
    running = np.zeros(num_envs, bool)
    ended = []
    for _ in range(num_steps):
        # leave some finished slots alone for a while
        idle = np.flatnonzero(~running)
        slots = idle[rng.random(idle.size) < 0.7]
        seeds = rng.integers(0, 2**31, slots.size)
        twin.reset(slots, seeds)
        loop.reset(slots, seeds)
        running[slots] = True
        np.testing.assert_array_equal(twin.obs[running], loop.obs[running])
        np.testing.assert_array_equal(twin.state[running], loop.state[running])
        actions = rng.integers(0, twin.spec.num_actions, (num_envs, twin.obs.shape[1]))
        active = running & (rng.random(num_envs) < 0.9)
        others = twin.obs[~active].copy()
        one, two = twin.step(actions, active), loop.step(actions, active)
        np.testing.assert_allclose(one.rewards, two.rewards, rtol=0, atol=1e-6)
        assert one.rewards.dtype == two.rewards.dtype == np.float32
        np.testing.assert_array_equal(one.terminateds, two.terminateds)
        np.testing.assert_array_equal(one.truncateds, two.truncateds)
        same_infos(one.infos, two.infos)
        assert not one.crashed
        np.testing.assert_array_equal(twin.obs[running], loop.obs[running])
        np.testing.assert_array_equal(twin.state[running], loop.state[running])
        np.testing.assert_array_equal(twin.obs[~active], others)
        assert twin.action_mask.all()
        over = one.terminateds | one.truncateds
        running &= ~over
        ended += [one.infos[slot] for slot in np.flatnonzero(over)]
    assert len(ended) >= 5
    if isinstance(kwargs.get("city"), list):
        assert {info["city_index"] for info in ended} == {0, 1, 2}


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 364),
    st.sampled_from(["OfficeSmall", "Warehouse", "OfficeMedium"]),
)
def test_a_slot_does_not_depend_on_its_neighbours(seed, day, building):
    rng = np.random.default_rng(seed)
    many = BatchedHVAC(7, building=building, sensor_sigma=0.2, episode_steps=12)
    one = BatchedHVAC(1, building=building, sensor_sigma=0.2, episode_steps=12)
    seeds = rng.integers(0, 2**31, 7)
    days = rng.integers(0, 365, 7)
    days[3] = day
    many.reset(np.arange(7), seeds, days)
    one.reset(np.array([0]), seeds[3:4], days[3:4])
    for _ in range(12):
        actions = rng.integers(0, 200, (7, many.spec.num_agents))
        rows = many.step(actions, np.ones(7, bool))
        row = one.step(actions[3:4], np.ones(1, bool))
        # matrix products of other heights may round the last bit differently
        np.testing.assert_allclose(many.obs[3], one.obs[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(many.state[3], one.state[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(rows.rewards[3], row.rewards[0], atol=1e-5)
    same_day = [step.infos[slot]["day"] for step, slot in ((rows, 3), (row, 0))]
    assert same_day == [day, day]


def scores(city, days, gain):
    """Normalised returns of u = gain * (22 - T_i) on the grid of 200 levels."""
    env = BatchedHVAC(len(days), city=city)
    env.reset(np.arange(len(days)), np.zeros(len(days), np.int64), days)
    for _ in range(288):
        power = gain * (22.0 - env.obs[:, :, 0].astype(np.float64))
        actions = np.clip(np.rint(power * 100) + 100, 0, 199).astype(np.int64)
        step = env.step(actions, np.ones(len(days), bool))
    assert step.truncateds.all()
    assert [info["day"] for info in step.infos] == days.tolist()
    return np.array([info["normalised_return"] for info in step.infos])


@pytest.mark.parametrize(
    ("gain", "days", "expected"),
    [
        (0.0, S1, [-1.676, -1.121, -0.590, -2.010, -4.119, -3.621]),
        (0.0, S2, [-1.781, -1.147, -1.054, -1.794, -3.338, -2.121]),
        (0.15, S1, [0.790, 0.835, 0.884, 0.769, 0.619, 0.654]),
        (0.20, S1, [0.837, 0.872, 0.910, 0.822, 0.707, 0.733]),
        (0.25, S1, [0.867, 0.895, 0.927, 0.854, 0.761, 0.782]),
        (0.25, S2, [0.864, 0.898, 0.908, 0.864, 0.795, 0.849]),
        # the gain is so high that temperatures swing
        (0.30, S1, [0.642, 0.658, 0.701, 0.611, 0.515, 0.559]),
    ],
)
def test_reference_policies_in_the_paper_s_cities(gain, days, expected):
    for city, score in zip(CITIES[:6], expected, strict=True):
        assert scores(city, days, gain).mean() == pytest.approx(score, abs=0.001), city


@pytest.mark.parametrize(
    ("city", "expected"), [("tucson", -2.148), ("new_york", -4.111)]
)
def test_uniform_random_play(city, expected):
    days = np.tile(S1, 40)
    env = BatchedHVAC(len(days), city=city)
    rng = np.random.default_rng(0)
    env.reset(np.arange(len(days)), np.zeros(len(days), np.int64), days)
    for _ in range(288):
        actions = rng.integers(0, 200, (len(days), 6))
        step = env.step(actions, np.ones(len(days), bool))
    # over random actions, the mean of 50 days has a standard deviation of 0.062 in
    # Tucson and 0.077 in New York; the mean of 40 such means has 0.012, and 0.05 is
    # four times that
    score = np.mean([info["normalised_return"] for info in step.infos])
    assert score == pytest.approx(expected, abs=0.05)


def test_every_day_of_a_year_in_one_batch():
    env = BatchedHVAC(365, episode_steps=1)
    days = np.arange(365)
    env.reset(days, np.zeros(365, np.int64), days)
    outdoor = load_weather("tucson").outdoor
    rows = [min(int(day / 365 * 105108), 105107) for day in range(365)]
    np.testing.assert_array_equal(env.obs[:, 4, 1], outdoor[rows].astype(np.float32))


def test_arrays_are_refreshed_in_place():
    env = BatchedHVAC(3)
    obs, state = env.obs, env.state
    env.reset(np.arange(3), np.arange(3))
    before = obs.copy()
    env.step(np.zeros((3, 6), np.int64), np.ones(3, bool))
    assert env.obs is obs and env.state is state
    assert not np.array_equal(before, obs)


def test_infos_of_an_episode_s_end_are_its_own():
    env = BatchedHVAC(3, episode_steps=1)
    env.reset(np.arange(3), np.arange(3))
    actions = np.full((3, 6), 100)
    step = env.step(actions, np.array([True, True, False]))
    step.infos[0]["mine"] = 1
    assert "mine" not in step.infos[1] and step.infos[2] == {}
    env.reset(np.array([0]), np.array([5]))
    assert "mine" not in env.step(actions, np.array([True, False, False])).infos[0]


def test_the_registry_offers_the_twin_where_it_can():
    env = make_batched("hvac", {"bins": 21, "city": "tampa"}, 4)
    assert isinstance(env, BatchedHVAC) and env.spec.num_actions == 21
    env = make_batched("hvac", {"state": "none", "time_limit_is_terminal": True}, 4)
    assert isinstance(env, BatchedHVAC) and env.spec.state_size == 0
    # the twin cannot sum rewards, so the loop is used; six agents have the same reward
    envs = [make_batched("hvac", c, 2) for c in ({"team_reward": "sum"}, {})]
    assert isinstance(envs[0], LoopedTeamEnvs)
    rewards = []
    for env in envs:
        env.reset(np.arange(2), np.arange(2))
        rewards.append(env.step(np.full((2, 6), 0), np.ones(2, bool)).rewards)
    np.testing.assert_allclose(rewards[0], 6 * rewards[1], rtol=1e-6)


def test_wrong_arguments_say_so():
    with pytest.raises(EnvConfigError, match="num_envs"):
        BatchedHVAC(0)
    with pytest.raises(EnvConfigError, match="state must be one of"):
        BatchedHVAC(1, state="zones")
    with pytest.raises(EnvConfigError, match="time_limit_is_terminal"):
        BatchedHVAC(1, time_limit_is_terminal=1)
    with pytest.raises(EnvConfigError, match="did you mean 'tucson'"):
        BatchedHVAC(1, city="tuscon")
    env = BatchedHVAC(2)
    with pytest.raises(EnvConfigError, match=r"0 \.\. 364"):
        env.reset(np.arange(2), np.arange(2), np.array([0, 365]))
