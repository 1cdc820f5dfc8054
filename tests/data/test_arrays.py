"""Datasets of plain arrays: what is derived, and what is refused."""

import re

import numpy as np
import pytest

from rllib_risk.data.card import read_card
from rllib_risk.offline import Dataset, DatasetError, make_episode, write_dataset

OBS = np.arange(8.0).reshape(4, 2, 1)  # 3 steps, 2 agents, 1 number
ACTIONS, REWARDS = [[0, 1], [1, 1], [2, 0]], [0.5, 1.0, 1.5]


def made(obs=OBS, actions=ACTIONS, rewards=REWARDS, **keys):
    return make_episode(
        obs, actions, rewards, **{"terminated": False, "num_actions": 3} | keys
    )


def test_what_is_derived():
    episode = made(state="observations")
    np.testing.assert_array_equal(episode.action_mask, np.ones((4, 2, 3)))
    np.testing.assert_array_equal(episode.risk_levels, np.ones((3, 2)))
    np.testing.assert_array_equal(episode.state, [[0, 1], [2, 3], [4, 5], [6, 7]])
    assert made().state.shape == (4, 0)
    assert (episode.obs.dtype, episode.rewards.dtype) == (np.float32, np.float32)
    mask = np.ones((4, 2, 5), bool)
    assert made(action_mask=mask, num_actions=None).action_mask.shape == (4, 2, 5)


def test_the_last_observation_is_not_known():
    """Zeros follow a true end; an episode that was cut off loses its last step."""
    ended = made(OBS[:3], terminated=True, state=np.ones((3, 2)))
    np.testing.assert_array_equal(ended.obs[..., 0], [[0, 1], [2, 3], [4, 5], [0, 0]])
    np.testing.assert_array_equal(ended.state[3], [0, 0])
    assert (len(ended), ended.terminated) == (3, True)
    cut = made(OBS[:3])
    np.testing.assert_array_equal(cut.obs[..., 0], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(cut.rewards, [0.5, 1.0])


def test_a_dataset_of_arrays(tmp_path):
    """Few facts are needed; the rest of the card has defaults."""
    write_dataset(str(tmp_path / "one"), (made() for _ in range(3)))
    dataset = Dataset(tmp_path / "one")
    dataset.check()
    assert [len(e) for e in dataset.episodes()] == [3, 3, 3]
    card = read_card(tmp_path / "one")
    assert (card.env, card.agents, card.seed) == (None, ("agent_0", "agent_1"), None)
    card = write_dataset(tmp_path / "two", [made()], agents=["a", "b"])
    assert card.agents == ("a", "b")


NO_ACTION = np.ones((4, 2, 3))
NO_ACTION[1, 0] = 0
NOT_ALLOWED = np.ones((4, 2, 3))
NOT_ALLOWED[2, 0, 2] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"actions": [[0, 1], [1, 3], [0, 0]]},
            "actions[1, 1] is 3; actions go from 0",
        ),
        (
            {"actions": [[0, 1], [1, -1], [0, 0]]},
            "actions[1, 1] is -1; actions go from",
        ),
        ({"actions": [[0, 1], [1, 0.5], [0, 0]]}, "actions[1, 1] is 0.5; actions are"),
        ({"actions": [[0, 1], [1, 70_000], [0, 0]]}, "actions[1, 1] is 70000"),
        ({"actions": [0, 1, 2]}, "actions has shape (3,); it must have 2 axes"),
        ({"actions": [["a", "b"]] * 3}, "actions must hold numbers: they are of type"),
        ({"obs": np.full((4, 2, 1), np.nan)}, "obs[0, 0, 0] is nan, not a finite"),
        (
            {"obs": np.full((4, 2, 1), 1e300)},
            "obs[0, 0, 0] is 1e+300, not a finite",
        ),
        ({"obs": OBS[:2]}, "obs has 2 rows, actions 3 and rewards 3"),
        ({"obs": OBS[:, :1]}, "obs has 1 agents, and actions has 2"),
        ({"obs": [[1, 2], [3]]}, "obs must hold numbers"),
        ({"rewards": [1, 2]}, "obs has 4 rows, actions 3 and rewards 2"),
        ({"rewards": [1, 2, np.inf]}, "rewards[2] is inf"),
        ({"state": np.zeros((3, 2))}, "state has 3 rows, and obs has 4"),
        ({"state": "obs"}, "state must be numbers or 'observations', not 'obs'"),
        ({"num_actions": None}, "num_actions must be a whole number above 0"),
        ({"num_actions": 0}, "num_actions must be a whole number above 0"),
        (
            {"action_mask": np.ones((4, 2, 4))},
            "action_mask has shape (4, 2, 4); it must",
        ),
        (
            {"action_mask": np.full((4, 2, 3), 2)},
            "action_mask[0, 0, 0] is 2, not 0 or 1",
        ),
        ({"action_mask": NO_ACTION}, "actions[1, 0] is 1, which action_mask does not"),
        (
            {"action_mask": NOT_ALLOWED},
            "actions[2, 0] is 2, which action_mask does not",
        ),
        ({"terminated": "no"}, "terminated must be True or False, not 'no'"),
        (
            {"obs": OBS[:1], "actions": [[0, 1]], "rewards": [1.0]},
            "a truncated episode of one step needs the observation after that step",
        ),
    ],
)
def test_arrays_that_cannot_be(change, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        made(**change)


class Changed:
    """Makes an episode and then changes its arrays."""

    def __init__(self, **change):
        self.change = change

    def __call__(self):
        episode = made()
        for name, value in self.change.items():
            setattr(episode, name, value)
        return episode


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            Changed(actions=np.full((3, 2), 0.5)),
            "actions must be an array of whole num",
        ),
        (
            Changed(actions=np.full((3, 2), 70_000)),
            "actions: holds 70000, and actions go",
        ),
        (Changed(obs=OBS * 1e300), "column obs: 1e+300 does not fit in 32 bits"),
        (Changed(obs=OBS[0]), "obs has shape (2, 1); it must have 3 axes"),
        (Changed(obs=OBS.tolist()), "obs must be an array of numbers, not list"),
        (
            Changed(action_mask=np.full((4, 2, 3), -1)),
            "action_mask: holds -1, and a mask",
        ),
        (Changed(rewards=np.array(["1"] * 3)), "rewards must be an array of numbers"),
        (Changed(terminated="no"), "terminated must be True or False, not 'no'"),
        (
            lambda: {"obs": OBS},
            "must be an Episode, not dict; create one from arrays with",
        ),
    ],
)
def test_episodes_that_cannot_be_are_not_written(tmp_path, make, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        write_dataset(tmp_path / "data", [made(), make()])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        (["a"], "agents has 1 names, but the episodes have 2"),
        (["a", "a"], "agents: must be different names"),
        ("ab", "agents must be a list of names, not 'ab'"),
    ],
)
def test_names_of_agents_that_cannot_be(tmp_path, agents, message):
    with pytest.raises(DatasetError, match=message):
        write_dataset(tmp_path / "data", [made()], agents=agents)
    assert not (tmp_path / "data").exists()
