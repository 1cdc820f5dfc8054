"""Any Gymnasium env with a space for each agent, behind PettingZoo's API."""

import gymnasium
import numpy as np
import pytest
from gymnasium_envs import Meeting, Scripted

from rllib_risk.core.record import named_code
from rllib_risk.env_wrappers import TeamEnv, make_team_env
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError
from rllib_risk.env_wrappers.gymnasium_teams.env import JointGymnasiumEnv

SEEN = [np.array([1.0]), np.array([2.0])]
RESET = (SEEN, {})


def stepped(*row, named=False, reset=RESET, actions=None):
    """The adapter's env, and the result of one step."""
    env = JointGymnasiumEnv(Scripted([row], reset, named))
    env.reset(seed=0)
    agents = env.possible_agents
    return env, env.step(actions or dict.fromkeys(agents, 1))


def test_lists_are_divided_among_the_agents():
    env, row = stepped(SEEN, [0.5, -1.0], [False, True], [False, False], {"n": 3})
    assert env.possible_agents == ["agent_0", "agent_1"]
    obs, rewards, terminations, truncations, infos = row
    assert obs == {"agent_0": SEEN[0], "agent_1": SEEN[1]}
    assert rewards == {"agent_0": 0.5, "agent_1": -1.0}
    assert terminations == {"agent_0": False, "agent_1": True}
    assert truncations == {"agent_0": False, "agent_1": False}
    assert infos == {"agent_0": {"n": 3}, "agent_1": {"n": 3}}
    assert env.agents == ["agent_0"]


def test_one_number_or_flag_counts_for_all():
    env, row = stepped(tuple(SEEN), 2.0, False, np.True_, {})
    assert row[1] == {"agent_0": 2.0, "agent_1": 2.0}
    assert row[3] == {"agent_0": True, "agent_1": True}
    assert env.agents == []


def test_dicts_by_agent_keep_the_names():
    by_agent = {"left": SEEN[0], "right": SEEN[1]}
    info = {"left": {"a": 1}, "right": {"a": 2}, "both": 3}
    env, row = stepped(
        by_agent,
        {"right": 1.0, "left": 0.0},
        {"left": True, "right": False},
        False,
        info,
        named=True,
        reset=(by_agent, {}),
        actions={"left": 2, "right": 3},
    )
    assert env.possible_agents == ["left", "right"]
    assert env.gymnasium_env.played == [{"left": 2, "right": 3}]
    assert row[1] == {"left": 0.0, "right": 1.0}
    assert row[4] == {"left": {"a": 1, "both": 3}, "right": {"a": 2, "both": 3}}
    assert env.agents == ["right"]


def test_agents_that_left_play_their_first_action():
    rows = [
        (SEEN, [0, 0], [True, False], False, {}),
        (SEEN, [7, 1], [True, False], False, {}),
    ]
    inner = Scripted(rows, RESET)
    env = JointGymnasiumEnv(inner)
    env.reset(seed=5)
    env.step({"agent_0": 3, "agent_1": 2})
    obs, rewards, *_ = env.step({"agent_1": 2})
    assert inner.played == [(3, 2), (1, 2)] and inner.seeds == [5]
    assert rewards == {"agent_1": 1} and [*obs] == ["agent_1"]


def test_infos_are_divided_by_their_form():
    mask = np.array([[1, 0, 1], [0, 1, 1]])
    info = {"mask": mask, "score": [4, 5], "steps": 9, "level": {"agent_0": 1}}
    _, row = stepped(SEEN, 0.0, False, False, info)
    first, second = row[4]["agent_0"], row[4]["agent_1"]
    np.testing.assert_array_equal(first.pop("mask"), [1, 0, 1])
    np.testing.assert_array_equal(second.pop("mask"), [0, 1, 1])
    # the dict names only one agent, so it is not divided
    assert first == {"score": 4, "steps": 9, "level": {"agent_0": 1}}
    assert second == {"score": 5, "steps": 9, "level": {"agent_0": 1}}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((SEEN, 0.0, False, {}), r"step\(\) must return \(observations, rewards"),
        ((SEEN[:1], 0.0, False, False, {}), "observations must be a list with one"),
        ((SEEN, [0.0] * 3, False, False, {}), "each of the 2 agents"),
        ((SEEN, {"a": 0.0}, False, False, {}), "rewards hold the key 'a', and the"),
        ((SEEN, 0.0, False, False, None), "info must be a dict, not None"),
    ],
)
def test_rows_of_another_form_are_refused(row, text):
    with pytest.raises(EnvContractError, match=text):
        stepped(*row)


