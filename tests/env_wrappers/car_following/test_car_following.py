"""The car-following game: every rule by hand, the twin, the scripted policies."""

import numpy as np
import pytest

from rllib_risk.env_wrappers import LoopedTeamEnvs
from rllib_risk.env_wrappers.car_following.env import CarFollowing
from rllib_risk.env_wrappers.car_following.road import ACCELERATIONS, Cars, Road
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import make_batched, make_team_env
from rllib_risk.env_wrappers.scripted import reference_policies

ROAD = CarFollowing().road
SAFE_LUCK = np.ones((1, 2))


def drive(
    positions, speeds, actions, uniforms=(1.0, 1.0), arrived=(False, False), road=ROAD
):
    """Plays one step of two cars."""
    cars = Cars(np.array([positions]), np.array([speeds]), np.array([arrived]))
    return road.step(cars, np.array([actions]), np.array([uniforms]))


def test_the_accelerations():
    # -1 + 2 a / 21: never 0, and at most 19 / 21
    assert len(ACCELERATIONS) == 21 and (ACCELERATIONS != 0).all()
    assert ACCELERATIONS[[0, 10, 11, 20]] == pytest.approx(
        [-1.0, -1 / 21, 1 / 21, 19 / 21]
    )


def test_a_step_of_driving():
    # x + .1 v + .005 a, v + .1 a
    cars, outcome = drive((0.5, 2.0), (0.4, 0.0), (20, 0))
    assert cars.positions[0] == pytest.approx([0.54 + 0.005 * 19 / 21, 1.995])
    assert cars.speeds[0] == pytest.approx([0.4 + 1.9 / 21, -0.1])
    apart = [2.5 - x for x in cars.positions[0]]
    assert outcome.rewards[0] == pytest.approx(-1 - sum(apart))


@pytest.mark.parametrize("rounded", [True, False])
def test_the_top_speed_splits_a_step(rounded):
    road = CarFollowing(round_top_speed_time=rounded).road
    # from 1.75 at 19 / 21 the top speed is reached after .05526 s, or .06 rounded
    time = 0.06 if rounded else 0.05 * 21 / 19
    cars, _ = drive((0.0, 0.0), (1.75, 1.8), (20, 20), road=road)
    first = 1.75 * time + 0.5 * 19 / 21 * time**2 + 1.8 * (0.1 - time)
    assert cars.positions[0] == pytest.approx([first, 0.18], abs=1e-12)
    assert cars.speeds[0].tolist() == [1.8, 1.8]
    # a car at the top speed can brake
    cars, _ = drive((0.0, 0.0), (1.8, 1.8), (0, 0), road=road)
    assert cars.speeds[0] == pytest.approx([1.7, 1.7])


def test_the_reward_of_driving_together():
    # cars are together up to a gap of .3
    for gap, paid in ((0.29, 1.0), (0.31, 0.0)):
        cars, outcome = drive((1.0, 1.0 + gap), (0.5, 0.5), (10, 10))
        distance = np.abs(cars.positions - 2.5).sum()
        assert outcome.rewards[0] == pytest.approx(-1 - distance + paid)


def test_who_arrives_is_paid_once_and_stays():
    # 2.45 + .045 + .005 * -1/21: within .01 of 2.5
    cars, outcome = drive((2.45, 1.0), (0.45, 0.0), (10, 10))
    assert cars.arrived.tolist() == [[True, False]] and not outcome.together[0]
    distance = np.abs(cars.positions - 2.5).sum()
    assert outcome.rewards[0] == pytest.approx(-1 - distance + 5)
    # from the next step on it stands at the target, whatever it does
    again, outcome = ROAD.step(cars, np.array([[20, 10]]), SAFE_LUCK)
    assert again.positions[0, 0] == 2.5 and again.speeds[0, 0] == 0.0
    assert outcome.rewards[0] == pytest.approx(-1 - (2.5 - again.positions[0, 1]))
    # the second one arrives: 5, 10 for both and 1 for being near
    cars, outcome = drive((2.5, 2.45), (0.0, 0.45), (0, 10), arrived=(True, False))
    distance = np.abs(cars.positions - 2.5).sum()
    assert outcome.together[0]
    assert outcome.rewards[0] == pytest.approx(-1 - distance + 5 + 1 + 10)
    # passing the target between two steps is not arriving
    cars, _ = drive((2.4, 0.0), (1.7, 0.0), (10, 10))
    assert cars.positions[0, 0] > 2.51 and not cars.arrived.any()


def test_speeding_and_crashes():
    # at 1.5 a car crashes with probability .4 * .5 = .2; the limit is not speeding
    a = 1 / 21  # of action 11
    speed = 1.5 - 0.1 * a
    for uniforms, crashes in (((0.19, 0.19), 2), ((0.19, 0.21), 1), ((0.21, 0.21), 0)):
        _, outcome = drive((0.0, 0.0), (speed, speed), (11, 11), uniforms)
        assert outcome.crashes[0] == crashes and outcome.speeding[0] == 2
        distance = 2 * (2.5 - speed * 0.1 - 0.005 * a)
        assert outcome.rewards[0] == pytest.approx(-1 - distance + 1 - crashes)
    # driving backwards can be speeding, but does not crash
    _, outcome = drive((0.0, 0.0), (0.5, -1.5), (11, 11), (0.0, 0.0))
    assert outcome.crashes[0] == 0 and outcome.speeding[0] == 1
    road = Road(**{**ROAD.__dict__, "crash_reward": -7.0, "crash_rate": 2.0})
    _, outcome = drive((0.0, 0.0), (speed, speed), (11, 11), (0.99, 0.99), road=road)
    assert outcome.rewards[0] == pytest.approx(-1 - distance + 1 - 14)


