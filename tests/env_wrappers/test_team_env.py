"""The adapter from a PettingZoo parallel env to the team contract."""

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from scripted_envs import FlakyEnv, RandomDeathEnv, ScriptedEnv

from rllib_risk.env_wrappers import (
    EnvConfigError,
    EnvContractError,
    IllegalActionError,
    NonFiniteError,
    TeamEnv,
    make_team_env,
)
from rllib_risk.env_wrappers.team_reward import team_rewards


class OneAgentSpaces(ScriptedEnv):
    """A scripted env whose agents have the given spaces and observation."""

    def __init__(self, obs_space=None, action_space=None, obs=None):
        super().__init__([{}] * 100)
        for agent in self.possible_agents:
            if obs_space is not None:
                self.observation_spaces[agent] = obs_space
            if action_space is not None:
                self.action_spaces[agent] = action_space
        self.fixed_obs = obs

    def _obs(self, agents):
        if self.fixed_obs is None:
            return super()._obs(agents)
        return dict.fromkeys(agents, self.fixed_obs)


# --- sizes ---------------------------------------------------------------------------


def test_padding():
    # Agent k has k + 1 observations and k + 2 actions: D = 3 and A = 4 for 3 agents.
    env = TeamEnv(ScriptedEnv([{}], num_agents=3))
    spec = env.spec_team
    assert spec.agents == ("a0", "a1", "a2") and spec.num_agents == 3
    assert (spec.obs_size, spec.num_actions, spec.state_size) == (3, 4, 0)
    obs, info = env.reset(seed=0)
    assert info == {}
    np.testing.assert_array_equal(obs["obs"], [[10, 0, 0], [20, 20, 0], [30, 30, 30]])
    np.testing.assert_array_equal(
        obs["action_mask"], [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    )
    assert obs["state"].shape == (0,)
    assert obs["obs"].dtype == obs["state"].dtype == np.float32
    assert obs["action_mask"].dtype == np.uint8
    assert env.observation_space.contains(obs)
    assert env.action_space == spaces.MultiDiscrete([4, 4, 4])
    with pytest.raises(IllegalActionError, match=r"a0.*action 2.*\[0, 1\]"):
        env.step([2, 0, 0])
    obs, reward, terminated, truncated, info = env.step([1, 2, 3])
    assert (reward, terminated, truncated, info) == (1.0, False, False, {})
    assert env.parallel_env.received == [{"a0": 1, "a1": 2, "a2": 3}]
    assert isinstance(env, gymnasium.Env)


def test_arrays_of_two_steps_are_not_shared():
    env = TeamEnv(ScriptedEnv([{}] * 3))
    first, _ = env.reset()
    kept = first["obs"].copy()
    env.step([0, 0])
    np.testing.assert_array_equal(first["obs"], kept)


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
        (
            spaces.Box(0, 255, (2, 2), np.uint8),
            np.array([[1, 2], [3, 4]], np.uint8),
            [1, 2, 3, 4],
        ),
        (
            spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(0, 9, (1,))}),
            {"a": np.array([7.0], np.float32), "b": 1},
            [7, 0, 1],
        ),
    ],
)
def test_observation_spaces(space, value, expected):
    obs, _ = TeamEnv(OneAgentSpaces(obs_space=space, obs=value)).reset()
    np.testing.assert_array_equal(obs["obs"], [expected, expected])


def test_observations_without_a_fixed_size_are_refused():
    space = spaces.Sequence(spaces.Discrete(2))
    with pytest.raises(EnvConfigError, match=r"agent 'a0'.*Sequence.*use Box"):
        TeamEnv(OneAgentSpaces(obs_space=space))


def test_a_wrong_size_is_reported():
    env = TeamEnv(OneAgentSpaces(spaces.Box(0, 1, (3,)), obs=np.zeros(4, np.float32)))
    with pytest.raises(EnvContractError, match=r"a0.*\(4,\).*\(3,\)"):
        env.reset()


def test_masks_in_observation_and_info():
    space = spaces.Dict(
        {
            "observation": spaces.Box(0, 9, (2,)),
            "action_mask": spaces.Box(0, 1, (3,), np.int8),
        }
    )
    value = {"observation": np.array([4, 5]), "action_mask": np.array([0, 1, 1])}
    env = TeamEnv(OneAgentSpaces(space, spaces.Discrete(3), value))
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs["obs"], [[4, 5]] * 2)
    np.testing.assert_array_equal(obs["action_mask"], [[0, 1, 1]] * 2)
    with pytest.raises(IllegalActionError, match=r"Legal actions: \[1, 2\]"):
        env.step([0, 1])

    env = TeamEnv(ScriptedEnv([{}], masks={"a1": [0, 0, 1]}))
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs["action_mask"], [[1, 1, 0], [0, 0, 1]])
    with pytest.raises(EnvContractError, match=r"a1.*3 actions.*2 entries"):
        TeamEnv(ScriptedEnv([{}], masks={"a1": [0, 1]})).reset()
    with pytest.raises(EnvContractError, match=r"a0.*no legal action"):
        TeamEnv(ScriptedEnv([{}], masks={"a0": [0, 0]})).reset()


