"""Observation noise: equal for every way to step an env; it changes nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scripted_envs import FlakyEnv, RandomDeathEnv, ScriptedEnv

from rllib_risk.env_wrappers import (
    EnvConfigError,
    LoopedTeamEnvs,
    TeamEnv,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.macn.batched import BatchedMACN
from rllib_risk.env_wrappers.observation_noise import NoisyTeamEnvs

NOISE = {"obs_noise_std": 0.3}


def played(envs, rng, num_steps=60):
    """Observations, states and rewards of some steps with resets in between."""
    num_envs = envs.num_envs
    running = np.zeros(num_envs, bool)
    rows = []
    for _ in range(num_steps):
        idle = np.flatnonzero(~running)
        slots = idle[rng.random(idle.size) < 0.7]
        envs.reset(slots, rng.integers(0, 2**31, slots.size))
        running[slots] = True
        actions = rng.choice(4, (num_envs, 2), p=[0.3, 0.2, 0.15, 0.35])
        active = running & (rng.random(num_envs) < 0.9)
        step = envs.step(actions, active)
        rows.append((envs.obs.copy(), envs.state.copy(), step.rewards, active))
        running &= ~(step.terminateds | step.truncateds)
    return rows


@settings(max_examples=10)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_twin_and_loop_get_the_same_noise(num_envs, seed):
    config = {"reward_noise_std": 1.0, "episode_limit": 25}
    twin = make_batched("macn", {**config, **NOISE}, num_envs)
    assert isinstance(twin, NoisyTeamEnvs)
    loop = LoopedTeamEnvs(lambda: make_team_env("macn", {**config, **NOISE}), num_envs)
    clean = make_batched("macn", config, num_envs)
    assert isinstance(clean, BatchedMACN)
    runs = [played(e, np.random.default_rng(seed)) for e in (twin, loop, clean)]
    seen = np.zeros(num_envs, bool)
    for ours, theirs, without in zip(*runs, strict=True):
        active = ours[-1]
        seen |= active
        np.testing.assert_array_equal(ours[0][active], theirs[0][active])
        # state and rewards (with their own noise) are those of the env without noise
        for key in (1, 2):
            np.testing.assert_array_equal(ours[key][seen], without[key][seen])
        assert (ours[0][active] != without[0][active]).all()
    assert seen.any()


def test_an_idle_slot_keeps_what_it_saw():
    envs = make_batched("macn", NOISE, 2)
    envs.reset(np.arange(2), np.arange(2))
    before = envs.obs.copy()
    envs.step(np.zeros((2, 2), np.int64), np.array([True, False]))
    np.testing.assert_array_equal(envs.obs[1], before[1])
    assert (envs.obs[0] != before[0]).all()


def test_the_noise_is_gaussian_and_independent():
    """1000 episodes x 2 agents x 9 numbers, the first two rows of each episode."""
    noisy, clean = make_batched("macn", NOISE, 1000), make_batched("macn", {}, 1000)
    rows = []
    for envs in (noisy, clean):
        envs.reset(np.arange(1000), np.arange(1000))
        first = envs.obs.copy()
        envs.step(np.zeros((1000, 2), np.int64), np.ones(1000, bool))
        rows.append(np.stack([first, envs.obs]))
    noise = (rows[0] - rows[1]) / 0.3  # [2, 1000, 2, 9]
    # the seeds are fixed, so the p-value is always the same
    assert stats.kstest(noise.reshape(-1), "norm").pvalue > 0.01
    columns = np.moveaxis(noise, 1, 0).reshape(1000, -1)  # [1000, 36]
    correlation = np.corrcoef(columns.T) - np.eye(36)
    # standard error 1 / sqrt(1000) = 0.032; the largest of 630 is about 3.4 of these
    assert np.abs(correlation).max() < 5 * 0.032


def test_the_seed_alone_decides():
    envs = make_batched("macn", NOISE, 3)
    envs.reset(np.array([2, 0, 1]), np.array([7, 8, 7]))
    np.testing.assert_array_equal(envs.obs[2], envs.obs[1])
    assert (envs.obs[0] != envs.obs[1]).all()
    first = envs.obs[1].copy()
    envs.step(np.zeros((3, 2), np.int64), np.ones(3, bool))
    envs.reset(np.array([1]), np.array([7]))
    np.testing.assert_array_equal(envs.obs[1], first)


def test_a_single_env_without_a_seed_goes_on():
    env = make_team_env("macn", NOISE)
    first = env.reset(seed=3)[0]["obs"]
    again = env.reset()[0]["obs"]
    assert (first != again).all()
    np.testing.assert_array_equal(env.reset(seed=3)[0]["obs"], first)


def test_dead_agents_stay_zero():
    noisy = TeamEnv(RandomDeathEnv(), obs_noise_std=0.5)
    clean = TeamEnv(RandomDeathEnv())
    deaths = 0
    for seed in range(20):
        obs, expected = noisy.reset(seed=seed)[0], clean.reset(seed=seed)[0]
        done = False
        while not done:
            np.testing.assert_array_equal(obs["action_mask"], expected["action_mask"])
            np.testing.assert_array_equal(obs["state"], expected["state"])
            dead = ~expected["obs"].any(axis=-1)
            deaths += dead.sum()
            assert not obs["obs"][dead].any()
            assert (obs["obs"][~dead] != expected["obs"][~dead]).all()
            actions = obs["action_mask"].argmax(axis=-1)
            obs, _, terminated, truncated, _ = noisy.step(actions)
            expected = clean.step(actions)[0]
            done = terminated or truncated
    assert deaths > 20


def test_a_living_agent_that_sees_zeros_gets_noise():
    # One agent in the middle of an empty map: all nine codes are 0, "free".
    layout = ["....G", ".....", ".....", ".....", "....."]
    config = {"layout": layout, "starts": [[2, 2], [0, 0]]}
    envs = make_batched("macn", {**config, **NOISE}, 1)
    envs.reset(np.arange(1), np.arange(1))
    assert not make_team_env("macn", config).reset(seed=0)[0]["obs"][0].any()
    assert envs.obs[0, 0].all()


def test_padding_stays_zero():
    env = TeamEnv(ScriptedEnv([{}] * 3), obs_noise_std=1.0)
    obs = env.reset(seed=0)[0]["obs"]  # the first agent observes 1 number, the other 2
    assert obs.shape == (2, 2)
    assert obs[0, 0] != 10.0 and obs[0, 1] == 0.0
    assert (obs[1] != 20.0).all()


def test_a_crashed_slot_keeps_its_row():
    inner = LoopedTeamEnvs(lambda: TeamEnv(FlakyEnv()), 2)
    envs = NoisyTeamEnvs(inner, 0.5)
    envs.reset(np.arange(2), np.arange(2))
    inner._envs[1].parallel_env.p_step = 1.0
    before = envs.obs.copy()
    step = envs.step(np.zeros((2, 2), np.int64), np.ones(2, bool))
    assert list(step.crashed) == [1]
    np.testing.assert_array_equal(envs.obs[1], before[1])
    assert (envs.obs[0] != before[0]).all()
    envs.close()
    assert inner._envs == [None, None]


def test_without_noise_nothing_is_wrapped():
    for config in ({}, {"obs_noise_std": 0.0}, {"obs_noise_std": 0}):
        assert isinstance(make_batched("macn", config, 2), BatchedMACN)


def test_a_scale_for_every_number():
    """The draws are those with 1.0, each times its own scale; 0 adds no noise."""
    scales = [0.0, 0.5, 0.0, 2.0, 0.1, 0.0, 0.0, 0.0, 1.0]
    rows = []
    for std in (0.0, 1.0, scales):
        envs = make_batched("macn", {"obs_noise_std": std}, 3)
        envs.reset(np.arange(3), np.arange(3))
        rows.append(envs.obs.copy())
        single = make_team_env("macn", {"obs_noise_std": std})
        np.testing.assert_array_equal(single.reset(seed=1)[0]["obs"], rows[-1][1])
    clean, whole, scaled = rows
    expected = (whole - clean) * np.float32(scales)
    np.testing.assert_allclose(scaled - clean, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(scaled[..., 0], clean[..., 0])


def test_scales_that_do_not_fit():
    for make in (make_team_env, lambda name, config: make_batched(name, config, 2)):
        with pytest.raises(EnvConfigError, match="lists 2 numbers, but an agent obs"):
            make("macn", {"obs_noise_std": [0.1, 0.2]})


@pytest.mark.parametrize(
    "std",
    [-0.1, float("nan"), float("inf"), True, "0.1", None, [], [0.1, -1.0], [True]],
)
def test_a_wrong_value_says_so(std):
    for make in (make_team_env, lambda name, config: make_batched(name, config, 2)):
        with pytest.raises(EnvConfigError, match=r"env_config.obs_noise_std must be"):
            make("macn", {"obs_noise_std": std})
