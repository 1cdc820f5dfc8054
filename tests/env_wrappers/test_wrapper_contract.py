"""R22: every env of the registry keeps PettingZoo's contract and the team's."""

from __future__ import annotations

import gc
import importlib
import pickle
import types
import warnings
from typing import Any

import numpy as np
import pytest
from extras import need_extra
from game_folder import install_game
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.test.max_cycles_test import max_cycles_test
from pettingzoo.test.state_test import state_test
from pettingzoo.utils import parallel_to_aec

from rllib_risk.env_wrappers.checking.recording import EnvRecording
from rllib_risk.env_wrappers.registry import ENVS, envs_that_render, import_factory
from rllib_risk.env_wrappers.scripted import RandomPolicy
from rllib_risk.env_wrappers.team_env import TeamEnv

# Enemies that do nothing compile fast.
PEACE: dict[str, Any] = {
    "map_name": None,
    "allies": {"marine": 3},
    "enemies": {"marine": 1},
    "smax_args": {"enemy_shoots": False, "attack_mode": "closest"},
}
# Env -> arguments, and a time limit in steps that random play reaches. Envs without one
# are games of a fixed length, and battles of SMAC, which end before their limit.
WRAPPERS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "macn": ({}, {"episode_limit": 5}),
    "matrix_game": ({}, {}),
    "two_step": ({}, {}),
    "mmdp": ({}, {"episode_limit": 5}),
    "memory_game": ({}, {}),
    "risky_bandit": ({}, {}),
    "risky_two_step": ({}, {}),
    "car_following": ({"episode_steps": 20}, {}),  # its last step terminates
    "hvac": ({}, {"episode_steps": 5}),
    "uav": ({}, {"episode_steps": 5}),
    "smac": ({"map_name": "3m"}, {}),
    "smax": (PEACE, {"episode_limit": 5}),
    "tabular": ({}, {"episode_limit": 1}),
    "lbf": ({"id": "Foraging-5x5-2p-1f-v3"}, {"episode_limit": 5}),
    "rware": ({}, {"episode_limit": 5}),
    "mpe": ({}, {"episode_limit": 5}),
    "vmas": ({"kwargs": {"n_agents": 2}}, {"episode_limit": 5}),
    "gymnasium": ({"id": "gymnasium_envs:Meeting-v0"}, {"episode_limit": 5}),
}
# Envs whose agents have different rewards -> `team_reward`.
PAID_ALONE = {"lbf": "sum", "rware": "sum", "mpe": "sum", "gymnasium": "sum"}
PAID_ALONE["vmas"] = "mean"
STATELESS = ("lbf", "rware", "vmas", "gymnasium")
# A step of one copy of VMAS takes milliseconds.
STEPS = {"vmas": 100}
# PettingZoo's warnings about states that are intended: a single number is enough, cars
# start at 0 with speed 0, and temperatures have no bounds.
STATE_WARNINGS = {
    "matrix_game": "State is a single number",
    "risky_bandit": "State is a single number",
    "car_following": "State numpy array is all zeros",
    "hvac": ".*state space value is -?infinity",
}


def cases(without: tuple[str, ...] = ()) -> list[str]:
    """All wrappers as parameters."""
    return [name for name in WRAPPERS if name not in without]


@pytest.fixture
def build(request, monkeypatch, tmp_path):
    """Builds the env that a test's parameter `name` names."""
    name = request.node.callspec.params["name"]
    need_extra(name)
    if name == "smac":
        request.getfixturevalue("smac_double")
        importlib.import_module("smac.env.starcraft2.starcraft2")
        install_game(tmp_path / "sc2", "3m")
        monkeypatch.setenv("SC2PATH", str(tmp_path / "sc2"))
    factory = import_factory(ENVS[name].factory)
    made = []

    def make(**more):
        made.append(factory(**{**WRAPPERS[name][0], **more}))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.fixture
def strict():
    """Makes every warning an error, except warnings about objects of other tests."""
    gc.freeze()  # a gc.collect() of a worker's objects takes most of a second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    gc.unfreeze()


def as_team(name: str, env: Any, **adapter: Any) -> TeamEnv:
    """The env behind the adapter."""
    return TeamEnv(env, team_reward=PAID_ALONE.get(name, "shared"), **adapter)


def play(team: TeamEnv, rng: np.random.Generator, seed: int):
    """Plays an episode of random legal actions; gives its length and its last row."""
    obs, info = team.reset(seed=seed)
    assert info == {}
    steps = 0
    while True:
        actions = RandomPolicy().act(obs["obs"], obs["action_mask"], rng)
        row = team.step(actions)
        obs, steps = row[0], steps + 1
        if row[2] or row[3]:
            return steps, row


def test_the_table_is_complete():
    assert set(WRAPPERS) == set(ENVS) - {"pettingzoo"}