# --- actions -------------------------------------------------------------------------


def test_box_actions_on_a_grid():
    # two dimensions with bins low, middle, high; the last dimension runs fastest
    box = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32))
    env = TeamEnv(OneAgentSpaces(action_space=box), box_bins=3)
    assert env.spec_team.num_actions == 9
    env.reset()
    env.step([0, 5])
    sent = env.parallel_env.received[0]
    np.testing.assert_array_equal(sent["a0"], [-1, 0])
    np.testing.assert_array_equal(sent["a1"], [0, 10])  # 5 = (1, 2)
    assert sent["a0"].dtype == np.float32 and box.contains(sent["a1"])


def test_integer_and_shaped_boxes():
    box = spaces.Box(0, 4, (1, 2), np.int64)
    env = TeamEnv(OneAgentSpaces(action_space=box), box_bins=4)
    env.reset()
    env.step([1, 15])
    sent = env.parallel_env.received[0]
    # 0, 4/3, 8/3, 4 rounded: 0, 1, 3, 4
    np.testing.assert_array_equal(sent["a0"], [[0, 1]])
    np.testing.assert_array_equal(sent["a1"], [[4, 4]])
    assert box.contains(sent["a0"])


def test_discrete_start():
    env = TeamEnv(OneAgentSpaces(action_space=spaces.Discrete(2, start=7)))
    env.reset()
    env.step([0, 1])
    assert env.parallel_env.received == [{"a0": 7, "a1": 8}]


@pytest.mark.parametrize(
    ("space", "bins", "text"),
    [
        (spaces.Box(-1, 1, (2,)), None, r"a0.*Box.*set env_config.box_bins"),
        (spaces.Box(-1, 1, (2,)), 1, "box_bins must be an integer of at least 2"),
        (spaces.Box(-1, 1, (2,)), 2.0, "box_bins must be an integer"),
        (spaces.Box(-1, 1, (9,)), 9, "387420489 actions"),
        (spaces.Box(-np.inf, 1, (1,)), 3, "unbounded action space"),
        (spaces.MultiDiscrete([2, 2]), None, r"a0.*MultiDiscrete.*discrete actions"),
    ],
)
def test_actions_that_cannot_be_numbered(space, bins, text):
    with pytest.raises(EnvConfigError, match=text):
        TeamEnv(OneAgentSpaces(action_space=space), box_bins=bins)


