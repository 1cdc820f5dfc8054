"""Groups of parameters that share one limit of the gradient's norm."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from loss_cases import random_episode

from rllib_risk.algorithms import config_class
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.data.episodes import collate
from rllib_risk.parts.encoding import encode
from rllib_risk.parts.view import View

LIMIT = 0.01
TEAM = spaces.Dict(
    obs=spaces.Box(-np.inf, np.inf, (3, 5), np.float32),
    state=spaces.Box(-np.inf, np.inf, (6,), np.float32),
    action_mask=spaces.Box(0, 1, (3, 4), np.uint8),
)


def make_policy(name="MACQR", **keys):
    torch.manual_seed(0)
    config = config_class(name)().debugging(seed=0)
    config.training(hidden_size=8, grad_clip=LIMIT, **keys)
    config.validate()
    return ValuePolicy(TEAM, spaces.MultiDiscrete([4] * 3), config.to_dict())


def make_batch():
    rng = np.random.default_rng(0)
    lengths = [(6, True), (3, False), (5, True)]
    return collate([random_episode(rng, n, terminated=end) for n, end in lengths])


@pytest.mark.parametrize("preset", ["ma_dqn", "ma_qr_dqn", "ma_ciql", "ma_ciqr"])
def test_independent_agents_are_separate_learners(preset):
    """Each has its own loss, limit and Adam, which are written again here."""
    policy, samples = make_policy(preset=preset), make_batch()
    networks = [copy.deepcopy(n) for n in (policy.network, policy.target_network)]
    agents = list(networks[0].agents)
    adams = [torch.optim.Adam(agent.parameters(), 1e-4) for agent in agents]
    batch, learning = policy.tensors(samples), policy.learning
    for _ in range(3):
        encoded = encode(*networks, batch, double_q=False)
        parts = learning.target, learning.weighting
        mean_loss = learning.team_loss(
            View(*networks, encoded, batch, *parts, 0.99, 1.0)
        )
        networks[0].zero_grad()
        # No parameter is shared, so each agent gets the gradient of its own loss.
        (3 * mean_loss).backward()
        squares = 0.0
        for agent, adam in zip(agents, adams, strict=True):
            gradients = [p.grad for p in agent.parameters()]
            norm = sum((g**2).sum() for g in gradients).sqrt().item()
            squares += norm**2
            assert norm > LIMIT
            for gradient in gradients:
                gradient.mul_(LIMIT / norm)
            adam.step()
        stats = policy.learn_on_batch(samples)
        assert stats["grad_norm"] == pytest.approx(squares**0.5, rel=1e-4)
    for mine, theirs in zip(
        policy.network.parameters(), networks[0].parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("MACQR", {"preset": "ma_ccqr"}),
        ("MACQR", {"preset": "ma_ciqr", "parameter_sharing": True}),
        ("QMIX", {"parameter_sharing": False}),
        ("IndependentQ", {}),
    ],
)
def test_other_teams_share_one_gradient_limit(name, keys):
    policy = make_policy(name, **keys)
    stats = policy.learn_on_batch(make_batch())
    clipped = sum((p.grad**2).sum() for p in policy.network.parameters()).sqrt()
    assert stats["grad_norm"] > LIMIT
    assert clipped.item() == pytest.approx(LIMIT, rel=1e-3)
