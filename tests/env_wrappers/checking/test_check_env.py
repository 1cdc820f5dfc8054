"""check_env on good envs and on envs broken in one way each."""

import re
import time

import numpy as np
import pytest
from gymnasium import spaces
from scripted_envs import RandomDeathEnv, ScriptedEnv

from rllib_risk.env_wrappers.checking import check_env as checking
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.episode_loop import MAX_EPISODE_STEPS

END = {"a0": "term", "a1": "term"}


class Short(ScriptedEnv):
    """Three steps, no fault; the base of the broken envs below."""

    def __init__(self, **kwargs):
        super().__init__([{}, {}, END], **kwargs)


class NoSeed(Short):
    def reset(self):
        return super().reset()


class Crashing(Short):
    def step(self, actions):
        raise KeyError("boom")


class NanObs(Short):
    def _obs(self, agents):
        obs = super()._obs(agents)
        obs["a1"][0] = np.nan
        return obs


class OutsideObs(Short):
    def _obs(self, agents):
        return {agent: obs - 1000.0 for agent, obs in super()._obs(agents).items()}


class WrongDtype(Short):
    def _obs(self, agents):
        return {a: obs.astype(np.float64) for a, obs in super()._obs(agents).items()}


class WrongShape(Short):
    def _obs(self, agents):
        return {a: np.zeros(5, np.float32) for a in agents}


class Vanishing(Short):
    def step(self, actions):
        row = super().step(actions)
        if "a0" in self.agents:
            self.agents.remove("a0")
        return row


class Staying(Short):
    def step(self, actions):
        row = super().step(actions)
        if self.time == 3:
            self.agents = ["a0", "a1"]
        return row


class Endless(Short):
    def step(self, actions):
        self.time = 0
        return super().step(actions)


class Unseeded(Short):
    def _obs(self, agents):
        return {
            a: np.random.default_rng().random(obs.shape).astype(np.float32)
            for a, obs in super()._obs(agents).items()
        }


class BoxActions(Short):
    def __init__(self):
        super().__init__()
        self.action_spaces["a1"] = spaces.Box(-1, 1, (2,))


class NewSpaces(Short):
    def action_space(self, agent):
        return spaces.Discrete(2)


class FourTuple(Short):
    def step(self, actions):
        return super().step(actions)[:4]


class OldReset(Short):
    def reset(self, seed=None, options=None):
        return super().reset()[0]


class NanReward(Short):
    def step(self, actions):
        row = super().step(actions)
        row[1]["a0"] = np.nan
        return row


class NoSpace(Short):
    """``observation_space`` or ``action_space`` returns None, as a forgotten return."""

    def __init__(self, method):
        super().__init__()
        setattr(self, method, lambda agent: None)


class Lasting(ScriptedEnv):
    def __init__(self, steps):
        super().__init__([{}] * (steps - 1) + [END])


class Hanging(Short):
    """One of its functions waits for ever."""

    def __init__(self, where):
        self.where = where
        self._wait("build")
        super().__init__()

    def _wait(self, name):
        if name == self.where:
            time.sleep(10_000)

    def reset(self, seed=None, options=None):
        self._wait("reset")
        return super().reset(seed, options)

    def step(self, actions):
        self._wait("step")
        return super().step(actions)

    def close(self):
        self._wait("close")


def no_action():
    return Short(masks={"a1": [0, 0, 0]})


def bad_mask():
    return Short(masks={"a1": [1, 0]})


def different_rewards():
    return Short(rewards={"a0": 3.0})


def build_error():
    raise OSError("licence server is down")


def here(name):
    return f"{__name__}:{name.__name__}"


@pytest.fixture(autouse=True)
def _short_episodes(monkeypatch):
    monkeypatch.setattr(checking, "MAX_EPISODE_STEPS", 300)


@pytest.mark.parametrize(
    "name", ["macn", "matrix_game", "two_step", "memory_game", "mmdp", "risky_bandit"]
)
def test_our_envs_have_no_findings(name):
    report = check_env(name)
    assert report.ok, str(report)
    assert {finding.level for finding in report.findings} == {"ok"}
    assert report.summary["steps_per_s"] > 0
    assert report.summary["num_actions"] >= 2
    assert "usable" in str(report) and name in str(report)


def test_a_good_env_of_ones_own():
    config = {"kwargs": {"num_agents": 3}}
    report = check_env("scripted_envs:RandomDeathEnv", config)
    assert report.ok, str(report)
    assert report.summary["agents"] == "soldier_0, soldier_1, soldier_2"
    assert report.summary["state_size"] == 2
    assert check_env("pettingzoo", {"factory": "scripted_envs:RandomDeathEnv"}).ok
    assert RandomDeathEnv().possible_agents