# --- ends of episodes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (("term", "term"), (True, False)),
        (("term", "trunc"), (False, True)),
        (("trunc", "term"), (False, True)),
        (("trunc", "trunc"), (False, True)),
        # an agent with both flags has terminated
        (("both", "both"), (True, False)),
        (("both", "trunc"), (False, True)),
    ],
)
def test_done_flags_of_agents_that_end_together(ends, expected):
    """R22: all combinations of how two agents end in one step."""
    script = [{}, {"a0": ends[0], "a1": ends[1]}]
    env = TeamEnv(ScriptedEnv(script))
    env.reset()
    assert env.step([0, 0])[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step([0, 0])
    assert (terminated, truncated) == expected
    assert info == ({"episode_limit": True} if expected[1] else {})
    with pytest.raises(IllegalActionError, match="reset"):
        env.step([0, 0])

    env = TeamEnv(ScriptedEnv(script), time_limit_is_terminal=True)
    env.reset()
    env.step([0, 0])
    _, _, terminated, truncated, info = env.step([0, 0])
    assert (terminated, truncated) == (True, False)
    assert info == ({"episode_limit": True} if expected[1] else {})


@pytest.mark.parametrize(
    ("first", "last"), list(itertools.product(("term", "trunc"), repeat=2))
)
def test_the_last_agent_alive_decides(first, last):
    """R22: all combinations of how two agents end, one after the other."""
    env = TeamEnv(ScriptedEnv([{"a0": first}, {}, {"a1": last}]))
    env.reset()
    for _ in range(2):
        obs, _, terminated, truncated, _ = env.step([0, 0])
        assert not terminated and not truncated
        # dead: zero observation, only action 0 legal
        np.testing.assert_array_equal(obs["obs"][0], 0)
        np.testing.assert_array_equal(obs["action_mask"][0], [1, 0, 0])
        assert obs["obs"][1].any() and obs["action_mask"][1].all()
    _, _, terminated, truncated, _ = env.step([0, 1])
    assert (terminated, truncated) == (last == "term", last == "trunc")
    # the dead agent's action was not passed on
    assert env.parallel_env.received == [{"a0": 0, "a1": 0}, {"a1": 0}, {"a1": 1}]


def test_the_final_row():
    """Truncated agents keep their real last row, from which a learner bootstraps."""
    env = TeamEnv(ScriptedEnv([{"a0": "trunc", "a1": "trunc"}]))
    env.reset()
    obs = env.step([0, 0])[0]
    np.testing.assert_array_equal(obs["obs"], [[11, 0], [21, 21]])
    np.testing.assert_array_equal(obs["action_mask"], [[1, 1, 0], [1, 1, 1]])
    # the row of the agent that terminated is zero
    env = TeamEnv(ScriptedEnv([{"a0": "term", "a1": "trunc"}]))
    env.reset()
    obs = env.step([0, 0])[0]
    np.testing.assert_array_equal(obs["obs"], [[0, 0], [21, 21]])
    np.testing.assert_array_equal(obs["action_mask"], [[1, 0, 0], [1, 1, 1]])
    # an env may allow no action after the end
    env = TeamEnv(ScriptedEnv([{"a0": "term", "a1": "term"}]))
    env.reset()
    env.parallel_env.masks = {"a0": [0, 0], "a1": [0, 0, 0]}
    obs = env.step([0, 0])[0]
    np.testing.assert_array_equal(obs["action_mask"], [[1, 0, 0], [1, 0, 0]])


def test_agents_that_vanish_without_a_flag_truncate_the_episode():
    class Vanishing(ScriptedEnv):
        def step(self, actions):
            row = super().step(actions)
            self.agents = []
            return row

    env = TeamEnv(Vanishing([{}]))
    env.reset()
    assert env.step([0, 0])[2:4] == (False, True)


def test_agents_unknown_or_missing_are_reported():
    env = TeamEnv(ScriptedEnv([{}]))
    env.reset()
    env.parallel_env.reset = None
    env.parallel_env.agents.append("ghost")
    env.parallel_env.step = lambda actions: ({}, {}, {}, {}, {})
    with pytest.raises(EnvContractError, match="ghost"):
        env.step([0, 0])
    env = TeamEnv(ScriptedEnv([{}]))
    env.parallel_env._obs = lambda agents: {}
    with pytest.raises(EnvContractError, match="'a0' got no observation"):
        env.reset()


# --- rewards, state, info ------------------------------------------------------------


def test_team_rewards():
    rewards = {"a0": 1.0, "a1": 4.0}

    def first_reward(**options):
        env = TeamEnv(ScriptedEnv([{}], rewards=rewards), **options)
        env.reset()
        return env.step([0, 0])[1]

    assert first_reward(team_reward="sum") == 5.0
    assert first_reward(team_reward="mean") == 2.5
    with pytest.raises(EnvConfigError, match=r"a0: 1, a1: 4.*team_reward to sum or"):
        first_reward()
    # only agents alive are counted
    env = TeamEnv(ScriptedEnv([{"a0": "term"}, {}], rewards=rewards), team_reward="sum")
    env.reset()
    assert [env.step([0, 0])[1] for _ in range(2)] == [5.0, 4.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("how", ["shared", "sum", "mean"])
def test_a_bad_reward_of_any_agent_is_seen_in_a_batch(how, bad):
    """The copy with the bad reward gets NaN or infinity; the other copy does not."""
    rewards = np.array([[2.0, 2.0], [2.0, bad]], np.float32)
    good, lost = team_rewards(how, ["a0", "a1"], rewards)
    assert np.isfinite(good) and not np.isfinite(lost)
    different = np.array([[2.0, 3.0], [2.0, bad]], np.float32)
    if how == "shared":
        with pytest.raises(EnvConfigError, match=r"a0: 2, a1: 3"):
            team_rewards(how, ["a0", "a1"], different)


def test_states():
    env = RandomDeathEnv()
    assert TeamEnv(env).spec_team.state_size == 2  # auto: the env has one
    assert TeamEnv(env, state="none").spec_team.state_size == 0
    team = TeamEnv(env, state="concat_obs")
    assert team.spec_team.state_size == 12
    obs, _ = team.reset(seed=0)
    np.testing.assert_array_equal(obs["state"], obs["obs"].reshape(-1))
    team = TeamEnv(env, state="env")
    obs, _ = team.reset(seed=0)
    np.testing.assert_array_equal(obs["state"], [1, 0])
    # an env without state() is accepted unless the state must be the env's
    assert TeamEnv(ScriptedEnv([{}])).spec_team.state_size == 0
    with pytest.raises(EnvConfigError, match="concat_obs or none"):
        TeamEnv(ScriptedEnv([{}]), state="env")


def test_a_state_without_a_space_is_measured():
    class Stateful(ScriptedEnv):
        def state(self):
            return np.arange(6).reshape(2, 3)

    env = TeamEnv(Stateful([{}]))
    assert env.spec_team.state_size == 6
    assert env.reset()[0]["state"].tolist() == [0, 1, 2, 3, 4, 5]
    env.parallel_env.state = lambda: np.zeros(5)
    with pytest.raises(EnvContractError, match="5 numbers, not the declared 6"):
        env.reset()
    env.parallel_env.state = lambda: np.full(6, np.nan)
    with pytest.raises(NonFiniteError, match="state"):
        env.reset()


def test_infos_of_the_last_step_are_merged():
    infos = {
        "a0": {"is_success": True, "speed": 1.0, "kills": 2, "name": "x"},
        "a1": {"is_success": False, "speed": 3.0, "kills": 2},
    }
    env = TeamEnv(ScriptedEnv([{}, {"a0": "term", "a1": "term"}], infos=infos))
    env.reset()
    assert env.step([0, 0])[4] == {}
    # a flag must be true for all agents, numbers are averaged, texts are left out
    assert env.step([0, 0])[4] == {"is_success": False, "speed": 2.0, "kills": 2}


@pytest.mark.parametrize(
    ("where", "text"), [("obs", "agent 'a1' holds NaN"), ("reward", "a1: inf")]
)
def test_numbers_that_are_not_finite(where, text):
    env = TeamEnv(FlakyEnv(nan_at=where))
    env.reset()
    with pytest.raises(NonFiniteError, match=text):
        env.step([0, 0])


def test_episode_limits_are_found():
    assert make_team_env("macn", {"episode_limit": 50}).spec_team.episode_limit == 50
    env = ScriptedEnv([{}])
    assert TeamEnv(env).spec_team.episode_limit is None
    env.max_cycles = 25
    assert TeamEnv(env).spec_team.episode_limit == 25


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"team_reward": "max"}, "team_reward must be one of shared, sum, mean"),
        ({"state": "obs"}, "state must be one of auto, env"),
        ({"time_limit_is_terminal": 1}, "must be true or false"),
    ],
)
def test_wrong_options_say_so(options, text):
    with pytest.raises(EnvConfigError, match=text):
        TeamEnv(ScriptedEnv([{}]), **options)


