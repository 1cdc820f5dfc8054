"""Networks and inputs that the tests of the models share."""

import torch

from rllib_risk.config.options import fields_of
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.parts.agents import NetworkOptions
from rllib_risk.parts.slots import NETWORK_PARTS
from rllib_risk.parts.team import TeamNetwork


def of_keys(sizes, **keys):
    """Builds the network of some keys; an unknown key fails."""
    assert keys.keys() <= {*NETWORK_PARTS.fields(), *fields_of(NetworkOptions)}, keys
    return TeamNetwork(sizes, keys)


def choose(key, name, **keys):
    """Builds the named part of a slot of the network."""
    return NETWORK_PARTS.slots[key].choose({key: name, **keys})


def make_network(
    seed=0, *, num_agents=3, num_actions=4, obs_size=5, state_size=6, spread=0.5, **keys
):
    """A network with larger parameters than a fresh one, so that risk levels differ."""
    torch.manual_seed(seed)
    sizes = TeamSizes(num_agents, num_actions, obs_size, state_size)
    network = of_keys(sizes, **{"hidden_size": 16, **keys})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, spread)
    return network


def make_inputs(network, *, episodes=3, steps=5, seed=0):
    """Observations [B, T, N, D], states [B, T, S], actions [B, T, N], masks."""
    sizes = network.sizes
    generator = torch.Generator().manual_seed(seed)
    lead = (episodes, steps)

    def normal(*shape):
        return torch.randn(*lead, *shape, generator=generator)

    obs = normal(sizes.num_agents, sizes.obs_size)
    state = normal(sizes.state_size)
    actions = torch.randint(
        sizes.num_actions, (*lead, sizes.num_agents), generator=generator
    )
    mask = normal(sizes.num_agents, sizes.num_actions) > 0
    mask.scatter_(-1, actions.unsqueeze(-1), True)  # at least one is available
    dtype = next(network.parameters()).dtype
    return obs.to(dtype), state.to(dtype), actions, mask.to(torch.uint8)


def unroll(network, obs, actions):
    return network.unroll(network.inputs(obs, actions[:, :-1]))


def all_utilities(network, unrolled):
    """Utilities of all actions, [B, T, N, A]."""
    everything = torch.ones(*unrolled.features.shape[:3], network.sizes.num_actions)
    return network.utilities(unrolled, everything)


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters()}
