"""Playing a grid gives the numbers of single episodes, in every cell and batch."""

from types import SimpleNamespace

import numpy as np
import pytest
from faulty_envs import Walk
from ray.tune.registry import register_env
from small_runs import small_config

from rllib_risk.algorithms import config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.shift_grid import parse_shift_grid
from rllib_risk.config.yaml_reader import parse_yaml
from rllib_risk.core.rounds import evaluation_seed
from rllib_risk.env_wrappers.errors import (
    EnvContractError,
    EnvFailedError,
    NonFiniteError,
)
from rllib_risk.env_wrappers.registry import make_team_env
from rllib_risk.env_wrappers.team_env import LoopedTeamEnvs, TeamEnv
from rllib_risk.evaluation import shift_runs as shift_module
from rllib_risk.evaluation.shift_runs import cell_configs, play_policy, play_references

UP, DOWN, LEFT, RIGHT = range(4)
# Up, along the cliff, down onto the goal: seven moves with a cost, and the last one.
ROUTE = np.array([UP, *[RIGHT] * 6, DOWN] + [LEFT] * 100)


class Router:
    """An actor that plays the same list of moves in every episode."""

    def __init__(self, moves, num_envs):
        self.moves = moves
        self.time = np.zeros(num_envs, np.int64)

    def act(self, obs, action_mask):
        utilities = np.zeros(action_mask.shape, np.float32)
        utilities[np.arange(len(obs)), :, self.moves[self.time]] = 1.0
        return utilities, None

    def remember(self, actions):
        self.time += 1

    def reset(self, slots):
        self.time[slots] = 0


class RoutePolicy:
    """A policy with only those attributes that the loop uses."""

    network = SimpleNamespace(risk=SimpleNamespace(levels=(1.0,)))

    def __init__(self, moves=ROUTE):
        self.moves = moves

    def watch_returns(self, num_envs, thresholds=None):
        return None

    def make_actor(self, num_envs):
        return Router(self.moves, num_envs)


STILL = RoutePolicy(np.zeros(100, np.int64))  # for a walk that needs no route


def grid_of(text):
    return parse_shift_grid(parse_yaml(text, "grid.yaml"), "grid")


def cells(grid, env="macn", env_config=None, **training):
    """The cells' configurations for a checkpoint of this env."""
    config = config_class("VDN")().environment(env, env_config=env_config or {})
    config.training(**training)
    expected = make_team_env(env, env_config or {}).spec_team
    return cell_configs(config, grid_of(grid), expected)


def walk(**kwargs):
    return {"factory": "faulty_envs:Walk", "kwargs": kwargs}


def test_returns_of_a_known_route():
    grid = "grid: {step_reward: [-1.0, -2.0], width: [7, 5]}"
    played = play_policy(cells(grid), RoutePolicy(), 3, seed=0)
    # Seven moves pay the step reward. On the narrower map two moves to the right end at
    # the wall, so the route takes as many moves.
    assert played.returns.tolist() == [[-7.0] * 3] * 2 + [[-14.0] * 3] * 2
    assert played.lengths.tolist() == [[8] * 3] * 4
    assert (played.metrics["is_success"] == 1.0).all()
    assert "variant" not in played.metrics
    assert played.crashes == 0


WINDY = """
grid:
  wind_probability: [0.0, 0.1, 0.3]
  reward_noise_std: [0.0, 1.0]
"""


def one_by_one(configs, num_episodes, seed):
    """A second implementation: one environment and one episode at a time."""
    returns, lengths = [], []
    for config in configs:
        env = make_team_env("macn", config.env_config)
        for index in range(num_episodes):
            env.reset(seed=evaluation_seed(seed, index))
            rewards, done = [], False
            while not done:
                action = ROUTE[len(rewards)]
                _, reward, terminated, truncated, _ = env.step(np.full(2, action))
                rewards.append(np.float32(reward))
                done = terminated or truncated
            returns.append(sum(map(float, rewards)))
            lengths.append(len(rewards))
    shape = (len(configs), num_episodes)
    return np.array(returns).reshape(shape), np.array(lengths).reshape(shape)


@pytest.mark.parametrize(
    "max_slots",
    [
        4096,  # all at once
        12,  # two slots per cell, which take seven episodes in turn
        4,  # four cells in a first batch and two in a second
        1,  # cell by cell, episode by episode
    ],
)
def test_every_batch_gives_the_numbers_of_single_episodes(max_slots, monkeypatch):
    monkeypatch.setattr(shift_module, "MAX_SLOTS", max_slots)
    configs = cells(WINDY, env_config={"episode_limit": 20})
    played = play_policy(configs, RoutePolicy(), 7, seed=5)
    returns, lengths = one_by_one(configs, 7, 5)
    np.testing.assert_array_equal(played.returns, returns)
    np.testing.assert_array_equal(played.lengths, lengths)
    assert len(set(lengths[-1].tolist())) > 1, "wind that never matters shows nothing"


