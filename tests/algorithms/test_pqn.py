"""PQN: the newest round, no target network, and games with known answers."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from loss_cases import GAMMA, learning_parts, plain_batch, plain_networks
from loss_cases import random_episode as random_team_episode

from rllib_risk.algorithms.pqn import PQNConfig
from rllib_risk.config.schema import ConfigError
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.parts.encoding import encode
from rllib_risk.parts.latest_replay import LatestReplay


def episode(number):
    """An episode of one step whose reward is its number."""
    rows, one = np.zeros((2, 1, 1), np.float32), np.zeros((1, 1), np.int16)
    return Episode(
        obs=rows,
        state=rows[:, 0],
        action_mask=np.ones((2, 1, 2), np.uint8),
        actions=one,
        rewards=np.array([number], np.float32),
        terminated=True,
        risk_levels=np.ones((1, 1), np.float32),
    )


def drawn(replay, size):
    return sorted(np.asarray(replay.draw(size)["rewards"]).ravel().astype(int))


def test_every_episode_of_the_newest_round_is_drawn_once_per_epoch():
    replay, again = LatestReplay(seed=3), LatestReplay(seed=3)
    replay.add(map(episode, range(100, 107)))
    drawn(replay, 3)
    replay.add(map(episode, range(7)))
    assert len(replay) == 7
    orders = []
    for _ in range(4):
        first, second = drawn(replay, 3), drawn(replay, 3)
        # Two batches of three skip one of the seven episodes.
        assert len({*first, *second}) == 6 and {*first, *second} < set(range(7))
        orders.append((first, second))
    assert len(set(map(str, orders))) > 1
    # A restored replay draws the next round as the stored one does.
    again.load_arrays(replay.state_arrays())
    for one in (replay, again):
        one.add(map(episode, range(10, 16)))
    assert [drawn(replay, 2) for _ in range(6)] == [drawn(again, 2) for _ in range(6)]


def test_targets_come_from_the_online_network():
    """The sums of the online network's maxima are 3, 7, 4 and 6."""
    online, _ = plain_networks(mixer="vdn")
    batch = plain_batch(True)
    encoded = encode(online, online, batch, double_q=False)
    parts = learning_parts(mixer="vdn", td_lambda=0.5, gamma=GAMMA)
    view = parts.view((online, online), encoded, batch)
    # G_2 = 3, G_1 = 2 + (4 + 3) / 4 = 3.75, G_0 = 1 + (7 + 3.75) / 4 = 3.6875.
    assert view.targets[0].flatten().tolist() == [3.6875, 3.75, 3.0]


TEAM = spaces.Dict(
    obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
    state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
    action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
)
QTRAN = {"mixer": "vdn", "joint_critic": "qtran", "loss": "qtran"}
CVAR = {"num_atoms": 4, "risk_measure": "cvar", "alpha": 0.5}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"mixer": "qmix", "recurrent": False},
        {"mixer": "qplex"},
        {"mixer": "none"},
        CVAR,
        CVAR | {"mixer": "qmix", "risk_measure": "wang", "alpha": 1.0},
        {"num_atoms": 4, "loss": "quantile"},
        QTRAN | {"double_q": True},
        {"mixer": "qmix", "joint_critic": "wqmix", "td_weighting": "cw"}
        | {"double_q": True},
    ],
    ids=str,
)
def test_the_gradient_is_that_of_a_target_network_with_the_same_parameters(keys):
    """No gradient goes through the targets, and the target network is not used."""
    torch.manual_seed(0)
    config = PQNConfig().training(hidden_size=8, grad_clip=None, **keys)
    config.debugging(seed=5).validate()
    policy = ValuePolicy(TEAM, spaces.MultiDiscrete([4] * 3), config.to_dict())
    rng = np.random.default_rng(0)
    episodes = [random_team_episode(rng, n, terminated=n > 4) for n in (6, 3, 5)]
    batch = policy.tensors(collate(episodes))
    for parameter in policy.target_network.parameters():
        parameter.data.fill_(torch.nan)
    policy.team_loss(policy.view(batch, 0)).backward()
    shared = [p.grad.clone() for p in policy.network.parameters()]
    policy.network.zero_grad()
    view = policy.learning.view(
        policy.network,
        copy.deepcopy(policy.network).requires_grad_(False),
        batch,
        generator=policy.generator(0),
        gamma=policy.gamma,
        reward_scale=1.0,
    )
    policy.team_loss(view).backward()
    assert any(gradient.any() for gradient in shared)
    for gradient, parameter in zip(shared, policy.network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"buffer_size_episodes": 100}, "buffer_size_episodes: belongs to.*uniform"),
        ({"sequence_length": 4}, "sequence_length: belongs to.*uniform"),
        ({"update_interval_env_steps": 4, "updates_per_episode": 1.0}, "has ended"),
        (
            {"batch_size_episodes": 64, "learning_starts_episodes": 64},
            r"learning_starts_episodes \(64\) must be at most 32",
        ),
        ({"dataset": "walks"}, "'latest' stores sampled episodes"),
    ],
)
def test_what_does_not_fit_the_newest_round_is_refused(keys, message):
    config = PQNConfig().environment("two_step")
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        config.training(**keys).validate()


def test_the_replay_takes_the_memory_of_a_round():
    config = PQNConfig().environment("two_step")
    config.env_runners(num_envs_per_env_runner=16, num_env_runners=2)
    assert (config.episodes_of_round, config.stored_episodes) == (32, 32)


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("mixer", "best", "steps"), [("vdn", 7.0, 1_600), ("qmix", 8.0, 4_000)]
)
def test_the_two_step_game(mixer, best, steps):
    """Same returns as VDN and QMIX with a replay: docs/algorithms/vdn.md.

    All actions are random, so lambda-returns must be cut where one is not greedy.
    """
    config = PQNConfig().environment("two_step").debugging(seed=0)
    config.training(mixer=mixer, lr=2e-3, initial_epsilon=1.0, final_epsilon=1.0)
    config.training(hidden_size=32, recurrent=False, td_lambda_cut="watkins")
    config.min_sample_timesteps_per_iteration = steps
    config.evaluation_duration = 4
    algorithm = config.build_algo()
    returns = algorithm.train()["evaluation"]["return_mean"]
    algorithm.stop()
    assert returns == best
