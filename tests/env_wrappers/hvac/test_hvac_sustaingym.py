"""SustainGym as the backend of the env `hvac`, against this package's own physics.

All but the first tests need the real package. `INSTALL` in
rllib_risk/env_wrappers/hvac/sustaingym.py says how to install it beside Ray.
"""

import importlib
import importlib.util

import numpy as np
import pytest

from rllib_risk.env_wrappers import (
    EnvConfigError,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.hvac.data import BUILDINGS, CITIES
from rllib_risk.env_wrappers.hvac.env import HVAC
from rllib_risk.env_wrappers.hvac.sustaingym import CITY_KEYS, SustainGymDynamics

needs_sustaingym = pytest.mark.skipif(
    importlib.util.find_spec("sustaingym") is None,
    reason="SustainGym is not installed",
)

# Spec tolerances: float32 has steps of 2e-6 at 22 degC, and sums run in another order.
TEMPERATURE, REWARD = 1e-5, 1e-6


def pair(**env_config):
    """Our physics and SustainGym's behind the same env."""
    return HVAC(**env_config), HVAC(backend="sustaingym", **env_config)


def play_both(envs, day, joints, seed=0):
    """Plays joint actions [t, n] in both envs and compares every number."""
    first, second = (env.reset(seed=seed, options={"day": day})[0] for env in envs)
    compare_observations(first, second)
    rows = []
    for joint in joints:
        rows = []
        for env in envs:
            actions = dict(zip(env.possible_agents, joint.tolist(), strict=True))
            rows.append((*env.step(actions), env.state()))
        ours, theirs = rows
        compare_observations(ours[0], theirs[0])
        np.testing.assert_allclose(ours[5], theirs[5], rtol=0, atol=TEMPERATURE)
        assert ours[1]["zone_0"] == pytest.approx(theirs[1]["zone_0"], abs=REWARD)
        assert ours[2] == theirs[2] and ours[3] == theirs[3]
        assert ours[4]["zone_0"].keys() == theirs[4]["zone_0"].keys()
        for key, value in ours[4]["zone_0"].items():
            # totals of a day are sums of up to 288 rewards
            assert value == pytest.approx(theirs[4]["zone_0"][key], abs=300 * REWARD)
    return rows


def compare_observations(ours, theirs):
    assert ours.keys() == theirs.keys()
    for agent, row in ours.items():
        assert row.dtype == theirs[agent].dtype == np.float32
        np.testing.assert_allclose(row, theirs[agent], rtol=0, atol=TEMPERATURE)


def test_every_city_has_sustaingyms_keys():
    assert set(CITY_KEYS) == set(CITIES)
    # the paper's env_5: Port Angeles under the name of Seattle
    assert CITY_KEYS["port_angeles"] == ("Cool_Marine", "Seattle")
    assert CITY_KEYS["seattle"] == ("Mixed_Marine", "Seattle")
    assert len(set(CITY_KEYS.values())) == len(CITY_KEYS)


@pytest.mark.parametrize("missing", ["sustaingym.envs.building", "pvlib.iotools"])
def test_without_the_package_the_error_says_how_to_install_it(monkeypatch, missing):
    real = importlib.import_module

    def import_module(name, package=None):
        if name == missing:
            raise ModuleNotFoundError(f"No module named '{missing.split('.')[0]}'")
        return object() if name.startswith(("sustaingym", "pvlib")) else real(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(EnvConfigError) as caught:
        HVAC(backend="sustaingym")
    text = str(caught.value)
    assert "pip install --no-deps sustaingym==0.1.7" in text
    assert 'pip install "pvlib<0.16" scipy scikit-learn pandas' in text
    assert missing.split(".")[0] in text and "pip check" in text and "native" in text


def test_too_new_a_pvlib_is_named(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: object())
    with pytest.raises(EnvConfigError, match=r'pvlib.*pip install "pvlib<0.16"'):
        HVAC(backend="sustaingym")


@needs_sustaingym
@pytest.mark.parametrize("city", CITIES)
def test_a_whole_day_is_the_same_in_every_city(city):
    rng = np.random.default_rng(CITIES.index(city))
    envs = pair(city=city)
    assert envs[0]._dynamics.zones == envs[1]._dynamics.zones
    day = int(rng.integers(365))
    rows = play_both(envs, day, rng.integers(0, 200, (288, 6)))
    assert rows[0][3]["zone_0"], "the day has ended"


@needs_sustaingym
@pytest.mark.parametrize("building", list(BUILDINGS))
def test_every_building_is_the_same(building):
    rng = np.random.default_rng(1)
    envs = pair(building=building, city="denver")
    assert envs[0]._dynamics.zones == envs[1]._dynamics.zones
    # mild actions: 30 steps of full power would heat some zones by hundreds of degrees,
    # where float32 has coarser steps than the tolerance
    play_both(envs, 40, rng.integers(90, 111, (30, BUILDINGS[building])))


@needs_sustaingym
@pytest.mark.parametrize(
    "scales",
    [
        {"power_scale": 0.5},
        {"solar_scale": 2.0},
        {"ground_scale": 0.0},
        {"power_scale": 1.5, "solar_scale": 0.5, "ground_scale": 1.5, "target": 20.0},
        {"bins": 21, "normalise": True},
        {"sensor_sigma": 0.5},
    ],
)
def test_scenarios_are_the_same(scales):
    bins = scales.get("bins", 200)
    actions = np.random.default_rng(2).integers(0, bins, (60, 6))
    play_both(pair(**scales), 120, actions)


@needs_sustaingym
def test_several_cities_and_the_turn_of_the_year():
    rng = np.random.default_rng(3)
    envs = pair(city=["tampa", "fairbanks"], day_range=(0, 365), episode_steps=300)
    cities = set()
    for seed in range(4):  # day 364 runs into the new year
        rows = play_both(envs, 364, rng.integers(0, 200, (300, 6)), seed=seed)
        cities.add(rows[0][4]["zone_0"]["city_index"])
    assert cities == {0, 1}


@needs_sustaingym
def test_it_is_a_team_env_and_loops_where_batches_are_asked_for():
    config = {"backend": "sustaingym", "episode_steps": 4}
    env = make_team_env("hvac", config)
    batched = make_batched("hvac", config, 2)
    native = make_batched("hvac", config | {"backend": "native"}, 2)
    for both in (batched, native):
        both.reset(np.arange(2), np.array([5, 6]))
    obs, _ = env.reset(seed=5)
    np.testing.assert_array_equal(batched.obs[0], obs["obs"])
    actions = np.random.default_rng(0).integers(0, 200, (4, 2, 6))
    for joint in actions:
        theirs, ours = (e.step(joint, np.ones(2, bool)) for e in (batched, native))
        np.testing.assert_allclose(theirs.rewards, ours.rewards, rtol=0, atol=REWARD)
        np.testing.assert_allclose(batched.obs, native.obs, rtol=0, atol=TEMPERATURE)
    assert theirs.truncateds.all() and not theirs.crashed


@needs_sustaingym
def test_building_it_prints_nothing(capsys, recwarn):
    HVAC(backend="sustaingym").reset(seed=0)
    assert capsys.readouterr() == ("", "")
    assert not recwarn.list


@needs_sustaingym
def test_no_power_costs_exactly_nothing():
    env = HVAC(backend="sustaingym")
    dynamics = SustainGymDynamics(env.scenario)
    shared = dynamics.reset(0, 3)
    step = dynamics.step(np.zeros(6, np.float32))
    # spec: day 3, no power, the first reward of SustainGym is -1.0297807532
    assert step.energy_cost == 0.0
    assert step.comfort_cost == pytest.approx(1.0297807532, abs=1e-9)
    np.testing.assert_array_equal(step.shared[:3], shared[:3])  # the lag of one step