def test_the_seeds_are_the_same_in_every_cell():
    grid = "grid: {step_reward: [-1.0, -3.0], reward_noise_std: [2.0]}"
    played = play_policy(cells(grid), RoutePolicy(), 10, seed=1)
    # The noise is the same. The returns differ by seven steps at -2 more.
    np.testing.assert_allclose(played.returns[1] - played.returns[0], -14.0, atol=1e-5)
    assert len(np.unique(played.returns[0])) == 10
    other = play_policy(cells(grid), RoutePolicy(), 10, seed=2)
    assert not np.intersect1d(played.returns, other.returns).size


def test_a_loop_has_no_more_copies_than_training_had(monkeypatch):
    asked = []
    make = shift_module.make_batched_env

    def watched(config, num_envs, context):
        asked.append(num_envs)
        return make(config, num_envs, context)

    monkeypatch.setattr(shift_module, "make_batched_env", watched)
    grid = "grid: {kwargs.length: [2, 3, 4]}"
    configs = cells(grid, "pettingzoo", walk())
    for config in configs:
        config.num_envs_per_env_runner = 7
    played = play_policy(configs, STILL, 5, seed=0)
    # One copy of the first cell shows that it is a loop; then each has 7 // 3 copies.
    assert asked == [1, 2, 2, 2]
    assert played.returns.tolist() == [[2.0] * 5, [3.0] * 5, [4.0] * 5]


def test_crashed_episodes_are_played_again_and_counted():
    grid = "grid: {kwargs.step_crash: [0.0, 0.1]}"
    configs = cells(grid, "pettingzoo", walk(), max_env_restarts=20)
    for config in configs:
        config.num_envs_per_env_runner = 8
    played = play_policy(configs, STILL, 40, seed=0)
    assert (played.returns == 5.0).all() and (played.lengths == 5).all()
    # Five steps crash with 0.1 each: 0.69 crashes per whole episode, 28 in 40 episodes.
    assert 5 < played.crashes < 80


def test_an_env_that_always_crashes_is_given_up():
    configs = cells(
        "grid: {kwargs.step_crash: [0.0, 1.0]}",
        "pettingzoo",
        walk(),
        max_env_restarts=2,
    )
    with pytest.raises(EnvFailedError, match="failed 2 times"):
        play_policy(configs, STILL, 2, seed=0)


class Late(Walk):
    """Crashes in the fourth step of every episode."""

    def step(self, actions):
        if self.time == 3:
            raise OSError("the simulator died")
        return super().step(actions)


def test_an_episode_that_crashes_late_each_time_is_given_up():
    # Completed steps reset the failures of the environment, but not of the episode.
    env_config = {"factory": f"{__name__}:Late", "kwargs": {}}
    configs = cells("grid: {kwargs.length: [5]}", "pettingzoo", env_config)
    with pytest.raises(EnvFailedError, match=r"failed 3 times .*simulator died"):
        play_policy(configs, STILL, 1, seed=0)


def test_nan_stops_or_costs_the_episode():
    grid = "grid: {kwargs.nan_in_odd_episodes: [true]}"
    configs = cells(grid, "pettingzoo", walk())
    with pytest.raises(NonFiniteError, match="on_nonfinite: skip_episode"):
        play_policy(configs, STILL, 10, seed=0)
    configs = cells(
        grid,
        "pettingzoo",
        walk(),
        on_nonfinite="skip_episode",
        max_env_restarts=20,
    )
    played = play_policy(configs, STILL, 10, seed=0)
    odd = sum(evaluation_seed(0, index) % 2 for index in range(10))
    assert played.crashes >= odd > 0
    assert (played.returns == 5.0).all()


def test_an_episode_without_end_is_refused():
    configs = cells(
        "grid: {kwargs.length: [3, 50]}", "pettingzoo", walk(), max_episode_steps=10
    )
    with pytest.raises(EnvContractError, match="has not ended after 10 steps"):
        play_policy(configs, STILL, 1, seed=0)


class FixedAction:
    """A scripted policy that always plays one action."""

    def __init__(self, action):
        self.action = action

    def act(self, obs, action_mask, rng):
        return np.full(obs.shape[:2], self.action)


