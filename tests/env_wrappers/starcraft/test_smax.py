"""The env `smax` against JaxMARL's own loop, and the features added to it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from rllib_risk.env_wrappers import (
    EnvConfigError,
    IllegalActionError,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.scripted import RandomPolicy
from rllib_risk.env_wrappers.smax.batched import BatchedSMAX
from rllib_risk.env_wrappers.smax.core import SmaxCore, smax_core
from rllib_risk.env_wrappers.smax.env import MAPS, RANDOM_MAPS, SMAX, battle_result

ALL = np.arange(4)
# Enemies that do nothing; two cores compile this in seconds.
PEACE = {"allies": {"marine": 3}, "enemies": {"marine": 1}, "map_name": None}
PEACE["smax_args"] = {"enemy_shoots": False, "attack_mode": "closest"}


@pytest.fixture(scope="module", name="battles")
def _battles():
    return BatchedSMAX(4, map_name="3m", episode_limit=30)


def attack_or_advance(mask: np.ndarray) -> np.ndarray:
    """Attacks the last enemy in range, else moves east to them; dead agents stop."""
    last = mask.shape[-1] - 1 - mask[..., ::-1].argmax(-1)
    return np.where(last >= 5, last, np.where(mask[..., 2] > 0, 2, 0))


def test_an_episode_is_jaxmarls_own(battles):
    """Compares observations, states, legal actions, rewards and deaths with JaxMARL.

    JaxMARL's functions run one battle at a time and are not compiled together."""
    jax = importlib.import_module("jax")
    smax_core(SMAX("3m").scenario)  # imports JaxMARL without its messages
    smax = importlib.import_module("jaxmarl.environments.smax")
    env = smax.HeuristicEnemySMAX(scenario=smax.map_name_to_scenario("3m"))
    seeds = np.array([3, 2**40 + 3, 5, 6])
    battles.reset(ALL, seeds)
    keys, states, seen = [], [], []
    for seed in seeds.tolist():
        key = jax.random.fold_in(
            jax.random.PRNGKey(np.uint32(seed & 0xFFFFFFFF)), np.uint32(seed >> 32)
        )
        key, first = jax.random.split(key)
        obs, state = env.reset(first)
        keys.append(key)
        states.append(state)
        seen.append(obs)
    ours_first = [4, 0, 1, 2, 3, 5, 6, 7]  # SMAX's numbers of our actions
    running = np.ones(4, bool)
    rng = np.random.default_rng(0)
    fought = 0.0
    for _ in range(40):
        for slot in np.flatnonzero(running):
            rows = np.stack([seen[slot][agent] for agent in env.agents])
            np.testing.assert_allclose(battles.obs[slot], rows, atol=1e-5)
            world = seen[slot]["world_state"]
            np.testing.assert_allclose(battles.state[slot], world, atol=1e-4)
            legal = env.get_avail_actions(states[slot])
            masks = np.stack([legal[agent] for agent in env.agents])[:, ours_first]
            np.testing.assert_array_equal(battles.action_mask[slot], masks)
        actions = RandomPolicy().act(battles.obs, battles.action_mask, rng)
        advance = attack_or_advance(battles.action_mask)
        actions = np.where(rng.random((4, 3)) < 0.7, advance, actions)
        step = battles.step(actions, running)
        for slot in np.flatnonzero(running):
            keys[slot], now = jax.random.split(keys[slot])
            chosen = {
                agent: ours_first[actions[slot, i]]
                for i, agent in enumerate(env.agents)
            }
            seen[slot], states[slot], rewards, _, _ = env.step_env(
                now, states[slot], chosen
            )
            assert step.rewards[slot] == pytest.approx(float(rewards["ally_0"]))
            fought += step.rewards[slot]
            alive = np.asarray(states[slot].state.unit_alive)
            over = not (alive[:3].any() and alive[3:].any())
            assert step.terminateds[slot] == over
            if over:
                info = step.infos[slot]
                assert info["dead_enemies"] == 3 - alive[3:].sum()
                assert info["battle_won"] == (alive[:3].any() and not alive[3:].any())
        running &= ~(step.terminateds | step.truncateds)
    assert not running.any()
    assert fought > 1.0


