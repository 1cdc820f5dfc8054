"""The env `smac` against a double of SMAC that has SMAC's faults (tests/doubles/smac).

Nothing here plays StarCraft II: the game cannot be installed by a package manager.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from game_folder import install_game

from rllib_risk.env_wrappers import (
    EnvConfigError,
    EnvContractError,
    EnvFailedError,
    IllegalActionError,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.smac.env import SMAC

pytestmark = pytest.mark.usefixtures("no_smac")


@pytest.fixture
def double(smac_double, monkeypatch, tmp_path):
    """The double's class; also makes a fake folder of the game."""
    install_game(tmp_path / "sc2", "3m", "5m_vs_6m", "1z")
    monkeypatch.setenv("SC2PATH", str(tmp_path / "sc2"))
    module = importlib.import_module("smac.env.starcraft2.starcraft2")
    return module.StarCraft2Env


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int, seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not running(pid):
            return True
        time.sleep(0.05)
    return False


def attack(env: SMAC) -> dict[str, int]:
    """Every agent takes its last legal action: it attacks the last living enemy."""
    return {
        agent: int(np.flatnonzero(row)[-1])
        for agent, row in zip(env.possible_agents, env._mask, strict=True)
    }


def wait(env: SMAC) -> dict[str, int]:
    """Every agent stops; dead agents do nothing."""
    return {
        agent: 1 if row[1] else 0
        for agent, row in zip(env.possible_agents, env._mask, strict=True)
    }


def play(env: SMAC, rule=attack) -> tuple[float, dict, dict]:
    """Plays one battle; gives its return, last truncations and last infos."""
    total = 0.0
    while env.agents:
        _, rewards, _, truncations, infos = env.step(rule(env))
        total += rewards["agent_0"]
    return total, truncations, infos


def test_sizes_are_known_before_a_game_is_started(double):
    env = SMAC("5m_vs_6m")
    assert len(env.possible_agents) == 5
    assert env.action_space("agent_0").n == 12
    assert env.episode_limit == 70
    assert env.state_space.shape == (11,)
    assert env.observation_space("agent_0")["observation"].shape == (4 + 6 * 5 + 1,)
    team = make_team_env("smac", {"map_name": "5m_vs_6m"})
    assert team.spec_team.state_size == 11
    assert double.launches == 0


def test_a_victory(double):
    env = SMAC("3m", difficulty="A")
    env.reset(seed=3)
    total, truncations, infos = play(env)
    # The highest return is 20 on every map: for health, deaths and the victory.
    assert total == pytest.approx(20.0)
    assert not any(truncations.values())
    last = infos["agent_2"]
    assert last["battle_won"] and last["is_success"]
    assert last["dead_enemies"] == 3
    assert last["difficulty"] == 10
    assert last["sc2_build"] == 75689
    env.close()


def test_a_defeat_is_not_won_and_the_dead_may_only_do_nothing(double):
    env = SMAC("3m")
    env.reset(seed=0)
    env.step(wait(env))
    for _ in range(4):  # 45 points of health; each step costs 9
        observations = env.step(wait(env))[0]
    assert observations["agent_0"]["action_mask"].tolist() == [1] + [0] * 8
    assert not observations["agent_0"]["observation"].any()
    assert env.agents == env.possible_agents  # dead agents stay listed
    total, truncations, infos = play(env, wait)
    assert total == 0.0
    assert not any(truncations.values())
    assert infos["agent_0"]["battle_won"] is False
    assert infos["agent_0"]["dead_allies"] == 3
    env.close()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_time_limit_cuts_off_or_ends(double, terminal):
    config = {"map_name": "1z", "time_limit_is_terminal": terminal}
    team = make_team_env("smac", config)
    team.reset(seed=0)
    for _ in range(4):
        _, _, terminated, truncated, info = team.step(np.array([1]))
    assert (terminated, truncated) == (terminal, not terminal)
    assert info["episode_limit"] is True
    assert info["battle_won"] is False
    team.close()