class Steered(Walk):
    """A walk that rewards one action of agent a, and a policy that plays it."""

    def __init__(self, best=0, **kwargs):
        super().__init__(**kwargs)
        self.best = best

    def step(self, actions):
        obs, rewards, *rest = super().step(actions)
        return obs, dict.fromkeys(rewards, float(actions["a"] == self.best)), *rest

    @staticmethod
    def reference_policies(best=0, **kwargs):
        return {"best": FixedAction(best)}


def test_reference_lines_know_the_settings_of_their_cell():
    env_config = {"factory": f"{__name__}:Steered", "kwargs": {"length": 4}}
    configs = cells("grid: {kwargs.best: [0, 1, 2]}", "pettingzoo", env_config)
    lines = dict(play_references(configs, 50, seed=0))
    assert list(lines) == ["random", "best"]
    assert (lines["best"].returns == 4.0).all()
    # A third of the actions is right: 600 steps, standard error 0.02.
    assert lines["random"].returns.mean() / 4 == pytest.approx(1 / 3, abs=0.08)
    again = dict(play_references(configs, 50, seed=0))
    np.testing.assert_array_equal(lines["random"].returns, again["random"].returns)


def test_cells_start_from_the_evaluation_of_the_checkpoint():
    config = config_class("VDN")().environment(
        "macn", env_config={"episode_limit": 20, "step_reward": -0.5}
    )
    config.evaluation(evaluation_config={"env_config": {"episode_limit": 9}})
    config.training(env_variants=[{"step_reward": -3.0}])
    expected = make_team_env("macn", {}).spec_team
    grid = grid_of("env_config: {goal_absorbing: true}\ngrid: {cliff_reward: [-1]}")
    (cell,) = cell_configs(config, grid, expected)
    evaluation = config.get_evaluation_config_object()
    assert cell.env_config == {
        **evaluation.env_config,
        "episode_limit": 9,
        "goal_absorbing": True,
        "cliff_reward": -1,
        "state": "none",
    }
    assert cell.env_variants == []


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            "episodes: 3\ngrid:\n  cliff: [-1]\n  width: [7, 5]",
            r"grid.yaml:3: cell cliff=-1, width=7: unknown key env_config.cliff",
        ),
        (
            "grid:\n  width:\n  - 7\n  - -1",
            r"grid.yaml:4: cell width=-1: .*width",
        ),
        (
            "grid:\n  enc:\n    a: {}\n    b: {obs_encoding: onehot}",
            r"grid.yaml:1: cell enc=b: does not fit the checkpoint: obs_size 36 instead"
            " of 9",
        ),
        (
            "grid:\n  layout.x: [1]",
            r"grid.yaml:2: cell layout.x=1: layout.x: 'layout' is 'classic', which",
        ),
    ],
)
def test_a_cell_that_cannot_be_played_is_named(grid, message):
    with pytest.raises(ConfigError, match=message):
        cells(grid, env_config={"layout": "classic"})


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("name", ["VDN", "RMIX", "LHIQN", "COMA"])
def test_the_nominal_cell_is_the_ordinary_evaluation(name):
    if name == "COMA":  # has other keys than the value-based ones
        config = config_class(name)().environment("macn")
        config.training(hidden_size=16, batch_size_episodes=4)
        config.min_sample_timesteps_per_iteration = 60
        config.evaluation_duration = 1
    else:
        config = small_config(name)
    config.env_config = {"episode_limit": 20, "wind_probability": 0.2}
    algorithm = config.build_algo()
    try:
        algorithm.train()
        expected = algorithm.evaluate_episodes(9, seed=4)
        configs = cell_configs(
            algorithm.config,
            grid_of("grid: {wind_probability: [0.0, 0.2, 0.5]}"),
            algorithm.env_runner.env.spec_team,
        )
        played = play_policy(configs, algorithm.team_policy, 9, seed=4)
    finally:
        algorithm.stop()
    np.testing.assert_allclose(played.returns[1], expected["returns"], rtol=1e-6)
    assert played.metrics["is_success"][1].mean() == expected["success_rate"]
    assert played.lengths[1].mean() == expected["episode_len_mean"]


def test_an_env_that_a_user_registered_has_random_play_beside_it():
    register_env("my-walk", lambda context: Walk(length=context["length"]))
    config = config_class("VDN")().environment("my-walk", env_config={"length": 2})
    config.num_envs_per_env_runner = 4
    expected = LoopedTeamEnvs(lambda: TeamEnv(Walk()), 1).spec
    configs = cell_configs(config, grid_of("grid: {length: [3, 4]}"), expected)
    assert play_policy(configs, STILL, 2, seed=0).returns.tolist() == [[3, 3], [4, 4]]
    lines = dict(play_references(configs, 2, seed=0))
    assert list(lines) == ["random"]
    assert lines["random"].lengths.tolist() == [[3, 3], [4, 4]]
