"""One loop plays all episodes: every entry point plays the same one for one seed."""

import numpy as np
import pytest
from faulty_envs import Walk
from ray.tune import register_env
from test_algorithm import small_config

from rllib_risk.algorithms import config_class
from rllib_risk.core.play import play_and_render
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.evaluation.shift_runs import play_policy
from rllib_risk.evaluation.trace_runs import trace_episode

pytestmark = pytest.mark.usefixtures("ray_local")


class CrashesOnOddSeeds(Walk):
    """Pays the seed modulo 1000, and crashes in the third step if the seed is odd."""

    def __init__(self, render_mode=None):
        super().__init__()
        self.seed = 0

    def reset(self, seed=None, options=None):
        self.seed = seed
        return super().reset(seed, options)

    def step(self, actions):
        if self.time == 2 and self.seed % 2:
            raise OSError("the simulator died")
        obs, _, *rest = super().step(actions)
        return obs, dict.fromkeys(obs, float(self.seed % 1000)), *rest

    def render(self):
        return np.full((1, 1, 3), self.time, np.uint8)


def test_every_entry_point_plays_the_same_episode_for_a_seed():
    noisy = {"reward_noise_std": 1.0, "wind_probability": 0.2, "episode_limit": 12}
    config = small_config("RMIX").environment("macn", env_config=noisy)
    algorithm = config.build_algo()
    policy, own = algorithm.team_policy, algorithm.evaluation_config
    episodes = algorithm.env_runner.evaluate_episodes(range(3), 7)
    of_a_cell = play_policy([own], policy, 3, seed=7)
    traces = [trace_episode(policy, own, 7, index) for index in range(3)]
    frames = play_and_render(PolicyPlayer(policy, 1), own, 7)
    algorithm.stop()
    assert len({float(e.episode_return) for e in episodes}) == 3
    for index, (episode, trace) in enumerate(zip(episodes, traces, strict=True)):
        np.testing.assert_array_equal(trace.rewards, episode.rewards)
        np.testing.assert_array_equal(trace.actions, episode.actions)
        np.testing.assert_array_equal(trace.action_mask, episode.action_mask[:-1] != 0)
        assert np.float32(trace.risk_levels).tolist() == episode.risk_levels.tolist()
        assert trace.metrics == episode.metrics
        assert of_a_cell.returns[0, index] == trace.rewards.sum()
        assert of_a_cell.lengths[0, index] == len(episode)
    assert len(frames) == len(episodes[0]) + 1


def test_an_episode_that_crashed_is_played_with_the_same_new_seed_at_every_door(
    monkeypatch,
):
    register_env("crashes_on_odd_seeds", lambda _: CrashesOnOddSeeds())
    monkeypatch.setattr("rllib_risk.core.play.with_render_mode", lambda own: own)
    config = config_class("VDN")().environment("crashes_on_odd_seeds")
    config.training(hidden_size=8, max_env_restarts=50)
    algorithm = config.build_algo()
    policy = algorithm.team_policy
    crashes = 0
    for seed in range(4):
        (episode,) = algorithm.env_runner.evaluate_episodes([0], seed)
        crashes += algorithm.env_runner.take_report().crashes
        trace = trace_episode(policy, config, seed)
        assert trace.rewards.tolist() == episode.rewards.tolist()
        assert len(trace.atoms) == len(trace.rewards) == 5
        # The frames contain no pictures of a lost episode.
        frames = play_and_render(PolicyPlayer(policy, 1), config, seed)
        assert [int(frame[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 4, 5]
    algorithm.stop()
    assert crashes > 0