def test_the_twin_and_single_battles_agree(battles):
    team = make_team_env("smax", {"map_name": "3m", "episode_limit": 30})
    assert team.spec_team == battles.spec
    for seed in (0, 1, 2):
        obs, _ = team.reset(seed=seed)
        battles.reset(np.array([1, 2]), np.array([seed, 77]))
        active = np.array([False, True, True, False])
        done = False
        while not done:
            np.testing.assert_allclose(battles.obs[1], obs["obs"], atol=1e-5)
            np.testing.assert_allclose(battles.state[1], obs["state"], atol=1e-4)
            np.testing.assert_array_equal(battles.action_mask[1], obs["action_mask"])
            actions = np.zeros((4, 3), np.int64)
            actions[1:3] = attack_or_advance(battles.action_mask[1:3])
            step = battles.step(actions, active)
            obs, reward, terminated, truncated, info = team.step(actions[1])
            assert step.rewards[1] == pytest.approx(reward, abs=1e-6)
            assert step.terminateds[1] == terminated
            assert step.truncateds[1] == truncated
            assert step.infos[1] == info
            active[2] &= not (step.terminateds[2] or step.truncateds[2])
            done = terminated or truncated
        assert info["dead_allies"] + info["dead_enemies"] > 0


def test_a_slot_does_not_know_of_the_others(battles):
    battles.reset(ALL, np.array([9, 9, 10, 9]))
    np.testing.assert_array_equal(battles.obs[0], battles.obs[1])
    assert (battles.obs[0] != battles.obs[2]).any()
    before = battles.obs.copy(), battles.state.copy(), battles.action_mask.copy()
    active = np.array([True, True, True, False])
    for _ in range(3):
        battles.step(attack_or_advance(battles.action_mask), active)
    np.testing.assert_array_equal(battles.obs[0], battles.obs[1])
    for now, then in zip(
        (battles.obs, battles.state, battles.action_mask), before, strict=True
    ):
        np.testing.assert_array_equal(now[3], then[3])
        assert (now[0] != then[0]).any() or now is battles.action_mask
    battles.step(attack_or_advance(battles.action_mask), ~active)
    battles.reset(np.array([0]), np.array([9]))
    np.testing.assert_array_equal(battles.obs[0], before[0][0])


@pytest.mark.parametrize("plan", ["right", "none", "short", "other", "some"])
def test_a_battle_depends_only_on_its_seed(battles, plan):
    """Includes lost episodes that get another seed, and slots that are reset twice."""
    rng = np.random.default_rng(3)
    seeds = rng.integers(2**31, size=40)
    expected = {
        "right": seeds,
        "none": seeds[:0],
        "short": seeds[:13],
        "other": seeds[::-1],
        "some": np.where(rng.random(40) < 0.8, seeds, 7),
    }[plan]
    battles.expect(expected)
    singles = [make_team_env("smax", {"map_name": "3m"}) for _ in range(4)]
    coming = iter(seeds.tolist())
    slots = ALL
    for _ in range(16):
        again = [next(coming) for _ in slots]
        if rng.random() < 0.2:
            again[-1] = 2**35 + 5  # an arbitrary one
        battles.reset(slots, np.array(again))
        for slot, seed in zip(slots.tolist(), again, strict=True):
            obs, _ = singles[slot].reset(seed=seed)
            np.testing.assert_allclose(battles.obs[slot], obs["obs"], atol=1e-5)
            np.testing.assert_allclose(battles.state[slot], obs["state"], atol=1e-4)
        if rng.random() < 0.7:
            active = rng.random(4) < 0.7
            actions = attack_or_advance(battles.action_mask)
            step = battles.step(actions, active)
            for slot in np.flatnonzero(active).tolist():
                obs, reward, *_ = singles[slot].step(actions[slot])
                np.testing.assert_allclose(battles.obs[slot], obs["obs"], atol=1e-5)
                assert step.rewards[slot] == pytest.approx(reward, abs=1e-6)
        slots = rng.permutation(4)[: rng.integers(1, 4)]


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_expected_battles_begin_together(monkeypatch, noise):
    config = {"map_name": "3m", "obs_noise_std": noise}
    envs = make_batched("smax", config, 4)
    begun = []
    begin = SmaxCore.begin

    def counted(core, seeds, num_battles):
        begun.append(len(seeds))
        return begin(core, seeds, num_battles)

    monkeypatch.setattr(SmaxCore, "begin", counted)
    seeds = np.arange(10)
    envs.expect(seeds)
    envs.reset(ALL, seeds[:4])
    for start in range(4, 10, 2):
        envs.step(np.zeros((4, 3), np.int64), np.ones(4, bool))
        envs.reset(ALL[:2], seeds[start : start + 2])
    assert begun == [4, 4, 2]
    envs.expect(seeds)
    envs.reset(ALL[:2], np.array([0, 99]))  # one is lost, and played with another seed
    envs.reset(ALL[:2], np.array([1, 2]))
    envs.reset(ALL[:2], np.array([3, 4]))
    assert begun == [4, 4, 2, 4, 4]