def test_objects_that_are_no_parallel_env_are_refused():
    with pytest.raises(EnvConfigError, match="has no observation_space"):
        TeamEnv(gymnasium.Env())
    env = ScriptedEnv([{}])
    env.possible_agents = []
    with pytest.raises(EnvConfigError, match="possible_agents"):
        TeamEnv(env)


def test_close_and_render_reach_the_env():
    env = TeamEnv(ScriptedEnv([{}]))
    env.parallel_env.render = lambda: "picture"
    assert env.render() == "picture"
    env.close()
    assert env.parallel_env.closed


# --- random play ---------------------------------------------------------------------


def random_play(env, rng, num_steps, check):
    """Plays random legal joint actions and calls `check` on every observation."""
    obs, _ = env.reset(seed=0)
    check(obs)
    episodes = 0
    for _ in range(num_steps):
        action = [rng.choice(np.flatnonzero(row)) for row in obs["action_mask"]]
        obs, reward, terminated, truncated, info = env.step(action)
        check(obs)
        assert isinstance(reward, float) and np.isfinite(reward)
        assert not (terminated and truncated)
        assert isinstance(terminated, bool) and isinstance(truncated, bool)
        if terminated or truncated:
            assert all(isinstance(v, bool | int | float) for v in info.values())
            episodes += 1
            obs, _ = env.reset(seed=episodes)
    return episodes


def test_agents_that_die_at_random_steps():
    env = TeamEnv(RandomDeathEnv())
    rng = np.random.default_rng(0)
    deaths = []

    def check(obs):
        assert obs["obs"].shape == (4, 3) and obs["action_mask"].shape == (4, 5)
        dead = ~obs["obs"].any(axis=1)
        np.testing.assert_array_equal(obs["action_mask"][dead, 1:], 0)
        np.testing.assert_array_equal(obs["action_mask"][dead, 0], 1)
        deaths.append(int(dead.sum()))

    episodes = random_play(env, rng, 5000, check)
    assert episodes >= 200 and set(deaths) >= {0, 1, 2, 3}
