"""Images stay bytes: in the adapter, the replay, datasets, and with noise."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from image_envs import SIDE, BrightPixel
from scripted_envs import ScriptedEnv

from rllib_risk.core.model import team_sizes
from rllib_risk.data.card import CARD
from rllib_risk.data.dataset import Dataset, write_dataset
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.replay import EpisodeReplay
from rllib_risk.data.replay_memory import row_bytes
from rllib_risk.data.rows import DatasetError
from rllib_risk.env_wrappers.errors import EnvContractError
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.offline import make_episode

IMAGE = (3, 2, 2)


def episode(length, *, seed=0, state_size=2):
    rng = np.random.default_rng(seed)
    obs = rng.integers(256, size=(length + 1, 2, 12)).astype(np.uint8)
    obs[0] = 255
    return Episode(
        obs=obs,
        state=rng.normal(size=(length + 1, state_size)).astype(np.float32),
        action_mask=np.ones((length + 1, 2, 3), np.uint8),
        actions=rng.integers(3, size=(length, 2)).astype(np.int16),
        rewards=rng.normal(size=length).astype(np.float32),
        terminated=True,
        risk_levels=np.ones((length, 2), np.float32),
    )


def assert_same_images(found, expected):
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("compact", [False, True])
def test_a_replay_returns_the_bytes_that_were_added(compact):
    first, second = episode(3), episode(2, seed=1)
    replay = EpisodeReplay(capacity=4, seed=0, compact=compact)
    replay.add([first, second])
    for stored, added in zip(replay.at([0, 1]), (first, second), strict=True):
        assert_same_images(stored.obs, added.obs)
    batch = collate([first, second])["obs"]
    assert_same_images(batch[1, :3], second.obs)
    assert not batch[1, 3].any()  # padding
    # Two sequences of two steps. The second one reaches beyond its episode's end.
    ends = np.array([0, 1]), np.array([0, 1])
    drawn = replay.sequences(*ends, length=2, burn_in=0)["obs"]
    assert_same_images(drawn[0], first.obs[:3])
    assert_same_images(drawn[1, :2], second.obs[1:3])
    # A checkpoint holds the arrays, and a replay that loads them holds the same bytes.
    other = EpisodeReplay(capacity=4, seed=0, compact=compact)
    other.load_arrays(replay.state_arrays())
    assert_same_images(other.at([1])[0].obs, second.obs)


def test_a_dataset_holds_bytes_and_the_shape_of_images(tmp_path):
    episodes = [episode(3), episode(2, seed=1)]
    card = write_dataset(tmp_path / "images", episodes, image=IMAGE)
    dataset = Dataset(tmp_path / "images")
    assert dataset.card == card and card.sizes.image == IMAGE
    for read, written in zip(dataset.episodes(), episodes, strict=True):
        assert_same_images(read.obs, written.obs)
    # Without an image shape they are stored as floats, and the card has no entry.
    write_dataset(tmp_path / "numbers", episodes)
    plain = Dataset(tmp_path / "numbers")
    assert next(plain.episodes()).obs.dtype == np.float32
    assert "image" not in json.loads((tmp_path / "numbers" / CARD).read_text())["sizes"]
    with pytest.raises(DatasetError, match=r"shape \(13, 1, 1\) are uint8 and 13"):
        write_dataset(tmp_path / "wrong", episodes, image=(13, 1, 1))


def test_episodes_from_arrays_keep_bytes():
    images = np.full((3, 1, 4), 200, np.uint8)
    made = make_episode(images, [[0], [1]], [1, 1], terminated=True, num_actions=2)
    assert_same_images(made.obs, images)
    numbers = images.astype(np.int64)
    made = make_episode(numbers, [[0], [1]], [1, 1], terminated=True, num_actions=2)
    assert made.obs.dtype == np.float32


def test_the_adapter_keeps_bytes_and_says_the_shape():
    env = TeamEnv(BrightPixel())
    sizes = team_sizes(env.observation_space, env.action_space)
    assert sizes.image == env.spec_team.image == (SIDE, SIDE, 1)
    obs, _ = env.reset(seed=3)
    assert env.observation_space.contains(obs)
    row = obs["obs"]
    assert row.dtype == np.uint8 and row.shape == (2, SIDE * SIDE)
    assert (row == 255).sum(axis=1).tolist() == [1, 1]
    # 2 * 100 pixels, 2 * 4 mask flags, 2 * 2 bytes of actions, 4 of the reward and
    # 2 * 4 of risk levels.
    assert row_bytes(env.spec_team) == 200 + 8 + 4 + 4 + 8
    assert row_bytes(env.spec_team, compact=True) == 200 + 2 + 4 + 4 + 8


def test_noise_on_images_is_rounded_and_stays_within_bounds():
    env = TeamEnv(BrightPixel(), obs_noise_std=50.0)
    noisy = env.reset(seed=3)[0]["obs"]
    clean = TeamEnv(BrightPixel()).reset(seed=3)[0]["obs"]
    assert noisy.dtype == np.uint8
    difference = noisy.astype(int) - clean
    assert 10 < np.abs(difference).mean() < 50 and (noisy == 0).any()


class Floats(ScriptedEnv):
    """Declares bytes and returns numbers between 0 and 1."""

    def __init__(self):
        super().__init__([{}])
        box = spaces.Box(0, 255, (2, 2, 1), np.uint8)
        self.observation_spaces = dict.fromkeys(self.possible_agents, box)

    def _obs(self, agents):
        return {agent: np.full((2, 2, 1), 0.5) for agent in agents}


def test_images_of_other_numbers_than_bytes_are_refused():
    with pytest.raises(EnvContractError, match=r"holds 0\.5, but its space is uint8"):
        TeamEnv(Floats()).reset(seed=0)


def test_agents_with_images_of_different_shapes_observe_numbers():
    env = Floats()
    env.observation_spaces["a1"] = spaces.Box(0, 255, (3, 2, 1), np.uint8)
    assert TeamEnv(env).spec_team.image is None