def test_everything_is_compiled_once_per_size():
    core = smax_core(SMAX("3m").scenario)

    def sizes():
        return [f._cache_size() for f in (core._play, core._begin)]

    before = sizes()
    for _ in range(2):  # the second one compiles nothing
        envs = BatchedSMAX(3, map_name="3m")
        assert envs._core is core
        envs.reset(np.arange(3), np.arange(3))
        for _ in range(3):
            envs.step(np.zeros((3, 3), np.int64), np.ones(3, bool))
        envs.reset(np.arange(3), np.arange(3))
        envs.reset(np.arange(3), np.arange(3))  # the first ones were not played yet
        assert sizes() == [size + 1 for size in before]


def test_victory():
    battles = BatchedSMAX(4, **PEACE)
    battles.reset(ALL, ALL)
    total, active = np.zeros(4), np.ones(4, bool)
    infos = [{}] * 4
    while active.any():
        step = battles.step(attack_or_advance(battles.action_mask), active)
        total += step.rewards
        assert not step.truncateds.any()
        for slot in np.flatnonzero(step.terminateds):
            infos[slot] = step.infos[slot]
        active &= ~step.terminateds
    np.testing.assert_allclose(total, 2.0, rtol=1e-5)  # all health, and the victory
    for info in infos:
        assert info == {
            "battle_won": True,
            "is_success": True,
            "dead_allies": 0,
            "dead_enemies": 1,
        }


@pytest.mark.parametrize("terminal", [False, True])
def test_the_time_limit(terminal):
    config = {**PEACE, "episode_limit": 7, "time_limit_is_terminal": terminal}
    single = make_team_env("smax", config)
    twin = make_batched("smax", config, 4)
    assert isinstance(twin, BatchedSMAX)
    assert twin.spec.episode_limit == 7
    single.reset(seed=0)
    twin.reset(ALL, ALL)
    for count in range(1, 8):
        step = twin.step(np.zeros((4, 3), np.int64), np.ones(4, bool))
        _, _, terminated, truncated, info = single.step(np.zeros(3, np.int64))
        assert (step.terminateds[0], step.truncateds[0]) == (terminated, truncated)
        assert (terminated, truncated) == (
            count == 7 and terminal,
            count == 7 and not terminal,
        )
    assert info == step.infos[0]
    assert info["episode_limit"] is True
    assert info["battle_won"] is False


def test_the_dead_see_nothing_and_only_stop():
    env = SMAX("3m")
    env.reset(seed=0)
    dead = 0
    while env.agents:
        still = {
            agent: int(attack_or_advance(env._seen.action_mask[0])[i])
            for i, agent in enumerate(env.possible_agents)
        }
        observations = env.step(still)[0]
        alive = env._seen.alive[0]
        for i, agent in enumerate(env.possible_agents):
            if not alive[i]:
                dead += 1
                mask = observations[agent]["action_mask"]
                assert mask.tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
                assert not observations[agent]["observation"].any()
    assert dead


@pytest.mark.parametrize(
    ("alive", "won", "over"),
    [
        ([1, 0, 0, 0], True, True),
        ([0, 0, 1, 0], False, True),
        ([0, 0, 0, 0], False, True),  # both at once: a draw
        ([1, 0, 0, 1], False, False),
    ],
)
def test_results(alive, won, over):
    result = battle_result(np.array(alive, bool), 2)
    assert (result["battle_won"], result["is_success"]) == (won, won)
    assert result["over"] == over
    assert result["dead_allies"] == 2 - sum(alive[:2])


def test_maps_are_jaxmarls():
    smax_core(SMAX("3m").scenario)
    scenarios = importlib.import_module(
        "jaxmarl.environments.smax.smax_env"
    ).MAP_NAME_TO_SCENARIO
    ours = {*MAPS, *RANDOM_MAPS}
    assert ours == {*scenarios, "8m_vs_9m", "corridor"}
    for name, theirs in scenarios.items():
        scenario = SMAX(name).scenario
        assert scenario.unit_types == tuple(np.asarray(theirs.unit_types).tolist())
        assert scenario.num_allies == theirs.num_allies
        assert scenario.random_positions == theirs.smacv2_position_generation
        assert scenario.random_types == theirs.smacv2_unit_type_generation
    assert SMAX("corridor").scenario.unit_types == (3,) * 6 + (4,) * 24
    # The sizes that the specification of the maps states.
    env = SMAX("5m_vs_6m")
    assert env.observation_space("ally_0")["observation"].shape == (140,)
    assert env.state_space.shape == (132,)


