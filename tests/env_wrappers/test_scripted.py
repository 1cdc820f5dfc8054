"""Scripted policies: uniform random play, and policies by the env's name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rllib_risk.env_wrappers import EnvConfigError, make_batched
from rllib_risk.env_wrappers.scripted import RandomPolicy, reference_policies


class GameWithPolicies:
    """A factory with its own reference policies."""

    def __init__(self, gain=1.0):
        self.gain = gain

    @staticmethod
    def reference_policies(gain=1.0):
        return {"always": ("always", gain)}


@given(
    mask=arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 1)),
    seed=st.integers(0, 2**31),
)
def test_random_actions_are_legal(mask, seed):
    mask[..., 2] |= mask.sum(-1, dtype=np.uint8) == 0  # an agent always has an action
    obs = np.zeros((4, 3, 1), np.float32)
    actions = RandomPolicy().act(obs, mask, np.random.default_rng(seed))
    assert actions.shape == (4, 3) and actions.dtype == np.int64
    assert np.take_along_axis(mask, actions[..., None], -1).all()


def test_random_actions_are_uniform_over_the_legal_ones_and_independent():
    # Legal actions are 1, 3, 4 for agent 0 and 0, 2 for agent 1. With 60 000 draws the
    # frequency of a joint action of probability 1/6 has the standard deviation
    # sqrt(1/6 * 5/6 / 60000) = 0.00152; 0.008 is more than five of these.
    mask = np.array([[0, 1, 0, 1, 1], [1, 0, 1, 0, 0]], np.uint8)
    masks = np.broadcast_to(mask, (60_000, 2, 5))
    obs = np.zeros((60_000, 2, 1), np.float32)
    actions = RandomPolicy().act(obs, masks, np.random.default_rng(3))
    for first in (1, 3, 4):
        for second in (0, 2):
            share = (actions == (first, second)).all(axis=1).mean()
            assert share == pytest.approx(1 / 6, abs=0.008)


def test_random_actions_follow_the_generator():
    obs, mask = np.zeros((2, 3, 1), np.float32), np.ones((2, 3, 50), np.uint8)
    draw = [RandomPolicy().act(obs, mask, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).any()


@pytest.mark.parametrize("name", ["macn", "matrix_game", "two_step", "memory_game"])
def test_every_env_has_random_play(name):
    policies = reference_policies(name)
    assert list(policies) == ["random"]
    env = make_batched(name, {}, 2)
    env.reset(np.arange(2), np.arange(2))
    actions = policies["random"].act(env.obs, env.action_mask, np.random.default_rng(0))
    result = env.step(actions, np.ones(2, bool))
    assert not result.crashed
    env.close()


def test_an_env_adds_its_own_policies(monkeypatch):
    monkeypatch.setattr(
        "rllib_risk.env_wrappers.scripted.resolve",
        lambda name, config: (GameWithPolicies, dict(config), {"state": "env"}),
    )
    policies = reference_policies("game", {"gain": 2.0})
    assert list(policies) == ["random", "always"]
    assert policies["always"] == ("always", 2.0)


def test_keys_of_the_adapter_are_no_arguments_of_the_env():
    assert list(reference_policies("macn", {"width": 12, "state": "none"})) == [
        "random"
    ]


def test_wrong_names_and_keys_are_told():
    with pytest.raises(EnvConfigError, match=r"unknown env 'mcan'.*'macn'"):
        reference_policies("mcan")
    with pytest.raises(EnvConfigError, match=r"env_config\.widht.*'width'"):
        reference_policies("macn", {"widht": 7})