def test_a_reset_before_the_end_neither_starts_a_game_nor_shrinks_rewards(double):
    env = SMAC("3m")
    for _ in range(3):
        env.reset(seed=0)
        env.step(attack(env))
    # 3 enemies: 10 each for their deaths, 45 of health; 200 for the victory.
    assert env._env.max_reward == 3 * 10 + 200 + 3 * 45
    assert double.launches == 1
    env.reset()
    assert play(env)[0] == pytest.approx(20.0)
    env.close()


def test_units_that_appear_late_do_not_shrink_rewards(double, monkeypatch):
    monkeypatch.setattr(double, "late_units", 2)
    env = SMAC("1z")
    env.reset(seed=0)
    assert env._env.max_reward == 10 + 200 + 150  # shields count
    env.close()


def test_the_game_reads_the_first_seed(double):
    env = SMAC("3m")
    env.reset(seed=7)
    env.reset(seed=8)
    assert env._env.launched_with == [7]
    env.close()


def test_the_steps_number_fits_the_space(double):
    env = SMAC("3m", obs_timestep_number=True, state_timestep_number=True)
    observations, _ = env.reset(seed=0)
    assert env.observation_space("agent_0").contains(observations["agent_0"])
    assert env.state().shape == env.state_space.shape
    env.close()


def test_a_sparse_reward_is_1_or_minus_1(double):
    env = SMAC("3m", reward_sparse=True)
    env.reset(seed=0)
    assert play(env)[0] == 1.0
    env.reset()
    assert play(env, wait)[0] == -1.0
    env.close()


def test_smac_args_reach_smac(double):
    env = SMAC("3m", smac_args={"reward_win": 100, "reward_scale": False})
    env.reset(seed=0)
    assert play(env)[0] == 3 * 10 + 100 + 3 * 45
    env.close()


def test_noise_moves_the_enemies_that_are_seen(double):
    """Enemies stand 1/3 to the side and a multiple of 1/3 up or down: two are seen."""
    clean, noisy = SMAC("5m_vs_6m"), SMAC("5m_vs_6m", enemy_noise_std=0.1)
    moved = []
    for seed in range(200):
        expected, got = clean.reset(seed=seed)[0], noisy.reset(seed=seed)[0]
        for agent in clean.agents:
            before, after = expected[agent]["observation"], got[agent]["observation"]
            mask = got[agent]["action_mask"]
            np.testing.assert_array_equal(mask, expected[agent]["action_mask"])
            blocks, others = after[4:34].reshape(6, 5), before[4:34].reshape(6, 5)
            seen = others[:, 1] > 0
            assert 0 < seen.sum() < 6
            assert not blocks[~seen].any()
            moved.append((blocks - others)[seen, 2:4])
            np.testing.assert_allclose(
                blocks[seen, 1], np.hypot(*blocks[seen, 2:4].T), rtol=1e-6
            )
            np.testing.assert_array_equal(blocks[:, [0, 4]], others[:, [0, 4]])
            np.testing.assert_array_equal(after[:4], before[:4])
            assert after[34] == before[34]
    draws = np.concatenate(moved)  # thousands, so that 5 % is many standard errors
    assert draws.std() == pytest.approx(0.1, rel=0.05)
    assert abs(draws.mean()) < 0.005
    again = noisy.reset(seed=199)[0]
    np.testing.assert_array_equal(again["agent_4"]["observation"], after)
    np.testing.assert_array_equal(clean.state(), noisy.state())
    clean.close()
    noisy.close()


def test_noise_on_rewards(double):
    rewards = []
    for std in (0.0, 0.5):
        env = SMAC("3m", reward_noise_std=std)
        for seed in range(300):
            env.reset(seed=seed)
            rewards.append(env.step(attack(env))[1]["agent_0"])
        env.close()
    draws = np.subtract(rewards[300:], rewards[:300])
    assert draws.std() == pytest.approx(0.5, rel=0.15)
    assert abs(draws.mean()) < 0.1


