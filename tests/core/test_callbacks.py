"""RLlib's callbacks are called where whole episodes are played and learned from."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import pytest
from faulty_envs import Walk
from ray import cloudpickle
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.registry import register_env

from rllib_risk.algorithms import algorithm_class, config_class
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.callbacks import HOOKS, REFUSED_HOOKS, Hooks
from rllib_risk.core.episode_hooks import EpisodeLogger

SMALL = {"hidden_size": 8, "batch_size_episodes": 4, "learning_starts_episodes": 4}


class Recorder(RLlibCallback):
    """Records the name of every hook that is called; episode hooks also log values."""

    calls: ClassVar[list[str]] = []


def _note(name: str) -> Any:
    def hook(self: Any, **arguments: Any) -> None:
        self.calls.append(name)
        if name == "on_episode_start":
            arguments["episode"].user_data["actions"] = []
        if name == "on_episode_step":
            episode = arguments["episode"]
            episode.user_data["actions"].append(episode.last_actions.copy())
            logger = arguments["metrics_logger"]
            logger.log_value(("sum", "reward"), episode.last_reward, reduce="sum")
        if name == "on_episode_end":
            episode = arguments["episode"]
            assert episode.is_done and len(episode) == 2
            assert len(episode.user_data["actions"]) == 2
            assert episode.get_return() == episode.total_reward
            episode.custom_metrics["mine"] = episode.total_reward
        if name == "on_learn_on_batch":
            arguments["result"]["rows"] = 4.0

    return hook


for _name in HOOKS:
    setattr(Recorder, _name, _note(_name))


class Second(RLlibCallback):
    """A second callback class."""

    def on_episode_end(self, *, episode: Any, **others: Any) -> None:
        episode.custom_metrics["second"] = 2.0


def config_for(name: str = "QMIX", runners: int = 0) -> Any:
    config = config_class(name)().environment("two_step").training(**SMALL)
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=3)
    config.evaluation(evaluation_duration=2)
    config.min_sample_timesteps_per_iteration = 24
    return config


def test_every_hook_is_called_and_what_it_logs_is_in_the_results(
    ray_local: None, tmp_path: Any
) -> None:
    Recorder.calls = []
    config = config_for().callbacks(
        [Recorder, Second],
        on_episode_end=lambda *, episode, **_: episode.custom_metrics.update(f=3.0),
    )
    algorithm = config.build_algo()
    result = algorithm.train()
    algorithm.save_checkpoint(str(tmp_path))
    algorithm.load_checkpoint(str(tmp_path))
    algorithm.stop()

    assert set(HOOKS) - set(Recorder.calls) == {"on_env_runners_recreated"}
    runners, evaluation = result["env_runners"]["custom_metrics"], result["evaluation"]
    returns = result["env_runners"]["episode_return_mean"]
    assert runners["mine_mean"] == runners["sum/reward_mean"] == returns
    assert evaluation["mine"] == evaluation["sum/reward"] == evaluation["return_mean"]
    assert (runners["second_mean"], evaluation["f"]) == (2.0, 3.0)
    assert result["learner"]["rows"] == 4.0


def test_hooks_are_called_in_remote_runners_and_from_a_file(
    ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file names callbacks in this way. Remote runners cannot import this module.
    monkeypatch.setitem(sys.modules, "my_callbacks", sys.modules[__name__])
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    config = config_for("COMA", runners=1).training(batch_size_episodes=3)
    config.update_from_dict({"callbacks": ["my_callbacks:Second"]})
    assert config.callbacks_class == [Second]
    algorithm = config.build_algo()
    result = algorithm.train()
    algorithm.stop()
    assert result["env_runners"]["custom_metrics"]["second_mean"] == 2.0
    assert result["evaluation"]["second"] == 2.0


def test_an_episode_lost_to_a_crash_does_not_end(ray_local: None) -> None:
    created, ended = [], []
    register_env("crashing_for_callbacks", lambda c: Walk(step_crash=0.1))
    config = config_for().environment("crashing_for_callbacks")
    config.training(max_env_restarts=100).callbacks(
        on_episode_created=lambda *, episode, **_: created.append(episode.episode_id),
        on_episode_end=lambda *, episode, **_: ended.append(episode.episode_id),
    )
    algorithm = config.build_algo()
    episodes = algorithm.env_runner.sample(0, 20)
    crashes = algorithm.env_runner.take_report().crashes
    algorithm.stop()
    assert len(ended) == len(set(ended)) == len(episodes) == 20
    assert len(created) == 20 + crashes and crashes > 0


@pytest.mark.parametrize("hook", REFUSED_HOOKS)
def test_a_hook_that_is_never_called_is_refused(hook: str) -> None:
    callbacks = type("Mine", (RLlibCallback,), {hook: lambda self, **_: None})
    with pytest.raises(ConfigError, match=f"Mine overrides {hook}, .*; use on_"):
        config_for().callbacks(callbacks).validate()


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(ConfigError, match="callbacks: cannot import module 'no_such'"):
        config_for().update_from_dict({"callbacks": "no_such:Thing"})
    with pytest.raises(ConfigError, match="callbacks: must be a subclass"):
        config_for().callbacks(on_episode_end=3).validate()
    with pytest.raises(ConfigError, match="reduce must be one of mean, sum"):
        EpisodeLogger({}).log_value("x", 1.0, reduce="ema")


def test_without_callbacks_there_is_nothing_to_call() -> None:
    hooks = Hooks(config_for())
    assert not hooks.wants("on_")
    # A callback class that overrides no hook has nothing to call.
    assert not Hooks(config_for().callbacks(RLlibCallback)).wants("on_")
    assert algorithm_class("QMIX").get_default_config() == config_class("QMIX")()
