"""The env `hvac` gives SustainGym's numbers, without SustainGym's faults."""

import contextlib
import io
import pickle
import warnings
from pathlib import Path

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
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.hvac import render as hvac_render
from rllib_risk.env_wrappers.hvac.data import BUILDINGS, load_building, load_weather
from rllib_risk.env_wrappers.hvac.env import HVAC, HvacScenario, power_levels

GOLDEN = Path(__file__).with_name("hvac_golden.npz")
# Tolerances for temperatures in degrees (float32 at 22 has steps of 1.9e-6) and for
# rewards. The weather's features are exact. SustainGym computes the heat of a person,
# in kW, partly in float32: an error of 1e-5 in the mean temperature is 1e-7 in it.
TEMPERATURE_TOLERANCE, REWARD_TOLERANCE, HEAT_TOLERANCE = 1e-5, 1e-6, 2e-7

# Our city -> SustainGym's weather and ground keys.
SUSTAINGYM_KEYS = {
    "tucson": ("Hot_Dry", "Tucson"),
    "port_angeles": ("Cool_Marine", "Seattle"),
    "new_york": ("Mixed_Humid", "NewYork"),
}


def joint(env, numbers):
    return dict(zip(env.possible_agents, numbers, strict=True))


def play(env, numbers, steps, day):
    """Repeats one joint action; returns the rewards and the last infos."""
    env.reset(options={"day": day})
    rewards = []
    for _ in range(steps):
        _, reward, _, _, infos = env.step(joint(env, numbers))
        rewards.append(reward["zone_0"])
    return np.array(rewards), infos


def assert_same_states(ours, theirs):
    """Compares states [..., 10] of OfficeSmall."""
    np.testing.assert_allclose(
        ours[..., :6], theirs[..., :6], rtol=0, atol=TEMPERATURE_TOLERANCE
    )
    np.testing.assert_array_equal(ours[..., 6:9], theirs[..., 6:9])
    np.testing.assert_allclose(
        ours[..., 9], theirs[..., 9], rtol=0, atol=HEAT_TOLERANCE
    )


# --------------------------------------------------------------------- SustainGym


def test_the_first_steps_of_a_year_in_tucson():
    env = HVAC()
    env.reset(options={"day": 0})
    start = [22.0] * 6 + [5.6, 20.9, 0.0, -0.0785695]
    first = env.state()
    np.testing.assert_allclose(first, start, atol=5e-8)
    rewards, states = [], []
    for _ in range(3):
        row = env.step(joint(env, (100, 120, 80, 100, 150, 60)))
        rewards.append(row[1]["zone_0"])
        states.append(env.state())
    expected = [-2.5530448702, -3.9920268311, -4.9076374998]
    assert rewards == pytest.approx(expected, abs=REWARD_TOLERANCE)
    temperatures = [21.899866, 22.022123, 20.389820, 21.336470, 23.725969, 21.349627]
    np.testing.assert_allclose(states[0][:6], temperatures, atol=TEMPERATURE_TOLERANCE)
    # The weather of a step is shown after it: the second observation repeats the first.
    np.testing.assert_array_equal(states[0][6:], first[6:])
    assert states[1][6] < states[0][6]
    rewards, _ = play(env, [100] * 6, 1, day=3)
    assert rewards[0] == pytest.approx(-1.0297807532, abs=REWARD_TOLERANCE)