def test_units_of_ones_own():
    env = SMAX(None, allies={"stalker": 1, "hydralisk": 2}, enemies={"marauder": 1})
    assert env.scenario.unit_types == (2, 5, 5, 1)
    assert env.possible_agents == ["ally_0", "ally_1", "ally_2"]
    assert env.action_space("ally_0").n == 6


def test_noise_moves_the_enemies_that_are_seen():
    clean, noisy = (
        BatchedSMAX(4, **PEACE, episode_limit=50, enemy_noise_std=std)
        for std in (0.0, 0.2)
    )
    moved = []
    for seed in range(8):
        for envs in (clean, noisy):
            envs.reset(ALL, ALL + 4 * seed)
        for _ in range(14):
            for envs in (clean, noisy):
                envs.step(np.full((4, 3), 2), np.ones(4, bool))  # towards the enemies
            np.testing.assert_array_equal(clean.state, noisy.state)
            np.testing.assert_array_equal(clean.action_mask, noisy.action_mask)
            difference = noisy.obs - clean.obs
            changed = np.zeros(clean.spec.obs_size, bool)
            changed[2 * 13 + 1 : 2 * 13 + 3] = True  # dx and dy of the one enemy
            assert not difference[..., ~changed].any()
            seen = clean.obs[..., 26:39].any(-1)
            assert not difference[..., changed][~seen].any()
            moved.append(difference[..., changed][seen])
    draws = np.concatenate(moved)
    assert len(draws) > 400
    assert draws.std() == pytest.approx(0.2, rel=0.1)
    assert abs(draws.mean()) < 0.03


def test_a_picture():
    env = SMAX("3m", render_mode="rgb_array")
    assert env.render() is None
    env.reset(seed=0)
    first = env.render()
    assert first.shape == (480, 480, 3) and first.dtype == np.uint8
    blue, red = (30, 90, 200), (205, 50, 45)
    for colour, left in ((blue, True), (red, False)):
        columns = np.flatnonzero((first == colour).all(-1).any(0))
        assert columns.size and (columns < 240).all() == left
    env.step(dict.fromkeys(env.agents, 2))
    assert (env.render() != first).any()
    assert SMAX("3m").render() is None


def test_an_illegal_action_is_named():
    env = SMAX("3m")
    with pytest.raises(IllegalActionError, match="reset"):
        env.step({})
    env.reset(seed=0)
    with pytest.raises(IllegalActionError, match="'ally_1': action 5 is not legal"):
        env.step({"ally_0": 0, "ally_1": 5, "ally_2": 0})


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"map_name": "5m_vs_6"}, "unknown map '5m_vs_6'. Did you mean '5m_vs_6m'"),
        ({"map_name": None}, "unknown map None.*own battle set map_name: null"),
        ({"map_name": "MMM2"}, "unknown map 'MMM2'.*Known: 3m, 8m"),
        ({"allies": {"marine": 1}}, "only one of env_config.allies"),
        (
            {"allies": {"marine": 1}, "enemies": {"marine": 1}},
            "set map_name to null",
        ),
        (
            {"map_name": None, "allies": {"medivac": 1}, "enemies": {"marine": 1}},
            "allies: unknown unit 'medivac'",
        ),
        (
            {"map_name": None, "allies": {"marine": 0}, "enemies": {"marine": 1}},
            "allies.marine must be a positive integer",
        ),
        (
            {"map_name": None, "allies": {}, "enemies": {"marine": 1}},
            "allies must be a mapping",
        ),
        ({"episode_limit": 0}, "episode_limit must be a positive integer"),
        ({"enemy_noise_std": -1.0}, "enemy_noise_std must be at least 0"),
        ({"smax_args": {"see_enemy": True}}, "Did you mean 'see_enemy_actions'"),
        ({"smax_args": {"max_steps": 5}}, "unknown key 'max_steps'"),
        ({"smax_args": 3}, "smax_args must be a mapping"),
        ({"render_mode": "human"}, "render_mode must be"),
    ],
)
def test_wrong_arguments(kwargs, text):
    with pytest.raises(EnvConfigError, match=text):
        SMAX(**kwargs)


@pytest.mark.parametrize("module", ["jax", "jaxmarl"])
def test_without_jaxmarl(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvConfigError, match=f"module {module} is missing") as error:
        make_team_env("smax")
    assert "pip install 'rllib-risk[smax]'" in str(error.value)


def test_building_one_does_not_import_jax():
    code = (
        "import sys; from rllib_risk.env_wrappers import make_team_env;"
        "make_team_env('smax', {'map_name': '5m_vs_6m'});"
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
