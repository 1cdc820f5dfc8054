"""Networks whose utilities are tables, and batches, for the tests of the losses."""

import dataclasses

import numpy as np
import torch

from rllib_risk.core.episodes import Episode, collate
from rllib_risk.core.losses import Batch
from rllib_risk.models.team import TeamNetwork, TeamNetworkConfig, TeamSizes


def tabular_network(table, **keys):
    """A network that reads its return atoms off a table.

    The observation is one-hot over (step, agent), the two layers of the encoder are
    identities on it, and the head's weights are the table.

    Args:
        table: ``[T+1, N, A, M]``.
        keys: Of TeamNetworkConfig.
    """
    steps, num_agents, num_actions, num_atoms = table.shape
    cells = steps * num_agents
    config = TeamNetworkConfig(
        hidden_size=cells,
        recurrent=False,
        num_atoms=num_atoms,
        mixing_embed_dim=1,
        hypernet_embed_dim=1,
        **keys,
    )
    network = TeamNetwork(TeamSizes(num_agents, num_actions, cells, 1), config)
    agent = network.agents[0]
    encoders = [agent.encoder]
    if agent.predictor is not None:
        encoders.append(agent.predictor.history)
    with torch.no_grad():
        for encoder in encoders:
            encoder.fc1.weight.zero_()
            encoder.fc1.weight[:, :cells] = torch.eye(cells)
            encoder.fc1.bias.zero_()
            encoder.body.weight.copy_(torch.eye(cells))
            encoder.body.bias.zero_()
        agent.head.weight.copy_(table.reshape(cells, -1).T)
        agent.head.bias.zero_()
    return network


def set_linear_mixer(mixer, weights, state_weight):
    """Makes QMIX's mixer ``sum_i weights_i q_i + state_weight s``, for terms >= 0."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        # Minus signs, for the mixer to take away.
        mixer.hyper_w1[-1].bias.copy_(-torch.tensor(weights))
        mixer.hyper_w2[-1].bias.fill_(-1.0)
        mixer.value[0].weight.fill_(1.0)
        mixer.value[-1].weight.fill_(state_weight)


def table_batch(table, actions, rewards, *, terminated):
    """One episode through the cells of a table; the state is the number of the step."""
    steps, num_agents, num_actions, _ = table.shape
    cells = steps * num_agents
    ends = torch.zeros(1, steps - 1, 1)
    ends[0, -1] = float(terminated)
    return Batch(
        obs=torch.eye(cells).reshape(1, steps, num_agents, cells),
        state=torch.arange(steps, dtype=torch.float32).reshape(1, steps, 1),
        action_mask=torch.ones(1, steps, num_agents, num_actions),
        actions=torch.tensor(actions)[None],
        rewards=torch.tensor(rewards).reshape(1, -1, 1),
        terminateds=ends,
        mask=torch.ones(1, steps - 1, 1),
    )


COMPOSITIONS = {
    "iql": {"mixer": "none"},
    "vdn": {"mixer": "vdn"},
    "qmix": {"mixer": "qmix"},
    "rmix": {"mixer": "qmix", "num_atoms": 8, "risk_mode": "dynamic"},
    "rdn": {"mixer": "vdn", "num_atoms": 8, "risk_mode": "dynamic"},
    "rmix static": {
        "mixer": "qmix",
        "num_atoms": 8,
        "risk_mode": "static",
        "alpha": 0.5,
    },
}


def random_networks(**keys):
    """An online and a target network of three agents and four actions."""
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = TeamNetworkConfig(hidden_size=8, mixing_embed_dim=4, **keys)
        network = TeamNetwork(TeamSizes(3, 4, 5, 6), config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, 0.5)
        networks.append(network)
    return networks


def random_episode(rng, length, *, terminated):
    """An episode of three agents and four actions that takes legal actions only."""
    mask = (rng.random((length + 1, 3, 4)) < 0.6).astype(np.uint8)
    mask[..., 3] = 0  # the last action is never legal
    mask[..., 0] |= mask.sum(axis=-1) == 0
    actions = (rng.random((length, 3, 4)) * mask[:-1]).argmax(axis=-1)
    return Episode(
        obs=rng.normal(size=(length + 1, 3, 5)).astype(np.float32),
        state=rng.normal(size=(length + 1, 6)).astype(np.float32),
        action_mask=mask,
        actions=actions.astype(np.int16),
        rewards=rng.normal(size=length).astype(np.float32),
        terminated=terminated,
        risk_levels=np.ones((length, 3), np.float32),
    )


def to_batch(episodes):
    """Collates episodes into tensors."""
    samples = collate(episodes)
    tensors = {
        field.name: torch.as_tensor(samples[field.name])
        for field in dataclasses.fields(Batch)
    }
    for name in ("rewards", "terminateds", "mask"):
        tensors[name] = tensors[name].unsqueeze(-1)
    return Batch(**tensors)


def random_batch(seed=0):
    """Four episodes of length 1 to 6, two of them truncated."""
    rng = np.random.default_rng(seed)
    lengths = [(6, True), (3, False), (1, True), (4, False)]
    return to_batch(
        [random_episode(rng, n, terminated=terminated) for n, terminated in lengths]
    )