ERRORS = [
    (NoSeed, {}, r"reset\(\) of NoSeed.*seed=None and options=None"),
    (Crashing, {}, r"raised KeyError: 'boom' \(.*test_check_env.py, line"),
    (NanObs, {}, r"observation of agent 'a1' holds NaN"),
    (WrongShape, {}, r"rule of the adapter.*has shape \(5,\).* has shape \(1,\)"),
    (Endless, {}, r"no episode ended within 300 steps.*time limit"),
    (BoxActions, {}, r"'a1' has action space Box.*set env_config.box_bins"),
    (FourTuple, {}, r"step\(\) must return.*truncations, infos"),
    (OldReset, {}, r"reset\(\) must return \(observations, infos\)"),
    (NanReward, {}, r"rewards are not finite: a0: nan"),
    (no_action, {}, r"agent 'a1' has no legal action"),
    (bad_mask, {}, r"agent 'a1' has 3 actions but its action_mask has 2 entries"),
    (different_rewards, {}, r"team_reward to sum or mean"),
    (build_error, {}, r"OSError: licence server is down"),
    (Short, {"state": "env"}, r"implement state\(\), or set env_config.state"),
    (Short, {"kwargs": {"bad": 1}}, r"cannot be built.*unexpected.*'bad'"),
    *(
        (
            NoSpace,
            {"kwargs": {"method": method}},
            rf"{method}\('a0'\) of NoSpace returned None, which is no space",
        )
        for method in ("observation_space", "action_space")
    ),
    (Lasting, {"kwargs": {"steps": 301}}, "no episode ended within 300 steps"),
]


@pytest.mark.parametrize(("env", "config", "text"), ERRORS)
def test_errors(env, config, text):
    report = check_env(here(env), config)
    assert not report.ok
    errors = [f.message for f in report.findings if f.level == "error"]
    assert len(errors) == 1, str(report)
    assert re.search(text, errors[0]), errors[0]
    assert "not usable" in str(report)


@pytest.mark.parametrize(
    ("where", "when"),
    [
        ("build", "while the env was built"),
        ("reset", "the reset of episode 1"),
        ("step", "step 1 of episode 1"),
    ],
)
def test_an_env_that_hangs(where, when, monkeypatch):
    """R16: the time limit of training applies to the check as well."""
    monkeypatch.setattr(checking, "ENV_TIMEOUT_S", 1.0)
    report = check_env(here(Hanging), {"kwargs": {"where": where}})
    (error,) = [f.message for f in report.findings if f.level == "error"]
    assert f"{where}() did not return within 1 s (env_timeout_s) ({when}; " in error
    assert "test_check_env.py, line" in error


def test_a_close_that_hangs_is_a_warning(monkeypatch):
    monkeypatch.setattr(checking, "ENV_TIMEOUT_S", 1.0)
    report = check_env(here(Hanging), {"kwargs": {"where": "close"}})
    assert report.ok
    assert "close() did not return within 1 s" in str(report)


def test_the_longest_episode_is_that_of_training(monkeypatch):
    from rllib_risk.core.team_fields import TEAM_FIELDS

    assert TEAM_FIELDS["max_episode_steps"].default == MAX_EPISODE_STEPS
    assert TEAM_FIELDS["env_timeout_s"].default == checking.ENV_TIMEOUT_S
    assert check_env(here(Lasting), {"kwargs": {"steps": 300}}).ok


WARNINGS = [
    (Short, {}, "the env has no state(), but mixers such as qmix need one"),
    (OutsideObs, {}, "outside the declared bounds"),
    (WrongDtype, {}, "float64, but its space has float32. It is cast"),
    (Vanishing, {}, "agent 'a0' vanished from agents without"),
    (Staying, {}, "'a0' has ended but is still in agents"),
    (Unseeded, {}, "the same seed gave two different episodes"),
    (NewSpaces, {}, "builds a new space at every call"),
]


@pytest.mark.parametrize(("env", "config", "text"), WARNINGS)
def test_warnings(env, config, text):
    report = check_env(here(env), config)
    assert report.ok, str(report)
    texts = [f.message for f in report.findings if f.level == "warn"]
    assert any(text in message for message in texts), str(report)


def test_the_named_fixes_work():
    assert check_env(here(BoxActions), {"box_bins": 3}).summary["num_actions"] == 9
    assert check_env(here(different_rewards), {"team_reward": "mean"}).ok
    report = check_env(here(Short), {"state": "concat_obs"})
    assert all(f.level == "ok" for f in report.findings), str(report)


def test_a_module_that_exits_is_named(monkeypatch, tmp_path):
    (tmp_path / "exits_at_once.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    assert "cannot import module 'exits_at_once'" in str(check_env("exits_at_once:env"))


@pytest.mark.parametrize("name", ["mcan", "no.such.module:env", "json:dumps"])
def test_unknown_env_names_are_refused(name):
    report = check_env(name)
    assert not report.ok and report.summary == {}