def test_close_saves_the_replay_ends_the_game_and_may_be_repeated(double, tmp_path):
    env = SMAC("3m", save_replay=True, smac_args={"replay_dir": "mine"})
    env.close()  # nothing to end
    env.reset(seed=0)
    pid = env._env._sc2_proc.pid
    assert running(pid)
    env.close()
    env.close()
    assert not running(pid)
    assert (tmp_path / "sc2" / "Replays" / "mine" / "battle.SC2Replay").is_file()
    env.reset(seed=0)  # a closed env may be reset, as in PettingZoo
    env.close()


def test_a_picture(double):
    """Its colours are those of Python 3.10, since pysc2 needs the `shuffle` of 3.10."""
    env = SMAC("3m", render_mode="rgb_array")
    env.reset(seed=0)
    shuffle = random.shuffle
    for _ in range(2):
        picture = env.render()
        assert picture.shape == (4, 4, 3)
        assert picture[:, 0, 0].tolist() == [0, 3, 1, 2]
    assert random.shuffle is shuffle
    env.close()
    assert SMAC("3m").render() is None


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (
            {"agent_0": 0, "agent_1": 1, "agent_2": 1},
            "'agent_0': action 0 is not legal",
        ),
        (
            {"agent_0": 1, "agent_1": 9, "agent_2": 1},
            "'agent_1': action 9 is not legal",
        ),
        ({"agent_0": 1, "agent_1": 1}, "'agent_2': action 0 is not legal"),
    ],
)
def test_an_illegal_action_is_named(double, actions, text):
    env = SMAC("3m")
    env.reset(seed=0)
    with pytest.raises(IllegalActionError, match=text):
        env.step(actions)
    env.close()
    with pytest.raises(IllegalActionError, match="reset"):
        SMAC("3m").step({})


def test_a_crash_is_an_error_and_leaves_no_game(double, monkeypatch):
    monkeypatch.setattr(double, "crash_at", 2)
    env = SMAC("3m")
    env.reset(seed=0)
    env.step(attack(env))
    env.step(attack(env))
    with pytest.raises(EnvContractError, match="crashed in the middle"):
        env.step(attack(env))
    new_game = env._env._sc2_proc.pid  # SMAC has started one
    env.close()
    assert not running(new_game)


def test_a_crash_while_a_battle_begins_is_an_error(double, monkeypatch):
    env = SMAC("3m")
    env.reset(seed=0)
    monkeypatch.setattr(double, "crash_in_reset", True)
    with pytest.raises(EnvContractError, match="while a battle began"):
        env.reset()
    env.close()


def test_the_sampler_starts_a_new_game_after_a_crash(double, monkeypatch):
    monkeypatch.setattr(double, "crash_at", 1)
    envs = make_batched("smac", {"map_name": "3m"}, 2)
    envs.reset(np.arange(2), np.arange(2))
    active = np.ones(2, bool)
    stop = np.ones((2, 3), np.int64)
    assert not envs.step(stop, active).crashed
    result = envs.step(stop, active)
    assert list(result.crashed) == [0]
    assert "crashed" in result.crashed[0]
    envs.reset(np.array([0]), np.array([5]))
    assert not envs.step(stop, active).crashed
    envs.close()


