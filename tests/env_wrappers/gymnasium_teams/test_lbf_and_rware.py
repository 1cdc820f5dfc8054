"""`lbf` and `rware` give the numbers of the packages' own envs."""

import importlib.util

import gymnasium
import numpy as np
import pytest

from rllib_risk.env_wrappers import EnvConfigError, make_team_env
from rllib_risk.env_wrappers.checking.check_env import check_env

pytest.importorskip("lbforaging", reason="needs the extra [lbf]")
pytest.importorskip("rware", reason="needs the extra [rware]")

# Env, id, given `episode_limit`, and the time limit, which random play reaches.
CASES = [
    ("lbf", "Foraging-8x8-2p-2f-coop-v3", None, 50),
    ("lbf", "Foraging-2s-5x5-3p-1f-v3", 9, 9),
    ("rware", "rware-tiny-2ag-v2", 40, 40),
    ("rware", "rware-tiny-3ag-easy-v2", 25, 25),
]
LIMIT_KEYS = {"lbf": "max_episode_steps", "rware": "max_steps"}


@pytest.mark.parametrize(("name", "task", "given", "limit"), CASES)
def test_same_seeds_same_numbers(name, task, given, limit):
    """Compares observations, the sum of rewards and ends, step by step."""
    own = gymnasium.make(task, disable_env_checker=True)
    setattr(own.unwrapped, {"lbf": "_max_episode_steps"}.get(name, "max_steps"), limit)
    config = {"id": task} | ({"episode_limit": given} if given else {})
    team = make_team_env(name, config)
    spec = team.spec_team
    assert spec.episode_limit == limit and spec.state_size == 0
    assert spec.agents == tuple(f"agent_{i}" for i in range(spec.num_agents))
    rng, paid, ended = np.random.default_rng(0), 0.0, set()
    for seed in range(12):
        theirs, _ = own.reset(seed=seed)
        ours, _ = team.reset(seed=seed)
        for step in range(1, limit + 1):
            np.testing.assert_array_equal(ours["obs"], np.stack(theirs))
            assert ours["action_mask"].all()
            # half of the actions load, so that some food is loaded
            load = 5 if name == "lbf" else 4
            action = rng.integers(spec.num_actions, size=spec.num_agents)
            action[rng.random(spec.num_agents) < 0.5] = load
            theirs, rewards, done, cut, _ = own.step(tuple(action.tolist()))
            ours, reward, terminated, truncated, info = team.step(action)
            assert reward == sum(rewards) and not cut
            assert done == (terminated or truncated)
            paid += reward
            if done:
                np.testing.assert_array_equal(ours["obs"], np.stack(theirs))
                solved = name == "lbf" and not own.unwrapped.field.any()
                # both packages call their time limit a true end
                assert terminated == solved and (solved or step == limit)
                assert info.get("episode_limit", False) == truncated
                if name == "lbf":
                    assert info["is_success"] == solved
                ended.add(solved)
                break
        else:
            raise AssertionError("the episode did not end")
    # random play solves only the small task
    assert (paid > 0, ended) == (
        (True, {False, True}) if given == 9 else (False, {False})
    )


def test_the_team_gets_the_sum_unless_it_is_told_otherwise():
    config = {"id": "Foraging-5x5-2p-1f-v3"}
    rng = np.random.default_rng(0)
    teams = [
        make_team_env("lbf", config | more) for more in ({}, {"team_reward": "mean"})
    ]
    paid = []
    for seed in range(20):
        for team in teams:
            team.reset(seed=seed)
        ended = False
        while not ended:
            action = rng.integers(6, size=2)
            rows = [team.step(action) for team in teams]
            ended = rows[0][2] or rows[0][3]
            paid.append([row[1] for row in rows])
    sums, means = np.array(paid).T
    assert sums.sum() > 0
    np.testing.assert_allclose(sums, 2 * means)


@pytest.mark.parametrize("name", ["lbf", "rware"])
def test_check_env_is_clean(name):
    report = check_env(name, {"state": "concat_obs"})
    assert [f.level for f in report.findings] == ["ok", "ok"], str(report)


@pytest.mark.parametrize(
    ("name", "config", "text"),
    [
        ("lbf", {"id": "rware-tiny-2ag-v2"}, "no task of lbforaging; its ids begin"),
        ("lbf", {"id": "Foraging-8x8-2p-2f-cop-v3"}, "env_config.id: "),
        ("lbf", {"kwargs": {"sihgt": 2}}, "did you mean 'sight'"),
        ("lbf", {"kwargs": {"max_episode_steps": 9}}, "use env_config.episode_limit"),
        ("rware", {"kwargs": {"max_steps": 9}}, "use env_config.episode_limit"),
        ("rware", {"kwargs": {"msg_bits": 2}}, r"action space MultiDiscrete\("),
        ("rware", {"kwarg": {}}, "did you mean 'kwargs'"),
    ],
)
def test_what_is_written_wrong_is_named(name, config, text):
    with pytest.raises(EnvConfigError, match=text):
        make_team_env(name, config)


def test_arguments_of_the_package_are_passed_on():
    near = make_team_env("lbf", {"kwargs": {"observe_agent_levels": False}})
    assert near.spec_team.obs_size == 3 * 2 + 2 * 2  # two foods, two players


@pytest.mark.parametrize(
    ("name", "package"),
    [("lbf", "lbforaging"), ("rware", "rware"), ("mpe", "mpe2"), ("vmas", "vmas")],
)
def test_a_missing_package_is_named_with_the_command(name, package, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == package else found(n)
    )
    with pytest.raises(EnvConfigError, match=rf"'{name}' needs the package {package}"):
        make_team_env(name)
    with pytest.raises(EnvConfigError, match=rf"pip install 'rllib-risk\[{name}\]'"):
        make_team_env(name)
