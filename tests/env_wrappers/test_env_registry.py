"""Envs by name, and the errors for wrong names, keys and values."""

import subprocess
import sys

import numpy as np
import pytest
from extras import need_extra
from scripted_envs import RandomDeathEnv, ScriptedEnv

from rllib_risk.env_wrappers import (
    ENVS,
    EnvConfigError,
    EnvFailedError,
    LoopedTeamEnvs,
    TeamEnv,
    make_batched,
    make_team_env,
)


def named_env(size, shape=3):
    return RandomDeathEnv(num_agents=size, limit=shape)


def any_arguments(**kwargs):
    return RandomDeathEnv(**kwargs)


def aec_env():
    from pettingzoo.utils import parallel_to_aec

    return parallel_to_aec(RandomDeathEnv())


def nothing():
    return None


not_callable = 3


def test_the_names():
    assert set(ENVS) == {
        "macn",
        "matrix_game",
        "two_step",
        "memory_game",
        "mmdp",
        "risky_bandit",
        "risky_two_step",
        "car_following",
        "hvac",
        "uav",
        "smac",
        "smax",
        "tabular",
        "lbf",
        "rware",
        "mpe",
        "vmas",
        "gymnasium",
        "pettingzoo",
    }
    for name, entry in ENVS.items():
        assert entry.name == name and entry.doc.endswith(".")


# `smac` needs StarCraft II: tests/env_wrappers/starcraft/test_smac.py has a double.
SELF_CONTAINED = sorted(set(ENVS) - {"pettingzoo", "gymnasium", "smac"})


@pytest.mark.parametrize("name", SELF_CONTAINED)
def test_every_env_by_name(name):
    need_extra(name)
    env = make_team_env(name)
    assert isinstance(env, TeamEnv)
    batched = make_batched(name, None, 2)
    assert batched.spec == env.spec_team and batched.num_envs == 2
    batched.close()


def test_keys_go_to_the_adapter_or_to_the_env():
    env = make_team_env("macn", {"width": 12, "state": "concat_obs"})
    assert env.spec_team.state_size == 18 and env.parallel_env.map.width == 12


def test_an_env_of_ones_own():
    config = {"factory": f"{__name__}:named_env", "kwargs": {"size": 2}}
    env = make_team_env("pettingzoo", {**config, "state": "none"})
    assert env.spec_team.agents == ("soldier_0", "soldier_1")
    assert env.spec_team.state_size == 0
    assert isinstance(make_batched("pettingzoo", config, 2), LoopedTeamEnvs)
    config = {"factory": f"{__name__}:any_arguments", "kwargs": {"num_agents": 3}}
    assert make_team_env("pettingzoo", config).spec_team.num_agents == 3


FACTORY = {"factory": f"{__name__}:named_env"}


@pytest.mark.parametrize(
    ("name", "config", "text"),
    [
        ("mcan", {}, "unknown env 'mcan': did you mean 'macn'?"),
        ("starcraft", {}, "known are macn, matrix_game"),
        ("macn", {"widht": 7}, r"env_config.widht: did you mean 'width'\?"),
        ("macn", {"team_rewad": "sum"}, r"did you mean 'team_reward'\?"),
        ("macn", {"width": 1}, "width must be an integer of at least 3"),
        ("macn", {"state": "all"}, "state must be one of"),
        ("two_step", {"zzz": 1}, "known are"),
        ("pettingzoo", {}, "needs env_config.factory"),
        ("pettingzoo", {"factory": 3}, "needs env_config.factory"),
        ("pettingzoo", {**FACTORY, "size": 2}, "go into env_config.kwargs"),
        ("pettingzoo", {**FACTORY, "kwarg": {}}, "did you mean 'kwargs'"),
        ("pettingzoo", {**FACTORY, "kwargs": [2]}, "must be a mapping"),
        ("pettingzoo", {**FACTORY, "kwargs": {"sice": 2}}, "did you mean 'size'"),
        ("pettingzoo", FACTORY, "cannot be built: missing a required.*'size'"),
        ("pettingzoo", {"factory": "json"}, "form 'pkg.module:name'"),
        ("pettingzoo", {"factory": "no_such_pkg.mod:f"}, "cannot import.*PYTHONPATH"),
        (
            "pettingzoo",
            {"factory": "json:lods"},
            "'lods'. Did you mean 'loads'",
        ),
        ("pettingzoo", {"factory": f"{__name__}:not_callable"}, "must be a class or"),
        ("pettingzoo", {"factory": f"{__name__}:aec_env"}, "AEC env.*parallel_env"),
        ("pettingzoo", {"factory": f"{__name__}:nothing"}, "returned NoneType"),
    ],
)
@pytest.mark.parametrize("make", [make_team_env, lambda n, c: make_batched(n, c, 1)])
def test_what_is_written_wrong_is_named(name, config, text, make):
    with pytest.raises(EnvConfigError, match=text):
        make(name, config)


def test_max_restarts_reaches_the_loop():
    config = {"factory": "scripted_envs:FlakyEnv", "kwargs": {"p_reset": 1.0}}
    envs = make_batched("pettingzoo", config, 1, max_restarts=1)
    with pytest.raises(
        EnvFailedError,
        match=r"env 'pettingzoo \(scripted_envs:FlakyEnv\)' failed 1 times",
    ):
        envs.reset(np.array([0]), np.array([0]))


def test_a_refused_env_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(ScriptedEnv, "close", lambda self: closed.append(self))
    config = {"factory": "scripted_envs:ScriptedEnv", "kwargs": {"script": [{}]}}
    make_team_env("pettingzoo", config)
    with pytest.raises(EnvConfigError):
        make_team_env("pettingzoo", {**config, "state": "env"})
    assert len(closed) == 1


def test_importing_the_envs_is_light():
    code = (
        "import sys, rllib_risk.env_wrappers; "
        "print([m for m in ('torch', 'ray', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