def test_a_reset_of_another_form_is_refused():
    env = JointGymnasiumEnv(Scripted([], SEEN))
    with pytest.raises(EnvContractError, match=r"must return \(observations, info\)"):
        env.reset()


HERE = "gymnasium_envs"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "needs env_config.id, such as"),
        ({"id": f"{HERE}:Meeting-v0", "factory": f"{HERE}:Meeting"}, "Give one"),
        ({"id": 3}, "must be texts"),
        ({"id": f"{HERE}:Gone-v0"}, "registered with 'no_such_module:Gone', which can"),
        ({"id": "Meetin-v0"}, "Environment `Meetin` doesn't exist.*name its module"),
        ({"id": "no_such_module:A-v0"}, "cannot import module 'no_such_module'"),
        ({"id": f"{HERE}:Meeting-v0", "kwargs": {"lenth": 3}}, "did you mean 'length'"),
        ({"id": f"{HERE}:Meeting-v0", "kwargs": [3]}, "must be a mapping"),
        ({"id": f"{HERE}:Meeting-v0", "episode_limit": 0}, "a positive integer"),
        ({"id": f"{HERE}:Meeting-v0", "lenth": 3}, "unknown key env_config.lenth"),
        ({"factory": f"{HERE}:Meetin"}, "Did you mean 'Meeting'"),
        ({"factory": f"{HERE}:not_an_env"}, "returned str, not a gymnasium.Env"),
        ({"factory": f"{HERE}:uneven"}, "one space for each agent"),
        ({"factory": f"{HERE}:alone"}, "TimeLimit|CartPoleEnv has observation space"),
    ],
)
def test_what_does_not_fit_is_named(config, text):
    with pytest.raises(EnvConfigError, match=text):
        make_team_env("gymnasium", config)


def test_by_id_and_by_factory_it_is_the_same_env():
    registered = make_team_env(
        "gymnasium",
        {"id": f"{HERE}:Meeting-v0", "team_reward": "sum", "state": "concat_obs"},
    )
    built = make_team_env(
        "gymnasium",
        {
            "factory": f"{HERE}:Meeting",
            "kwargs": {"length": 7},
            "episode_limit": 12,
            "team_reward": "sum",
            "state": "concat_obs",
        },
    )
    assert registered.spec_team == built.spec_team
    assert registered.spec_team.episode_limit == 12
    assert registered.masks.source == "none"  # nothing was seen yet
    rng, ends = np.random.default_rng(0), set()
    for seed in range(20):
        rows = [registered.reset(seed=seed)[0], built.reset(seed=seed)[0]]
        while True:
            np.testing.assert_array_equal(rows[0]["obs"], rows[1]["obs"])
            mask = rows[0]["action_mask"]
            action = [rng.choice(np.flatnonzero(row)) for row in mask]
            one, two = registered.step(action), built.step(action)
            assert one[1:4] == two[1:4]
            rows = [one[0], two[0]]
            if one[2] or one[3]:
                ends.add((one[2], one[3]))
                assert one[4]["distance"] == two[4]["distance"]
                break
    assert ends == {(True, False), (False, True)}
    assert registered.masks.source == "info"


def test_a_limit_of_ones_own_replaces_the_registered_one():
    config = {"id": f"{HERE}:Meeting-v0", "team_reward": "sum", "episode_limit": 3}
    assert make_team_env("gymnasium", config).spec_team.episode_limit == 3
    assert gymnasium.spec("Meeting-v0").max_episode_steps == 12


def test_check_env_is_clean():
    config = {"team_reward": "sum", "state": "concat_obs"}
    report = check_env("gymnasium", {"id": f"{HERE}:Meeting-v0", **config})
    assert [f.level for f in report.findings] == ["ok", "ok"], str(report)
    assert report.summary["action_mask"] == "entry action_mask of the info"
    report = check_env("gymnasium", {"id": f"{HERE}:Meeting-v0"})
    assert "set env_config.team_reward to sum or mean" in str(report)


def test_pictures_are_the_envs_own():
    team = TeamEnv(JointGymnasiumEnv(Meeting(render_mode="rgb_array"), "rgb_array"))
    assert team.render_mode == "rgb_array" and team.render().shape == (4, 4, 3)


def test_a_checkpoint_does_not_import_what_it_names():
    def named(**env_config):
        return [*named_code({"env": "gymnasium", "env_config": env_config})]

    assert named(id="Meeting-v0") == []
    assert named(id="evil:Meeting-v0") == ["evil:Meeting-v0"]
    assert named(factory="evil:make") == ["evil:make"]
