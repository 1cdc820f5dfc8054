"""`mpe` gives the numbers of MPE2's own parallel envs."""

import importlib

import numpy as np
import pytest

from rllib_risk.env_wrappers import EnvConfigError, make_team_env
from rllib_risk.env_wrappers.checking.check_env import check_env

pytest.importorskip("mpe2", reason="needs the extra [mpe]")

CASES = [
    ({}, "simple_spread_v3", {}),
    (
        {"num_agents": 4, "local_ratio": 0.2, "episode_limit": 7},
        "simple_spread_v3",
        {"N": 4, "local_ratio": 0.2, "max_cycles": 7},
    ),
    ({"task": "simple_reference"}, "simple_reference_v3", {}),
    ({"task": "simple_speaker_listener"}, "simple_speaker_listener_v4", {}),
    ({"task": "simple"}, "simple_v3", {}),
]


@pytest.mark.parametrize(("config", "module", "kwargs"), CASES)
def test_same_seeds_same_numbers(config, module, kwargs):
    """Compares observations, state, team reward and end, step by step."""
    own = importlib.import_module(f"mpe2.{module}").parallel_env(**kwargs)
    team = make_team_env("mpe", config)
    shared = config.get("task") in ("simple", "simple_speaker_listener")
    limit, rng = kwargs.get("max_cycles", 25), np.random.default_rng(0)
    sizes = [own.action_space(agent).n for agent in own.possible_agents]
    differ = False
    for seed in range(5):
        theirs, _ = own.reset(seed=seed)
        ours, _ = team.reset(seed=seed)
        for step in range(1, limit + 1):
            for row, mask, size, agent in zip(
                ours["obs"], ours["action_mask"], sizes, theirs, strict=True
            ):
                seen = theirs[agent]
                np.testing.assert_array_equal(row[: seen.size], seen)
                assert not row[seen.size :].any()
                assert mask.sum() == size
            np.testing.assert_array_equal(ours["state"], own.state())
            action = [int(rng.integers(size)) for size in sizes]
            joint = dict(zip(own.possible_agents, action, strict=True))
            theirs, rewards, _, cuts, _ = own.step(joint)
            ours, reward, terminated, truncated, _ = team.step(np.array(action))
            values = list(rewards.values())
            differ |= max(values) - min(values) > 1e-6
            assert reward == (values[0] if shared else sum(values))
            assert truncated == all(cuts.values()) == (step == limit)
            assert not terminated
    assert differ != shared


def test_a_shared_reward_needs_local_ratio_0():
    team = make_team_env("mpe", {"local_ratio": 0.0, "team_reward": "shared"})
    rng = np.random.default_rng(0)
    team.reset(seed=0)
    assert all(np.isfinite(team.step(rng.integers(5, size=3))[1]) for _ in range(25))


@pytest.mark.parametrize("task", ["simple_spread", "simple_speaker_listener"])
def test_check_env_is_clean(task):
    report = check_env("mpe", {"task": task})
    assert [f.level for f in report.findings] == ["ok", "ok"], str(report)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"task": "simple_spraed"}, "did you mean 'simple_spread'"),
        ({"task": ["simple"]}, "env_config.task: unknown"),
        ({"task": "simple_tag"}, "two sides with opposite rewards"),
        ({"task": "simple", "num_agents": 2}, "task simple has no such argument"),
        ({"task": "simple", "local_ratio": 0.5}, "task simple has no such argument"),
        ({"local_ratio": 1.5}, r"must be in \[0, 1\], not 1.5"),
        ({"num_agents": 0}, "num_agents must be a positive integer"),
        ({"episode_limit": True}, "episode_limit must be a positive integer"),
        ({"kwargs": {"N": 2}}, "use env_config.num_agents"),
        ({"kwargs": {"max_cycles": 2}}, "use env_config.episode_limit"),
        ({"kwargs": {"continuous_actions": True}}, "actions are discrete here"),
        ({"kwargs": {"dynamic_rescalin": True}}, "did you mean 'dynamic_rescaling'"),
        ({"kwargs": 3}, "must be a mapping"),
        ({"tsk": "simple"}, "did you mean 'task'"),
    ],
)
def test_what_is_written_wrong_is_named(config, text):
    with pytest.raises(EnvConfigError, match=text):
        make_team_env("mpe", config)