@pytest.mark.parametrize("name", cases())
def test_pettingzoos_own_tests_pass(name, build, strict):
    """R22: API and seeds, 1,000 cycles, with warnings as errors."""
    cycles = STEPS.get(name, 1000)
    parallel_api_test(build(), num_cycles=cycles)
    parallel_seed_test(build, num_cycles=cycles)


# PettingZoo's test of states plays illegal actions.
@pytest.mark.parametrize("name", cases(without=("smac", "smax", *STATELESS)))
def test_pettingzoos_test_of_states_passes(name, build, strict):
    """R22: the state lies in its space and has one shape."""
    if name in STATE_WARNINGS:
        warnings.filterwarnings("ignore", message=STATE_WARNINGS[name])
    state_test(parallel_to_aec(build()), build())


@pytest.mark.parametrize("name", ["mmdp", "hvac", "uav"])
def test_pettingzoos_test_of_the_limit_passes(name, build, strict):
    """R22: `max_cycles`, for envs that have no masks and no earlier end."""
    (key,) = WRAPPERS[name][1]
    module = types.SimpleNamespace(
        parallel_env=lambda max_cycles: build(**{key: max_cycles}),
        env=lambda max_cycles: parallel_to_aec(build(**{key: max_cycles})),
    )
    max_cycles_test(module)


@pytest.mark.parametrize("name", cases())
def test_10k_random_legal_steps(name, build):
    """R22: legal actions are accepted; returned values are as declared."""
    env = build()
    seen = {"reset": 0, "step": 0, "state": 0}

    def check(method, args, result):
        if method == "state":
            assert env.state_space.contains(result), result
        if method in ("reset", "step"):
            obs, infos = result[0], result[-1]
            for agent, value in obs.items():
                space = env.observation_space(agent)
                assert space.contains(value), f"{agent}: {value} not in {space}"
            assert all(isinstance(info, dict) for info in infos.values())
        if method in seen:
            seen[method] += 1

    EnvRecording(env, check)
    team = as_team(name, env)
    rng = np.random.default_rng(0)
    keys = set()
    played = episodes = 0
    while played < STEPS.get(name, 10_000):
        steps, (obs, reward, terminated, truncated, info) = play(team, rng, episodes)
        assert team.observation_space.contains(obs)
        assert type(reward) is float and np.isfinite(reward)
        assert type(terminated) is type(truncated) is bool
        assert terminated != truncated
        assert all(type(v) in (bool, int, float) for v in info.values()), info
        assert info.pop("episode_limit", False) == truncated
        keys.add(tuple(sorted(info)))
        played, episodes = played + steps, episodes + 1
    assert len(keys) == 1, f"infos differ between episodes: {keys}"
    assert seen["step"] == played
    assert (seen["state"] == 0) if name in STATELESS else (seen["state"] >= played)


@pytest.mark.parametrize("name", cases())
def test_time_limits(name, build):
    """R22: no episode is longer than declared; the limit truncates, and says so."""
    given = WRAPPERS[name][1]
    env = build(**given)
    limit = as_team(name, env).spec_team.episode_limit
    assert limit is not None and limit in (given.values() or (limit,))
    ends = set()
    for terminal in (False, True):
        team = as_team(name, env, time_limit_is_terminal=terminal)
        rng = np.random.default_rng(1)
        for seed in range(20):
            steps, (_, _, terminated, truncated, info) = play(team, rng, seed)
            cut = info.get("episode_limit", False)
            assert steps == limit if cut else steps <= limit
            assert truncated == (cut and not terminal) and terminated != truncated
            ends.add(cut)
    assert (True in ends) == bool(given)


@pytest.mark.parametrize("name", cases())
def test_pickle_round_trip(name, build):
    """R22: a copy through pickle plays the same episodes."""
    env = build()
    if name != "smac":  # a running game cannot be copied
        env.reset(seed=3)
    twin = pickle.loads(pickle.dumps(env))
    rows = []
    for one in (env, twin):
        team = as_team(name, one)
        obs, _ = team.reset(seed=4)
        action = [np.flatnonzero(row)[0] for row in obs["action_mask"]]
        rows.append((obs, team.step(np.array(action))))
    twin.close()
    for key, value in rows[0][0].items():
        np.testing.assert_array_equal(value, rows[1][0][key])
    assert rows[0][1][1:] == rows[1][1][1:]


# smac draws with pygame, from the game's own map.
@pytest.mark.parametrize(
    "name", [n for n in cases(without=("smac",)) if n in envs_that_render()]
)
def test_pictures(name, build):
    """R22: render() returns a uint8 frame, of one size through an episode."""
    env = build(render_mode="rgb_array")
    team = as_team(name, env)
    obs, _ = team.reset(seed=0)
    frames = [team.render()]
    action = [np.flatnonzero(row)[0] for row in obs["action_mask"]]
    team.step(np.array(action))
    frames.append(team.render())
    for frame in frames:
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        assert frame.shape == frames[0].shape and frame.min() < frame.max()
