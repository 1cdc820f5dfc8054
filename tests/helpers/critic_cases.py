"""Critics with tabular values, for the tests of the targets of actor-critic teams."""

import numpy as np
import torch
from gymnasium import spaces

from rllib_risk.algorithms import algorithm_class, config_class
from rllib_risk.algorithms.actor_critic.losses import (
    CriticTargetConfig,
    critic_targets,
    with_last_actions,
)
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.critics import CounterfactualCritic, DecomposedCritic
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.exploration import action_probabilities

# R6: two agents with two actions, three steps and a last row. Values of the target
# critic, [row][agent][action].
TARGET_Q = [
    [[0, 0], [0, 0]],
    [[2, 6], [8, 4]],
    [[1, 3], [5, 7]],
    [[4, 9], [2, 3]],
]
ACTIONS = [[0, 1], [1, 0], [1, 1]]  # their values: 0, 0; 6, 8; 3, 7
REWARDS = [1.0, 2.0, 3.0]
CONFIG = CriticTargetConfig(
    gamma=0.5,
    reward_scale=1.0,
    td_lambda=0.5,
    tree_backup_lambda=0.8,
    tree_backup_steps=3,
)


def pencil_batch(terminated, episodes=1):
    """A batch whose observation is one-hot over (row, agent).

    In the last row each agent has one legal action; their values are 4 and 3.
    """
    mask = torch.ones(1, 4, 2, 2)
    mask[0, 3] = torch.tensor([[1, 0], [0, 1]])
    batch = Batch(
        obs=torch.eye(8).reshape(1, 4, 2, 8),
        state=torch.ones(1, 4, 1),
        action_mask=mask,
        actions=torch.tensor([ACTIONS]),
        rewards=torch.tensor(REWARDS).reshape(1, 3, 1),
        terminateds=torch.tensor([0, 0, float(terminated)]).reshape(1, 3, 1),
        mask=torch.ones(1, 3, 1),
    )
    return Batch(
        **{
            name: torch.cat([tensor] * episodes)
            for name, tensor in vars(batch).items()
            if tensor is not None
        }
    )


def read_table(body, column, table):
    """Sets three layers to look up the observation's cell of a table."""
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.zero_()
        body[0].weight[:, column : column + 8] = torch.eye(8)
        body[2].weight.copy_(torch.eye(8))
        body[4].weight.copy_(table.reshape(8, -1).T)


def tabular(kind):
    """A critic with the values of `TARGET_Q`; its first input is the state."""
    sizes = TeamSizes(num_agents=2, num_actions=2, obs_size=8, state_size=1)
    table = torch.tensor(TARGET_Q, dtype=torch.float32)
    if kind == "coma":
        critic = CounterfactualCritic(sizes, hidden_size=8)
        read_table(critic.body, 1, table)
        return critic
    critic = DecomposedCritic(sizes, hidden_size=8, bias=False)
    # Q = a + v with v = 1 everywhere.
    read_table(critic.body, 1, torch.cat([table - 1, torch.ones(4, 2, 1)], dim=-1))
    with torch.no_grad():
        for parameter in critic.mixing_parameters():
            parameter.zero_()
        critic.first.bias.copy_(torch.tensor([1.0, 3.0]).repeat_interleave(32))
        critic.second.bias.fill_(1.0)  # k = 1/4, 3/4
    return critic


def pencil_targets(kind, terminated, *, on_policy=1, episodes=1, config=CONFIG):
    batch = pencil_batch(terminated, episodes)
    logits = torch.zeros(episodes, 4, 2, 2)
    probabilities = action_probabilities(logits, batch.action_mask, 0.3)
    actions = with_last_actions(batch, probabilities, torch.Generator())
    return critic_targets(
        tabular(kind), batch, actions, probabilities, config, on_policy
    )


def make_policy(name, obs_size=8, state_size=4, agents=2, actions=2, **keys):
    """A policy of MAPPO or IPPO without an environment."""
    space = spaces.Dict(
        obs=spaces.Box(-np.inf, np.inf, (agents, obs_size), np.float32),
        state=spaces.Box(-np.inf, np.inf, (state_size,), np.float32),
        action_mask=spaces.Box(0, 1, (agents, actions), np.uint8),
    )
    config = config_class(name)().debugging(seed=0).training(**keys)
    config.validate()
    return algorithm_class(name).policy_class(
        space, spaces.MultiDiscrete([actions] * agents), config.to_dict()
    )


def pencil_returns(name, terminated):
    """The returns that the critic of MAPPO or IPPO is fitted to, ``[1, 3, G]``."""
    policy = make_policy(name, gamma=0.5, td_lambda=0.5, normalize_values=False)
    batch = pencil_batch(terminated)
    batch.state = torch.eye(4).unsqueeze(0)
    # The values of the actions that are taken. The team's value of a row is their sum.
    own = torch.tensor([0.0, 0.0, 6.0, 8.0, 3.0, 7.0, 4.0, 3.0])
    table = own if name == "IPPO" else torch.tensor([0.0, 14.0, 10.0, 7.0])
    policy.critic = lambda inputs: inputs[..., : len(table)] @ table
    return policy.experience(batch)[0].returns