@pytest.mark.parametrize(
    ("city", "total", "score", "p_control_score"),
    [
        ("tucson", -3562.550181, -1.375033, 0.833388),
        ("tampa", -4524.964300, -2.016643, 0.816072),
        ("honolulu", -833.116990, 0.444589, 0.957526),
        ("el_paso", -7457.807554, -3.971872, 0.716014),
        ("port_angeles", -9570.667754, -5.380445, 0.639484),
        ("seattle", -11272.371354, -6.514914, 0.569005),
        ("new_york", -15804.596729, -9.536398, 0.403693),
    ],
)
def test_day_13_in_seven_cities(city, total, score, p_control_score):
    env = HVAC(city=city)
    rewards, infos = play(env, [100] * 6, 288, day=13)
    assert rewards.sum() == pytest.approx(total, abs=1e-4)
    info = infos["zone_5"]
    assert info["normalised_return"] == pytest.approx(score, abs=1e-6)
    # all levels at zero cost nothing
    assert info["energy_cost"] == 0.0
    assert info["comfort_cost"] == pytest.approx(-total, abs=1e-4)
    # P-control: u = 0.2 (22 - T), on the grid of 200
    obs, _ = env.reset(options={"day": 13})
    while env.agents:
        numbers = [p_control(obs[agent][0], 0.2) for agent in env.agents]
        obs, _, _, _, infos = env.step(joint(env, numbers))
    score = infos["zone_0"]["normalised_return"]
    assert score == pytest.approx(p_control_score, abs=1e-5)


def p_control(temperature, gain):
    """Action number of the level nearest to gain * (22 - T)."""
    return int(np.clip(np.rint(gain * (22.0 - float(temperature)) * 100) + 100, 0, 199))


def test_a_recorded_trace_of_sustaingym():
    # random actions through a day in each of three cities, recorded by
    # tools/make_hvac_data.py --golden
    with np.load(GOLDEN) as golden:
        trace = {key: golden[key] for key in golden.files}
    assert trace["cities"].tolist() == list(SUSTAINGYM_KEYS)
    for row, city in enumerate(trace["cities"].tolist()):
        env = HVAC(city=city)
        env.reset(options={"day": int(trace["days"][row])})
        states, rewards = [env.state()], []
        for numbers in trace["actions"][row].tolist():
            rewards.append(env.step(joint(env, numbers))[1]["zone_3"])
            states.append(env.state())
        assert not env.agents
        assert_same_states(np.stack(states), trace["states"][row])
        np.testing.assert_allclose(
            rewards, trace["rewards"][row], rtol=0, atol=REWARD_TOLERANCE
        )


@pytest.mark.parametrize(
    "building", ["OfficeSmall", "RestaurantFastFood", "HotelLarge"]
)
@pytest.mark.parametrize("city", SUSTAINGYM_KEYS)
def test_against_sustaingym_itself(building, city):
    sustaingym = pytest.importorskip("sustaingym.envs.building")
    with contextlib.redirect_stdout(io.StringIO()):
        given = sustaingym.ParameterGenerator(
            building, *SUSTAINGYM_KEYS[city], is_continuous_action=False
        )
    theirs = sustaingym.MultiAgentBuildingEnv(given)
    ours = HVAC(city=city, building=building)
    n = len(ours.possible_agents)
    rng = np.random.default_rng(5)
    for day in (0, 57, 200, 364):
        their_obs, _ = theirs.reset(seed=day)
        ours.reset(options={"day": day})
        for _ in range(288):
            np.testing.assert_allclose(
                ours.state()[:n], their_obs[0][:n], rtol=0, atol=TEMPERATURE_TOLERANCE
            )
            np.testing.assert_array_equal(ours.state()[n:-1], their_obs[0][n:-1])
            np.testing.assert_allclose(
                ours.state()[-1], their_obs[0][-1], rtol=0, atol=HEAT_TOLERANCE
            )
            numbers = rng.integers(0, 200, n).tolist()
            their_obs, their_rewards, *_ = theirs.step(dict(enumerate(numbers)))
            rewards = ours.step(joint(ours, numbers))[1]
            assert rewards["zone_0"] == pytest.approx(
                float(their_rewards[0]), abs=REWARD_TOLERANCE
            )
        assert not ours.agents and not theirs.agents