def test_a_game_that_always_crashes_is_given_up(double, monkeypatch):
    class Broken(double):
        def reset(self):
            super().reset()
            self.crash_now = True

        def step(self, actions):
            self.full_restart()
            return 0, True, {}

    monkeypatch.setattr(sys.modules["smac.env"], "StarCraft2Env", Broken)
    envs = make_batched("smac", {"map_name": "3m"}, 1, max_restarts=3)
    envs.reset(np.arange(1), np.arange(1))
    with pytest.raises(EnvFailedError, match="'smac' failed 3 times"):
        for _ in range(3):
            envs.step(np.ones((1, 3), np.int64), np.ones(1, bool))
            envs.reset(np.arange(1), np.arange(1))
    envs.close()


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from rllib_risk.env_wrappers.smac.env import SMAC
env = SMAC("3m")
env.reset(seed=0)
print(env._env._sc2_proc.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_no_game(double, smac_double):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(smac_double)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        game = int(child.stdout.readline())
        assert running(game)
        child.kill()  # as Ray ends an actor
        child.wait()
        assert gone(game)
    finally:
        child.kill()
        child.stdout.close()
        with contextlib.suppress(ProcessLookupError, UnboundLocalError):
            os.kill(game, signal.SIGKILL)


def write_package(folder: Path, env: str | None) -> None:
    """Writes a package `smac`; `env` is the source of smac.env."""
    (folder / "smac").mkdir(parents=True)
    (folder / "smac" / "__init__.py").touch()
    if env is not None:
        (folder / "smac" / "env" / "starcraft2").mkdir(parents=True)
        (folder / "smac" / "env" / "__init__.py").write_text(env)


PROTOBUF = "raise TypeError('Descriptors cannot be created directly.\\nIf this call')"


@pytest.mark.parametrize(
    ("env", "text", "commands"),
    [
        (None, "AutoML", ["pip uninstall -y smac", "rllib-risk[smac]", "git+https"]),
        (
            PROTOBUF,
            "Descriptors cannot be created directly",
            ["pip install --force-reinstall --no-deps pys2clientprotocol"],
        ),
        ("import google.protobuf.not_there", "protobuf", ["pys2clientprotocol"]),
        ("import pysc2_not_there", "pysc2_not_there", ["rllib-risk[smac]"]),
    ],
)
def test_a_broken_smac_package_is_reported(tmp_path, monkeypatch, env, text, commands):
    write_package(tmp_path, env)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvConfigError, match=text) as error:
        SMAC("3m")
    for command in commands:
        assert command in str(error.value)


def test_no_smac_at_all(monkeypatch):
    monkeypatch.setitem(sys.modules, "smac", None)
    with pytest.raises(EnvConfigError, match="not on the package index") as error:
        make_team_env("smac", {"map_name": "3m"})
    assert "pip install 'rllib-risk[smac]'" in str(error.value)
    assert "pip install --no-deps 'SMAC @ git+https" in str(error.value)


def test_no_game(double, monkeypatch, tmp_path):
    monkeypatch.setenv("SC2PATH", str(tmp_path / "empty"))
    env = SMAC("3m")  # the spaces need no game
    with pytest.raises(EnvConfigError, match="no StarCraft II in") as error:
        env.reset(seed=0)
    assert "export SC2PATH" in str(error.value)
    assert double.launches == 0


def test_no_map_file(double, monkeypatch, tmp_path):
    install_game(tmp_path / "other", "5m_vs_6m")
    monkeypatch.setenv("SC2PATH", str(tmp_path / "other"))
    with pytest.raises(EnvConfigError, match=r"3m\.SC2Map") as error:
        SMAC("3m").reset(seed=0)
    assert "cp -r smac/smac/env/starcraft2/maps/SMAC_Maps" in str(error.value)


def test_unknown_map(double):
    with pytest.raises(EnvConfigError, match="Did you mean '5m_vs_6m'"):
        SMAC("5m_vs_6")


def test_unknown_version(double):
    env = SMAC("3m", game_version="4.6.2")
    with pytest.raises(EnvConfigError, match=r"game_version: Unknown.*4\.10"):
        env.reset(seed=0)
    env.close()


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"difficulty": "hard"}, "env_config.difficulty must be one of"),
        ({"render_mode": "human"}, "render_mode must be rgb_array"),
        ({"enemy_noise_std": -0.1}, "enemy_noise_std must be at least 0"),
        ({"reward_noise_std": -0.1}, "reward_noise_std must be at least 0"),
        ({"enemy_noise_std": "much"}, "enemy_noise_std must be a number"),
        ({"smac_args": [1]}, "smac_args must be a mapping"),
        ({"smac_args": {"reward_wim": 1}}, "smac_args.*reward_wim"),
        ({"smac_args": {"map_name": "8m"}}, "set env_config.map_name instead"),
        ({"smac_args": {"continuing_episode": True}}, "this env sets it"),
    ],
)
def test_wrong_arguments(double, kwargs, text):
    with pytest.raises(EnvConfigError, match=text):
        SMAC("3m", **kwargs)
