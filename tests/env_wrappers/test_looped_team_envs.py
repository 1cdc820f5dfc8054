"""Several envs in a loop: independence of slots, crashes and bounded restarts."""

import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scripted_envs import FlakyEnv, RandomDeathEnv, ScriptedEnv

from rllib_risk.env_wrappers import (
    EnvConfigError,
    EnvFailedError,
    IllegalActionError,
    LoopedTeamEnvs,
    TeamEnv,
    make_team_env,
)
from rllib_risk.env_wrappers import failures as failures_module


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(failures_module, "BACKOFF_S", 0.0)


def flaky(num_envs, log, **kwargs):
    """Looped flaky envs; each new env has its own random stream."""
    made = []

    def make():
        made.append(None)
        return TeamEnv(FlakyEnv(seed=len(made), log=log, **kwargs))

    return LoopedTeamEnvs(make, num_envs, env_name="flaky")


def test_slots_are_independent():
    envs = LoopedTeamEnvs(lambda: TeamEnv(RandomDeathEnv()), 3)
    alone = TeamEnv(RandomDeathEnv())
    envs.reset(np.array([0, 2]), np.array([5, 7]))
    obs, _ = alone.reset(seed=7)
    np.testing.assert_array_equal(envs.obs[2], obs["obs"])
    np.testing.assert_array_equal(envs.state[2], obs["state"])
    np.testing.assert_array_equal(envs.action_mask[2], obs["action_mask"])
    before = envs.obs[0].copy()
    actions = envs.action_mask.argmax(axis=-1)
    step = envs.step(actions, np.array([False, False, True]))
    obs, reward, terminated, _, info = alone.step(actions[2])
    np.testing.assert_array_equal(envs.obs[2], obs["obs"])
    np.testing.assert_array_equal(envs.obs[0], before)
    assert step.rewards.tolist() == [0.0, 0.0, reward]
    assert step.rewards.dtype == np.float32
    assert step.terminateds.tolist() == [False, False, terminated]
    assert step.infos == [{}, {}, info] and step.crashed == {}


def test_a_crash_costs_one_episode(no_waiting):
    log = []
    envs = flaky(2, log)
    both = np.ones(2, bool)
    zeros = np.zeros((2, 2), np.int64)
    envs.reset(np.arange(2), np.arange(2))
    envs.step(zeros, both)
    before = envs.obs.copy()
    envs._envs[1].parallel_env.p_step = 1.0
    step = envs.step(zeros, both)
    assert list(step.crashed) == [1]
    assert step.crashed[1].startswith(
        "ConnectionError: simulator hung up (step 2 of the episode; "
    )
    assert step.rewards.tolist() == [1.0, 0.0]
    assert not step.terminateds.any() and not step.truncateds.any()
    np.testing.assert_array_equal(envs.obs[1], before[1])
    assert log.count("closed") == 1, "the broken env is closed, its error swallowed"
    envs.reset(np.array([1]), np.array([9]))
    assert log.count("made") == 3
    assert envs.step(zeros, both).crashed == {}


def test_20k_steps_with_random_crashes(no_waiting):
    """Crash rates 1e-3 per step and 1e-2 per reset: no broken episode gets through."""
    log = []
    envs = flaky(4, log, p_step=1e-3, p_reset=1e-2)
    slots = np.arange(4)
    envs.reset(slots, slots)
    returns, lengths = np.zeros(4), np.zeros(4, int)
    crashes = 0
    for t in range(5000):
        step = envs.step(np.zeros((4, 2), np.int64), np.ones(4, bool))
        returns += step.rewards
        lengths += 1
        for slot in np.flatnonzero(step.terminateds | step.truncateds):
            # an episode has 20 steps at +1
            assert lengths[slot] == 20 and returns[slot] == 20.0
        crashes += len(step.crashed)
        ended = step.terminateds | step.truncateds
        ended[list(step.crashed)] = True
        returns[ended] = lengths[ended] = 0
        envs.reset(np.flatnonzero(ended), np.full(ended.sum(), t))
    assert crashes > 5
    # 4 at first, one more for every crash in a step and for every failed reset
    assert log.count("made") == 4 + log.count("closed")