def test_a_second_implementation():
    """Computes the formulas again, zone by zone, in another building and city."""
    building, weather = load_building("RetailStandalone"), load_weather("denver")
    env = HVAC(city="denver", building="RetailStandalone", bins=21)
    env.reset(options={"day": 100})
    rng = np.random.default_rng(2)
    x = [22.0] * 5
    for step in range(288):
        numbers = rng.integers(0, 21, 5)
        u = [float(np.float32((k - 10) / 10)) for k in numbers]
        e = int(100 / 365 * 105108) + step
        after = [
            sum(building.transition[i, j] * x[j] for j in range(5))
            + sum(building.actuators[i, j] * u[j] for j in range(5))
            + building.outdoor[i] * weather.outdoor[e]
            + building.ground[i] * weather.ground[e]
            + building.solar[i] * weather.max_ghi * weather.solar[e]
            for i in range(5)
        ]
        comfort = 0.999 * sum((t - 22) ** 2 for t in after) ** 0.5
        energy = 0.024 * sum(v * v for v in u) ** 0.5
        # EnergyPlus, 120 W, at the mean temperature before the step
        t, m = sum(x) / 5, 120.0
        heat = (
            6.461927
            + 0.946892 * m
            + 0.0000255737 * m**2
            - 0.0627909 * t * m
            + 0.0000589172 * t * m**2
            - 0.19855 * t**2
            + 0.000940018 * t**2 * m
            - 0.00000149532 * t**2 * m**2
        )
        obs, rewards, _, _, infos = env.step(joint(env, numbers.tolist()))
        assert rewards["zone_4"] == pytest.approx(-comfort - energy, abs=1e-6)
        if step < 287:
            assert infos["zone_1"]["comfort_cost"] == pytest.approx(comfort, abs=1e-6)
            assert infos["zone_1"]["energy_cost"] == pytest.approx(energy, abs=1e-6)
        for i in range(5):
            expected = [
                after[i],
                weather.outdoor[e],
                weather.ground[e],
                weather.solar[e],
                heat / 1000,
            ]
            np.testing.assert_allclose(obs[f"zone_{i}"], expected, rtol=1e-6, atol=1e-7)
        x = [float(np.float32(t)) for t in after]


def test_the_year_wraps():
    # day 364 begins at row 104820, 288 steps before the end of the table
    env = HVAC(episode_steps=290)
    env.reset(options={"day": 364})
    shown = []
    while env.agents:
        env.step(joint(env, [100] * 6))
        shown.append(env.state()[6])
    outdoor = load_weather("tucson").outdoor.astype(np.float32)
    np.testing.assert_array_equal(shown[:288], outdoor[-288:])
    np.testing.assert_array_equal(shown[288:], outdoor[:2])


# ------------------------------------------------------------------------- episodes


def test_infos_add_up():
    env = HVAC(episode_steps=5)
    rng = np.random.default_rng(0)
    env.reset(seed=4)
    rewards, energies, deviations = [], [], []
    for step in range(5):
        numbers = rng.integers(0, 200, 6)
        _, reward, terminations, truncations, infos = env.step(
            joint(env, numbers.tolist())
        )
        assert set(terminations.values()) == {False}
        assert set(truncations.values()) == {step == 4}
        info = infos["zone_2"]
        rewards.append(reward["zone_2"])
        energies.append(0.024 * np.linalg.norm((numbers - 100) / 100))
        deviations.append(np.abs(env.state()[:6].astype(np.float64) - 22).mean())
        if step < 4:
            assert set(info) == {"comfort_cost", "energy_cost"}
            assert info["energy_cost"] == pytest.approx(energies[-1], abs=1e-8)
            assert info["comfort_cost"] >= 0
            assert rewards[-1] == -(info["comfort_cost"] + info["energy_cost"])
    total = -sum(rewards)
    assert info["energy_cost"] == pytest.approx(sum(energies), abs=1e-7)
    assert info["comfort_cost"] == pytest.approx(total - sum(energies), abs=1e-7)
    assert info["normalised_return"] == pytest.approx(1 - 6 * total / 9000, abs=1e-9)
    assert info["mean_abs_deviation"] == pytest.approx(np.mean(deviations), abs=1e-6)
    # the day that the seed draws; no city index with a single city
    assert info["day"] == np.random.default_rng(4).integers(200)
    assert "city_index" not in info


def test_rewards_are_one_and_never_positive():
    env = HVAC()
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(288):
        _, rewards, *_ = env.step(joint(env, rng.integers(0, 200, 6).tolist()))
        assert len(set(rewards.values())) == 1 and rewards["zone_0"] <= 0
        assert type(rewards["zone_0"]) is float