def test_what_a_car_sees():
    for gap, sees in ((0.25, True), (0.35, False)):
        cars = Cars(np.array([[1.0, 1.0 + gap]]), np.array([[0.5, -0.25]]), None)
        own, other = ROAD.views(cars)[0]
        whole = [1.0, 0.5, 1.0 + gap, -0.25]
        assert ROAD.states(cars)[0].tolist() == pytest.approx(whole)
        # both views are in the order of the cars
        assert own.tolist() == pytest.approx(whole if sees else [*whole[:2], 0, 0])
        assert other.tolist() == pytest.approx(whole if sees else [0, 0, *whole[2:]])


def test_the_last_step_is_a_true_end():
    env = make_team_env("car_following", {"episode_steps": 3})
    env.reset(seed=0)
    for step in range(3):
        _, reward, terminated, truncated, info = env.step(np.array([11, 11]))
        assert (terminated, truncated) == (step == 2, False)
        # together, and both at t^2 / 42
        assert reward == pytest.approx(-5 + 2 * (0.1 * (step + 1)) ** 2 / 42)
    assert info == {
        "is_success": False,
        "num_arrived": 0,
        "num_crashes": 0,
        "num_speeding_steps": 0,
    }


@pytest.mark.parametrize("state", ["auto", "concat_obs", "none"])
def test_the_twin_is_the_env(state):
    """The comparison is step by step; some copies wait while others play."""
    config = {"episode_steps": 40, "state": state, "crash_rate": 1.0}
    twin = make_batched("car_following", config, 5)
    loop = LoopedTeamEnvs(lambda: make_team_env("car_following", config), 5)
    fast = reference_policies("car_following")["fast"]
    slots, rng = np.arange(5), np.random.default_rng(0)
    ends = []
    for envs in (twin, loop):
        envs.reset(slots, slots + 7)
    for _ in range(90):
        actions = fast.act(loop.obs, loop.action_mask, rng)
        moves = rng.random((5, 2)) < 0.1
        actions = np.where(moves, rng.integers(21, size=(5, 2)), actions)
        active = rng.random(5) < 0.8
        mine, theirs = twin.step(actions, active), loop.step(actions, active)
        assert np.array_equal(mine.rewards, theirs.rewards)
        assert np.array_equal(mine.terminateds, theirs.terminateds)
        assert not mine.truncateds.any() and not theirs.truncateds.any()
        assert mine.infos == theirs.infos
        done = slots[mine.terminateds]
        ends += [mine.infos[slot] for slot in done]
        for envs in (twin, loop):
            if len(done):
                envs.reset(done, done + 100 + len(ends))
        for key in ("obs", "state", "action_mask"):
            assert np.array_equal(getattr(twin, key), getattr(loop, key))
    assert {info["is_success"] for info in ends} == {True, False}
    assert any(info["num_crashes"] for info in ends)


def returns_of(name, num_envs=200):
    """Returns, infos and lengths of episodes of a scripted policy."""
    policy = reference_policies("car_following")[name]
    envs, rng = make_batched("car_following", {}, num_envs), np.random.default_rng(0)
    envs.reset(np.arange(num_envs), np.arange(num_envs))
    active, returns = np.ones(num_envs, bool), np.zeros(num_envs)
    infos, lengths = {}, np.zeros(num_envs, int)
    while active.any():
        step = envs.step(policy.act(envs.obs, envs.action_mask, rng), active)
        returns += step.rewards
        lengths += active
        infos |= {slot: step.infos[slot] for slot in np.flatnonzero(step.terminateds)}
        active &= ~step.terminateds
    return returns, infos, lengths


def test_reference_policies():
    """The numbers of docs/environments.md."""
    assert list(reference_policies("car_following")) == ["random", "safe", "fast"]
    returns, infos, lengths = returns_of("safe")
    assert returns == pytest.approx(-86.3157, abs=1e-3) and set(lengths) == {37}
    assert all(info["is_success"] for info in infos.values())
    assert not any(info["num_speeding_steps"] for info in infos.values())
    returns, infos, lengths = returns_of("fast")
    crashes = [info["num_crashes"] for info in infos.values()]
    assert set(lengths) == {28} and all(i["is_success"] for i in infos.values())
    assert np.mean(returns) == pytest.approx(-74.0, abs=0.5)
    assert np.mean(crashes) == pytest.approx(3.9, abs=0.5)
    assert min(returns) > -86.3
    # without the crashes, every episode is the same
    assert np.ptp(returns + crashes) < 1e-3
    returns, infos, _ = returns_of("random")
    assert np.mean(returns) == pytest.approx(-2575.7, abs=1)
    assert not any(info["is_success"] for info in infos.values())


def test_it_passes_the_checks():
    report = check_env("car_following", {})
    assert report.ok, str(report)


def test_bad_arguments():
    for config, text in (
        ({"speed_limit": 0}, "speed_limit must be greater than 0"),
        ({"top_speed": -1}, "top_speed must be greater than 0"),
        ({"crash_rate": -0.1}, "crash_rate must be at least 0"),
        ({"following_range": "wide"}, "following_range must be a number"),
        ({"round_top_speed_time": 1}, "round_top_speed_time must be true or false"),
        ({"episode_steps": 0}, "episode_steps must be a positive integer"),
    ):
        with pytest.raises(EnvConfigError, match=text):
            CarFollowing(**config)
    env = CarFollowing()
    with pytest.raises(RuntimeError, match="reset"):
        env.step({"car_0": 0, "car_1": 0})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="car_1 has no action 21"):
        env.step({"car_0": 0, "car_1": 21})
