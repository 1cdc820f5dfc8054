"""The vectorised MACN gives the same numbers as the PettingZoo env in the adapter."""

import time

import numpy as np
import pytest

from rllib_risk.env_wrappers import (
    LoopedTeamEnvs,
    TeamEnv,
    make_batched,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.macn.batched import BatchedMACN
from rllib_risk.env_wrappers.macn.env import MACN

CASES = [
    ({}, {}),
    ({"width": 12, "obs_encoding": "onehot"}, {}),
    ({"state_encoding": "coordinates", "reward_noise_std": 2.0}, {}),
    ({"goal_wait_mode": "event", "episode_limit": 12}, {"state": "concat_obs"}),
    (
        {"goal_absorbing": True, "episode_limit": 9, "reward_noise_std": 0.1},
        {"time_limit_is_terminal": True, "state": "none"},
    ),
    (
        {
            "layout": ["0..G", ".C..", "1..G"],
            "episode_limit": 20,
            "goal_wait_reward": -0.3,
            "step_reward": -0.9,
            "cliff_reward": -7.0,
        },
        {"state": "env"},
    ),
]


@pytest.mark.parametrize(("kwargs", "adapter"), CASES)
def test_twins_agree(kwargs, adapter):
    num_envs, num_steps = 8, 1500
    twin = BatchedMACN(num_envs, **kwargs, **adapter)
    loop = LoopedTeamEnvs(lambda: TeamEnv(MACN(**kwargs), **adapter), num_envs)
    assert twin.spec == loop.spec
    rng = np.random.default_rng(1)

    def same_arrays():
        np.testing.assert_array_equal(twin.obs, loop.obs)
        np.testing.assert_array_equal(twin.state, loop.state)
        np.testing.assert_array_equal(twin.action_mask, loop.action_mask)

    slots = np.arange(num_envs)
    running = np.zeros(num_envs, bool)
    seen = set()
    for _ in range(num_steps):
        # leave some finished slots alone for a while
        idle = np.flatnonzero(~running)
        slots = idle[rng.random(idle.size) < 0.7]
        seeds = rng.integers(0, 2**31, slots.size)
        twin.reset(slots, seeds)
        loop.reset(slots, seeds)
        running[slots] = True
        if running.all():
            same_arrays()
        # upwards and to the right more often, so that agents reach goals
        actions = rng.choice(4, (num_envs, 2), p=[0.3, 0.2, 0.15, 0.35])
        active = running & (rng.random(num_envs) < 0.9)
        one, two = twin.step(actions, active), loop.step(actions, active)
        np.testing.assert_array_equal(one.rewards, two.rewards)
        assert one.rewards.dtype == two.rewards.dtype == np.float32
        np.testing.assert_array_equal(one.terminateds, two.terminateds)
        np.testing.assert_array_equal(one.truncateds, two.truncateds)
        assert one.infos == two.infos and not one.crashed
        live = active  # never-reset slots of the loop hold zeros
        np.testing.assert_array_equal(twin.obs[live], loop.obs[live])
        np.testing.assert_array_equal(twin.state[live], loop.state[live])
        running &= ~(one.terminateds | one.truncateds)
        for slot in np.flatnonzero(one.terminateds | one.truncateds):
            seen.add((one.infos[slot]["is_success"], bool(one.truncateds[slot])))
    assert (False, False) in seen, "no agent fell, so this test tests nothing"


def test_twins_agree_on_a_whole_success():
    twin = BatchedMACN(2)
    twin.reset(np.arange(2), np.arange(2))
    total = np.zeros(2)
    for action in [0, *[3] * 6, 1]:
        step = twin.step(np.full((2, 2), action), np.array([True, False]))
        total += step.rewards
    # slot 0: the optimum of width 7; slot 1 was never stepped
    assert total.tolist() == [-7.0, 0.0]
    assert step.terminateds.tolist() == [True, False]
    assert step.infos[0]["is_success"] is True and step.infos[1] == {}
    # cell (3, 6) is 27, (3, 0) is 21
    assert np.flatnonzero(twin.state[0]).tolist() == [27, 28 + 27]
    assert np.flatnonzero(twin.state[1]).tolist() == [21, 28 + 21]


def test_arrays_are_refreshed_in_place():
    env = BatchedMACN(3)
    obs, state = env.obs, env.state
    env.reset(np.arange(3), np.arange(3))
    before = obs.copy()
    env.step(np.zeros((3, 2), np.int64), np.ones(3, bool))
    assert env.obs is obs and env.state is state
    assert not np.array_equal(before, obs)


def test_the_registry_offers_the_twin_where_it_can():
    assert isinstance(make_batched("macn", {"width": 12}, 4), BatchedMACN)
    env = make_batched("macn", {"state": "none", "time_limit_is_terminal": True}, 4)
    assert isinstance(env, BatchedMACN) and env.spec.state_size == 0
    # the twin cannot sum rewards, so the loop is used: two agents at -1 each
    env = make_batched("macn", {"team_reward": "sum"}, 2)
    assert isinstance(env, LoopedTeamEnvs)
    env.reset(np.arange(2), np.arange(2))
    step = env.step(np.full((2, 2), 2), np.ones(2, bool))
    assert step.rewards.tolist() == [-2.0, -2.0]


def test_wrong_arguments_say_so():
    with pytest.raises(EnvConfigError, match="num_envs"):
        BatchedMACN(0)
    with pytest.raises(EnvConfigError, match="state must be one of"):
        BatchedMACN(1, state="cells")
    with pytest.raises(EnvConfigError, match="time_limit_is_terminal"):
        BatchedMACN(1, time_limit_is_terminal=1)


def test_it_is_fast():
    """A step of 32 copies is faster than a step of the loop with four."""
    active = np.ones(32, bool)
    twin = BatchedMACN(32)
    loop = LoopedTeamEnvs(lambda: TeamEnv(MACN()), 4)
    loop.reset(np.arange(4), np.arange(4))
    seconds = []
    for joint in np.random.default_rng(0).integers(0, 4, (100, 32, 2)):
        begun = time.perf_counter()
        twin.step(joint, active)
        between = time.perf_counter()
        step = loop.step(joint[:4], active[:4])
        seconds.append((between - begun, time.perf_counter() - between))
        over = np.flatnonzero(step.terminateds | step.truncateds)
        loop.reset(over, over)
    # both run side by side on one machine, and medians ignore interruptions
    one, other = np.median(seconds, axis=0)
    assert one < other