def test_levels_of_power():
    levels = power_levels(200)
    # SustainGym's grid: no full heating
    np.testing.assert_array_equal(levels, np.float32((np.arange(200) - 100) / 100))
    assert levels[0] == -1 and levels[100] == 0 and levels[-1] == np.float32(0.99)
    np.testing.assert_allclose(power_levels(5), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(power_levels(4), [-1, -0.5, 0, 0.5])
    np.testing.assert_allclose(power_levels(21), np.linspace(-1, 1, 21), atol=1e-7)
    for bins in (2, 3, 20, 21):
        assert 0.0 in power_levels(bins)
    # coarse levels are among the fine ones, so the same power gives the same day
    fine, _ = play(HVAC(bins=200), [150, 0, 100, 50, 100, 100], 20, day=9)
    coarse, _ = play(HVAC(bins=4), [3, 0, 2, 1, 2, 2], 20, day=9)
    np.testing.assert_array_equal(fine, coarse)


def test_days_of_a_scenario():
    assert HvacScenario().days.tolist() == list(range(200))
    train = HvacScenario(day_split="train").days
    test = HvacScenario(day_split="test").days
    assert test.tolist() == list(range(4, 200, 5))
    assert sorted([*train, *test]) == list(range(200))
    assert HvacScenario(day_range=[360, 365], day_split="test").days.tolist() == [364]
    assert HvacScenario(city="tampa").cities == ("tampa",)
    assert HvacScenario(city=["tampa", "denver"]).cities == ("tampa", "denver")


def test_seeds_draw_days():
    env = HVAC(day_range=(200, 365), day_split="test", episode_steps=1)

    def days(seeds):
        drawn = []
        for seed in seeds:
            env.reset(seed=seed)
            drawn.append(env.step(joint(env, [100] * 6))[4]["zone_0"]["day"])
        return drawn

    drawn = days(range(500))
    # 33 days; the chance to miss one in 500 draws is 33 * (32 / 33)^500 = 7e-6
    assert set(drawn) == set(range(204, 365, 5))
    assert days(range(500)) == drawn, "the same seed, the same day"
    assert len(set(days([7, *[None] * 30]))) > 10, (
        "without a seed the generator goes on"
    )


def test_several_cities_are_drawn_from():
    cities = ["tucson", "honolulu", "fairbanks"]
    several = HVAC(city=cities, episode_steps=2)
    seen = set()
    for seed in range(40):
        several.reset(seed=seed)
        start = several.state()
        rows = [several.step(joint(several, [60] * 6)) for _ in range(2)]
        info = rows[-1][4]["zone_0"]
        single = HVAC(city=cities[info["city_index"]], episode_steps=2)
        single.reset(seed=seed)
        np.testing.assert_array_equal(start, single.state())
        rewards = [single.step(joint(single, [60] * 6)) for _ in range(2)]
        assert rewards[1][1] == rows[1][1]
        # the same seed plays the same day, whatever the cities
        assert rewards[1][4]["zone_0"]["day"] == info["day"]
        seen.add(info["city_index"])
    assert seen == {0, 1, 2}


def test_scales():
    # no power: heating changes nothing but the energy cost, |u| = sqrt(6) at 1
    idle = HVAC(power_scale=0.0, bins=3)
    rewards, _ = play(idle, [2] * 6, 10, day=13)
    nothing, _ = play(HVAC(bins=3), [1] * 6, 10, day=13)
    np.testing.assert_allclose(rewards, nothing - 0.024 * 6**0.5, atol=1e-7)
    # step 151 of day 13 in New York: the effects of the scales are linear
    building, weather = load_building("OfficeSmall"), load_weather("new_york")
    row = int(13 / 365 * 105108) + 150

    def step(**scales):
        env = HVAC("new_york", bins=3, **scales)
        env.reset(options={"day": 13})
        for _ in range(151):  # the sun is up after 150 steps
            before = env.state()[:6]
            env.step(joint(env, [2] * 6))
        return before.astype(np.float64), env.state()

    assert weather.solar[row] > 0.05
    for scales in ({"ground_scale": 0.5}, {"solar_scale": 3.0}, {"power_scale": 0.1}):
        before, state = step(**scales)
        expected = (
            building.transition @ before
            + building.actuators.sum(axis=1) * scales.get("power_scale", 1.0)
            + building.outdoor * weather.outdoor[row]
            + building.ground * weather.ground[row] * scales.get("ground_scale", 1.0)
            + building.solar
            * weather.max_ghi
            * weather.solar[row]
            * scales.get("solar_scale", 1.0)
        )
        np.testing.assert_allclose(state[:6], expected, atol=TEMPERATURE_TOLERANCE)
        # observations show the weather without the scales
        np.testing.assert_array_equal(
            state[6:9],
            np.float32([weather.outdoor[row], weather.ground[row], weather.solar[row]]),
        )


def test_sensors_have_noise_and_nothing_else_has():
    noisy, clean = HVAC(sensor_sigma=0.5), HVAC()
    rng = np.random.default_rng(0)
    first, _ = noisy.reset(seed=3)
    true, _ = clean.reset(seed=3)
    errors = [[first[agent][0] - true[agent][0] for agent in clean.agents]]
    for _ in range(288):
        numbers = rng.integers(0, 200, 6).tolist()
        one, two = noisy.step(joint(noisy, numbers)), clean.step(joint(clean, numbers))
        assert one[1:] == two[1:]
        np.testing.assert_array_equal(noisy.state(), clean.state())
        for agent in clean.possible_agents:
            np.testing.assert_array_equal(one[0][agent][1:], two[0][agent][1:])
        errors.append([one[0][a][0] - two[0][a][0] for a in clean.possible_agents])
    errors = np.array(errors)  # [289, 6]
    # 1734 draws: five standard errors are 5 * 0.5 / sqrt(1734) = 0.06 for the mean and
    # 5 * 0.5 / sqrt(2 * 1734) = 0.042 for the standard deviation
    assert abs(errors.mean()) < 0.06 and abs(errors.std() - 0.5) < 0.042
    assert abs(np.corrcoef(errors[:, 0], errors[:, 1])[0, 1]) < 0.3  # 5 / sqrt(289)
    assert abs(np.corrcoef(errors[1:, 0], errors[:-1, 0])[0, 1]) < 0.3
    again, _ = noisy.reset(seed=3)
    assert again["zone_0"][0] == first["zone_0"][0], "the same seed, the same noise"
    other, _ = noisy.reset(seed=4)
    assert other["zone_0"][0] != first["zone_0"][0]


def test_normalised_features():
    raw, scaled = HVAC(sensor_sigma=0.1), HVAC(sensor_sigma=0.1, normalise=True)
    obs, _ = raw.reset(seed=1)
    small, _ = scaled.reset(seed=1)
    for _ in range(150):
        obs, *_ = raw.step(joint(raw, [199] * 6))
        small, *_ = scaled.step(joint(scaled, [199] * 6))
    assert obs["zone_0"][3] > 0, "the sun is up"
    for agent in raw.agents:
        expected = [*(obs[agent][:3] - 22) / 10, *obs[agent][3:]]
        np.testing.assert_allclose(small[agent], expected, atol=1e-6)
    state = raw.state()
    np.testing.assert_allclose(
        scaled.state(), [*(state[:8] - 22) / 10, *state[8:]], atol=1e-6
    )


def test_another_target():
    env = HVAC(target=18.0)
    env.reset(options={"day": 13})
    assert env.state()[:6].tolist() == [18.0] * 6
    rewards, _ = play(env, [100] * 6, 1, day=13)
    distance = np.linalg.norm(env.state()[:6].astype(np.float64) - 18)
    assert rewards[0] == pytest.approx(-0.999 * distance, abs=1e-5)


def test_a_bigger_building():
    env = HVAC(building="OutPatientHealthCare", city="fairbanks", bins=3)
    obs, _ = env.reset(seed=0)
    assert len(obs) == 118 and env.state().shape == (122,)
    obs, *_ = env.step(joint(env, [1] * 118))
    assert env.possible_agents[-1] == "zone_117"
    for agent, temperature in zip(env.agents, env.state(), strict=False):
        assert obs[agent][0] == temperature


# -------------------------------------------------- faults of SustainGym's own envs


def test_observations_lie_in_their_spaces():
    env = HVAC()
    rng = np.random.default_rng(1)
    obs, _ = env.reset(seed=0)
    for step in range(289):
        assert env.state_space.contains(env.state())
        for agent in env.possible_agents:
            assert env.observation_space(agent).contains(obs[agent]), (step, agent)
        if env.agents:
            obs, *_ = env.step(joint(env, rng.integers(0, 200, 6).tolist()))


def test_agents_explore_independently():
    env = HVAC()
    drawn = np.array(
        [
            [env.action_space(agent).sample() for agent in env.possible_agents]
            for _ in range(200)
        ]
    )
    # two of six agents agree by chance once in 200 draws
    for first in range(6):
        for second in range(first):
            assert (drawn[:, first] == drawn[:, second]).mean() < 0.1


def test_rows_share_nothing():
    env = HVAC()
    first, infos = env.reset(seed=0)
    obs, _, _, _, step_infos = env.step(joint(env, [100] * 6))
    expected = {agent: row.copy() for agent, row in obs.items()}
    state = env.state()
    first["zone_0"][:] = 99
    obs["zone_1"][:] = 99
    infos["zone_0"]["mine"] = step_infos["zone_0"]["mine"] = 1
    assert "mine" not in infos["zone_1"] and "mine" not in step_infos["zone_1"]
    for agent in ("zone_0", "zone_2"):
        np.testing.assert_array_equal(obs[agent], expected[agent])
    np.testing.assert_array_equal(env.state(), state)
    env.state()[:] = 99
    later, *_ = env.step(joint(env, [100] * 6))
    assert later["zone_0"].max() < 99
    np.testing.assert_array_equal(obs["zone_2"], expected["zone_2"])


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"building": "Warehouse", "bins": 21, "normalise": True},
        {"city": ["tampa", "seattle"], "sensor_sigma": 1.0, "episode_steps": 40},
    ],
)
def test_pettingzoo_accepts_it(kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(HVAC(**kwargs), num_cycles=1000)
        parallel_seed_test(lambda: HVAC(**kwargs), num_cycles=300)
        # temperatures have no bounds on purpose
        warnings.filterwarnings("ignore", message=".*state space value is -?infinity")
        state_test(parallel_to_aec(HVAC(**kwargs)), HVAC(**kwargs))


def test_check_env_finds_nothing():
    report = check_env("hvac", {"sensor_sigma": 0.2})
    assert report.ok and "WARNING" not in str(report).upper(), str(report)


def test_as_a_team():
    env = make_team_env("hvac", {"bins": 21, "episode_steps": 3})
    spec = env.spec_team
    assert spec.agents == tuple(f"zone_{i}" for i in range(6))
    sizes = (spec.num_actions, spec.obs_size, spec.state_size, spec.episode_limit)
    assert sizes == (21, 5, 10, 3)
    env.reset(seed=0)
    for _ in range(3):
        obs, reward, terminated, truncated, info = env.step(np.full(6, 10))
    assert truncated and not terminated and reward < 0
    assert info["episode_limit"] is True and info["energy_cost"] == 0.0
    assert obs["state"].shape == (10,) and obs["action_mask"].all()


def test_render_draws_the_day_so_far(monkeypatch):
    drawn = []

    def draw(*arguments):
        drawn.append(arguments)
        return np.zeros((2, 3, 3), np.uint8)

    monkeypatch.setattr(hvac_render, "draw", draw)
    env = HVAC(city=["tampa"], render_mode="rgb_array", episode_steps=4)
    assert env.render() is None  # nothing has been played
    for steps in (0, 4):
        env.reset(options={"day": 9})
        states = [env.state()]
        for _ in range(steps):
            env.step(joint(env, [0, 50, 100, 150, 100, 199]))
            states.append(env.state())
        assert env.render().shape == (2, 3, 3)
        temperatures, outdoor, power, target, limit, zones, title = drawn.pop()
        np.testing.assert_array_equal(temperatures, np.stack(states)[:, :6])
        np.testing.assert_array_equal(np.float32(outdoor), np.stack(states)[:, 6])
        levels = np.float32([-1, -0.5, 0, 0.5, 0, 0.99])
        np.testing.assert_array_equal(power, np.tile(levels, (steps, 1)))
        assert (target, limit, len(zones)) == (22.0, 4, 6)
        assert title == "OfficeSmall, tampa, day 9"
    assert HVAC().render() is None


def test_pickle_goes_on_alike():
    env = TeamEnv(HVAC(sensor_sigma=1.0))
    env.reset(seed=5)
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(5):
        one, two = env.step(np.full(6, 80)), twin.step(np.full(6, 80))
        np.testing.assert_array_equal(one[0]["obs"], two[0]["obs"])
        assert one[1:] == two[1:]


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"city": "new york"}, "unknown city 'new york': did you mean 'new_york'"),
        ({"city": ["tucson", "miami"]}, "unknown city 'miami'"),
        ({"city": []}, "city must be a name or a list of names"),
        ({"city": 3}, "city must be a name or a list of names"),
        ({"building": "Hotel"}, "unknown building 'Hotel': did you mean 'Hotel"),
        ({"building": None}, "unknown building None"),
        ({"day_range": [10, 10]}, "0 <= first < end <= 365"),
        ({"day_range": [-1, 10]}, "0 <= first < end <= 365"),
        ({"day_range": [0, 366]}, "first < end <= 365"),
        ({"day_range": [0]}, "two integers"),
        ({"day_range": "0-200"}, "two integers"),
        ({"day_range": [0.0, 10]}, "two integers"),
        ({"day_range": 200}, "two integers"),
        ({"day_split": "valid"}, "unknown day_split 'valid'"),
        (
            {"day_range": [0, 4], "day_split": "test"},
            r"\[0, 4\] has no day in .* 'test'",
        ),
        ({"day_range": [4, 5], "day_split": "train"}, "no day in the split 'train'"),
        ({"power_scale": -0.1}, "power_scale must not be negative"),
        ({"solar_scale": float("nan")}, "solar_scale must be finite"),
        ({"ground_scale": "high"}, "ground_scale must be a number"),
        ({"sensor_sigma": -1}, "sensor_sigma must not be negative"),
        ({"bins": 1}, "bins must be an integer of at least 2"),
        ({"bins": 20.0}, "bins"),
        ({"bins": True}, "bins"),
        ({"normalise": 1}, "normalise must be true or false"),
        ({"target": None}, "target must be a number"),
        ({"episode_steps": 0}, "episode_steps must be a positive integer"),
        ({"backend": "sustain_gym"}, "did you mean 'sustaingym'"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_wrong_arguments_say_so(kwargs, text):
    with pytest.raises(EnvConfigError, match=text):
        HVAC(**kwargs)


def test_misuse_says_so():
    env = HVAC(episode_steps=1)
    with pytest.raises(RuntimeError, match="reset"):
        env.step({})
    env.reset()
    with pytest.raises(ValueError, match="agent 'zone_1' has no action 200"):
        env.step(joint(env, [100, 200, 100, 100, 100, 100]))
    with pytest.raises(ValueError, match="no action -1"):
        env.step(joint(env, [-1, 100, 100, 100, 100, 100]))
    for day, text in ((365, "0 .. 364"), (-1, "0 .. 364"), (1.5, "integer")):
        with pytest.raises(EnvConfigError, match=text):
            env.reset(options={"day": day})
    env.step(joint(env, [100] * 6))
    with pytest.raises(RuntimeError, match="the episode has ended"):
        env.step(joint(env, [100] * 6))


def test_every_building_can_be_played():
    for building in BUILDINGS:
        env = HVAC(building=building, episode_steps=1)
        env.reset(seed=0)
        _, rewards, *_ = env.step(joint(env, [100] * len(env.possible_agents)))
        assert np.isfinite(rewards["zone_0"])
