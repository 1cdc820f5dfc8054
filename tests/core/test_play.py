"""Rendering an episode: the environments that can, and the errors of the others."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from rllib_risk.algorithms.vdn import VDNConfig
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.play import play_and_render
from rllib_risk.env_wrappers.episode_loop import Player
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import ENVS, envs_that_render, import_factory


class Stays(Player):
    """Always takes the first action."""

    def act(self, obs, action_mask):
        return np.zeros(action_mask.shape[:2], np.int64), 1.0

    def reset(self, slots, steps_done):
        pass


class Plain(ParallelEnv):
    """One agent, two steps, and no picture."""

    def __init__(self, episode_limit=2):
        self.episode_limit = episode_limit
        self.possible_agents = ["one"]

    def observation_space(self, agent):
        return Box(0.0, 1.0, (1,), np.float32)

    def action_space(self, agent):
        return Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents = ["one"]
        return {"one": np.zeros(1, np.float32)}, {"one": {}}

    def state(self):
        return np.zeros(1, np.float32)

    def step(self, actions):
        raise AssertionError("a step was played")


class NeverDraws(Plain):
    """Takes render_mode, but inherits PettingZoo's render()."""

    def __init__(self, render_mode=None):
        super().__init__()


class DrawsText(NeverDraws):
    """Its render() returns no picture."""

    def render(self):
        return "a picture"


class RefusesTheMode(NeverDraws):
    """Refuses every render_mode."""

    def __init__(self, render_mode=None):
        if render_mode is not None:
            raise ValueError("render_mode must be human")
        super().__init__()


def forwards(**kwargs: Any) -> ParallelEnv:
    """A factory whose signature takes anything."""
    return Plain(**kwargs)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_envs")
    for part in (Plain, NeverDraws, DrawsText, RefusesTheMode, forwards):
        setattr(module, part.__name__, part)
    monkeypatch.setitem(sys.modules, "own_envs", module)


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ("two_step", "cannot render pictures. Environments that can: macn, hvac,"),
        ("Plain", "its factory takes no render_mode. To render, an env must"),
        ("forwards", "cannot be built with render_mode='rgb_array': the env cannot be"),
        ("RefusesTheMode", "ValueError: render_mode must be human."),
        ("NeverDraws", "render() failed: NotImplementedError. To render, an env must"),
        ("DrawsText", "render() returned str, not a picture"),
    ],
)
def test_an_env_that_cannot_render_is_refused_before_a_step(
    own: None, env: str, reason: str
) -> None:
    if env in ENVS:
        config = VDNConfig().environment(env)
    else:
        factory = {"factory": f"own_envs:{env}"}
        config = VDNConfig().environment("pettingzoo", env_config=factory)
    name = f"env '{env}'" if env in ENVS else f"of factory 'own_envs:{env}'"
    with pytest.raises(EnvConfigError) as caught:
        play_and_render(Stays(), config, seed=0)
    assert reason in str(caught.value)
    assert name in str(caught.value)


def test_an_evaluation_that_cannot_render_plays_no_episode() -> None:
    # No env runners at all: the evaluation would fail on the first one it asks for.
    config = VDNConfig().environment("two_step").debugging(seed=0)
    algorithm = SimpleNamespace(
        config=config,
        team_policy=SimpleNamespace(network=SimpleNamespace(objective=None)),
        require_env=lambda: None,
        _begin_to=lambda doing: None,
        render_episode=lambda seed: play_and_render(None, config, seed),
    )
    with pytest.raises(EnvConfigError, match="cannot render pictures"):
        TeamAlgorithm.evaluate_episodes(algorithm, 4, frames=[])


def test_the_envs_that_are_named_say_that_they_render() -> None:
    named = envs_that_render()
    assert {"macn", "hvac", "uav"} <= set(named)
    for name, entry in ENVS.items():
        if entry.factory:
            modes = import_factory(entry.factory).metadata["render_modes"]
            assert (name in named) == ("rgb_array" in modes), name