def test_an_env_that_never_resets_stops_after_three_attempts(monkeypatch):
    waits = []
    clock = SimpleNamespace(sleep=waits.append)
    monkeypatch.setattr(failures_module, "time", clock)
    log = []
    envs = flaky(1, log, p_reset=1.0)
    with pytest.raises(EnvFailedError) as caught:
        envs.reset(np.array([0]), np.array([0]))
    # three attempts, and between them two waits
    assert log.count("reset") == 3 and waits == [0.1, 0.2]
    assert str(caught.value).startswith(
        "env 'flaky' failed 3 times in a row and was given up; last cause: OSError: "
        "simulator does not answer (reset; "
    )
    assert "scripted_envs.py, line " in str(caught.value)
    assert caught.value.attempts == 3 and caught.value.env_name == "flaky"


def test_an_env_that_breaks_in_every_step_stops_too(no_waiting):
    log = []
    envs = flaky(1, log, p_step=1.0)
    with pytest.raises(EnvFailedError, match=r"flaky.*3 times.*hung up"):
        for _ in range(10):
            envs.reset(np.array([0]), np.array([0]))
            step = envs.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
            assert step.crashed
    assert log.count("reset") == 3


def test_only_a_completed_episode_resets_the_failure_count(no_waiting):
    envs = flaky(1, [])
    one, zeros = np.ones(1, bool), np.zeros((1, 2), np.int64)

    def play(steps_before_the_crash):
        envs.reset(np.array([0]), np.array([0]))
        for _ in range(steps_before_the_crash):
            step = envs.step(zeros, one)
            assert not step.crashed
            if step.terminateds[0] or step.truncateds[0]:
                return
        envs._envs[0].parallel_env.p_step = 1.0
        assert envs.step(zeros, one).crashed

    for _ in range(5):
        play(1)
        play(1)
        play(10**6)  # to its end
    play(1)
    play(1)
    # Good steps in between do not help an env that never completes an episode.
    with pytest.raises(EnvFailedError, match="3 times in a row"):
        play(1)


@pytest.mark.parametrize("where", ["obs", "reward"])
def test_numbers_that_are_not_finite_never_get_through(where, no_waiting):
    envs = flaky(1, [], nan_at=where)
    envs.reset(np.array([0]), np.array([0]))
    step = envs.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
    assert step.crashed[0].startswith("NonFiniteError")
    assert np.isfinite(envs.obs).all() and step.rewards[0] == 0


def test_mistakes_of_the_user_are_not_retried():
    made = []

    def make():
        made.append(None)
        return TeamEnv(ScriptedEnv([{}], rewards={"a0": 2.0}))

    envs = LoopedTeamEnvs(make, 1)
    envs.reset(np.array([0]), np.array([0]))
    with pytest.raises(EnvConfigError, match="rewards differ"):
        envs.step(np.zeros((1, 2), np.int64), np.ones(1, bool))
    envs.reset(np.array([0]), np.array([0]))
    with pytest.raises(IllegalActionError):
        envs.step(np.full((1, 2), 5), np.ones(1, bool))
    assert len(made) == 1
    with pytest.raises(EnvConfigError, match="num_envs"):
        LoopedTeamEnvs(make, 0)
    with pytest.raises(EnvConfigError, match="max_restarts"):
        LoopedTeamEnvs(make, 1, max_restarts=0)


def test_a_signal_is_no_crash(no_waiting):
    """Ray's handler of SIGTERM raises SystemExit in the code that runs just then."""

    def handler(signum, frame):
        sys.exit(signum)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        for method in ("reset", "step", "close"):
            env = TeamEnv(RandomDeathEnv())
            envs = LoopedTeamEnvs(lambda env=env: env, 1)
            envs.reset(np.array([0]), np.array([1]))
            inner = getattr(env, method)

            def signalled(*args, inner=inner, **kwargs):
                signal.raise_signal(signal.SIGTERM)
                return inner(*args, **kwargs)

            setattr(env, method, signalled)
            with pytest.raises(SystemExit, match=str(int(signal.SIGTERM))):
                envs.reset(np.array([0]), np.array([1]))
                envs.step(envs.action_mask.argmax(axis=-1), np.ones(1, bool))
                envs.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_env_that_cannot_be_built(no_waiting):
    made = []

    def make():
        made.append(None)
        if len(made) > 2:
            raise OSError("no port left")
        return TeamEnv(FlakyEnv())

    with pytest.raises(EnvFailedError, match="no port left"):
        LoopedTeamEnvs(make, 3)
    assert len(made) == 2 + 3


def test_a_loop_can_be_closed_twice():
    envs = LoopedTeamEnvs(lambda: make_team_env("two_step"), 2)
    envs.close()
    envs.close()
