"""Networks with tabular utilities, and batches, for the tests of the losses."""

import dataclasses
import functools
import math

import numpy as np
import torch

from rllib_risk.algorithms import ALGORITHMS, config_class
from rllib_risk.config.options import fields_of
from rllib_risk.core.value_config import ValueConfig
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.quantile_head import QuantileHead
from rllib_risk.parts.agents import NetworkOptions
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.encoding import encode
from rllib_risk.parts.learning import Learning
from rllib_risk.parts.regression import QuantileRegression
from rllib_risk.parts.slots import NETWORK_PARTS, VALUE_PARTS
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View


def value_based():
    """Names of the value-based algorithms.

    GroupDR is left out: it needs groups of environments and has its own tests.
    """
    return [
        name
        for name in ALGORITHMS
        if issubclass(config_class(name), ValueConfig) and name != "GroupDR"
    ]


def composition(name):
    """Network and loss keys that an algorithm overrides, with their values."""
    overrides = config_class(name).overrides
    return {key: value for key, value in overrides.items() if key in _keys_of_parts()}


NETWORK_KEYS = {*NETWORK_PARTS.fields(), *fields_of(NetworkOptions)}
_SLOTS = {
    key: VALUE_PARTS.slots[key] for key in ("loss", "target", "td_weighting", "penalty")
}
LEARNING_KEYS = {*_SLOTS, "gamma", "reward_scale"}.union(
    *(slot.keys for slot in _SLOTS.values()),
    fields_of(QuantileRegression.Options),
)
DEFAULTS = {key: field.default for key, field in ValueConfig.fields().items()}


def _keys_of_parts():
    return NETWORK_KEYS | LEARNING_KEYS - {"gamma", "reward_scale"}


def network_config(**keys):
    """The keys of the network; keys of learning parts are left out."""
    assert keys.keys() <= NETWORK_KEYS | LEARNING_KEYS, keys
    return {k: v for k, v in keys.items() if k in NETWORK_KEYS}


@dataclasses.dataclass
class Parts:
    """The learning parts of some keys, and the keys themselves, which a view needs."""

    learning: Learning
    regression: QuantileRegression
    keys: dict

    def view(self, networks, encoded, batch, dual=None):
        """Builds the view of a batch that the parts read."""
        parts = self.learning.target, self.learning.weighting
        more = {key: self.keys[key] for key in ("gamma", "reward_scale")}
        return View(*networks, encoded, batch, *parts, **more, dual=dual)

    def loss(self, networks, encoded, batch, dual=None):
        """The loss, and what it logs."""
        view = self.view(networks, encoded, batch, dual)
        return self.learning.team_loss(view), view.logged


def learning_parts(**keys):
    """The learning parts of these keys; network keys are ignored.

    A schedule has its first value.
    """
    assert keys.keys() <= NETWORK_KEYS | LEARNING_KEYS, keys
    values = {**DEFAULTS, "gamma": 0.9, **keys}
    regression = QuantileRegression(QuantileRegression.read(values))
    return Parts(Learning.of(values), regression, values)


def without_dual(**keys):
    """Like `learning_parts`, with contamination in place of total variation.

    Total variation needs a dual variable beside the networks and has its own tests.
    """
    if keys.get("target") == "tv":
        keys["target"] = "contamination"
    return learning_parts(**keys)


def view_of(networks, batch, *, double_q=True, dual=None, **keys):
    """Builds the view of a batch for the parts of some keys."""
    encoded = encode(*networks, batch, double_q=double_q)
    return learning_parts(**keys).view(networks, encoded, batch.without_burn_in(), dual)


def tabular_network(table, **keys):
    """A network whose return atoms are the values of a table.

    The observation is one-hot over (step, agent). The two layers of the encoder are
    identities, and the head's weights are the table.

    Args:
        table: ``[T+1, N, A, M]``. For sampled quantiles ``[T+1, N, A, 1]``: a cell
            ``v`` has the quantile ``v (1 - cos(pi tau) / sqrt(2))`` at ``tau``, that is
            ``v / 2`` at 1/4 and ``3 v / 2`` at 3/4.
        keys: Keys of the network. Keys of learning parts are ignored.
    """
    steps, num_agents, num_actions, num_atoms = table.shape
    cells = steps * num_agents
    sampled = keys.get("quantiles") == "sampled"
    sizes = {"num_atoms": 2 if sampled else num_atoms, "hidden_size": cells}
    config = network_config(
        **{**keys, **sizes},
        recurrent=False,
        mixing_embed_dim=1,
        hypernet_embed_dim=1,
    )
    network = TeamNetwork(TeamSizes(num_agents, num_actions, cells, 1), config)
    agent = network.agents[0]
    encoders = [agent.encoder]
    if agent.predictor is not None:
        encoders.append(agent.predictor.history)
    with torch.no_grad():
        for encoder in encoders:
            pass_cells_through(encoder)
        head = agent.head
        if isinstance(head, QuantileHead):
            for parameter in head.parameters():
                parameter.zero_()
            head.embedding.weight[:, 1] = -math.sqrt(0.5)  # of cos(pi tau)
            head.embedding.bias.fill_(1.0)
            if head.hidden is not None:
                head.hidden.weight.copy_(torch.eye(cells))
            head = head.output
        head.weight.copy_(table.reshape(cells, -1).T)
        head.bias.zero_()
    return network


@torch.no_grad()
def pass_cells_through(encoder):
    """Sets a feed-forward encoder to return the first numbers of its input."""
    cells = encoder.body.weight.shape[0]
    encoder.fc1.weight.zero_()
    encoder.fc1.weight[:, :cells] = torch.eye(cells)
    encoder.fc1.bias.zero_()
    encoder.body.weight.copy_(torch.eye(cells))
    encoder.body.bias.zero_()


@torch.no_grad()
def set_units(network, units, output, bias=0.0):
    """Sets an MLP to compute ``bias + sum_k output_k relu(unit_k)``.

    Args:
        network: Linear layers with ReLU between them.
        units: For each unit its weights, by index of the input, and its bias.
        output: Output weight of each unit.
        bias: Bias of the output.
    """
    layers = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        layer.weight.zero_()
        layer.bias.zero_()
    for k, (weights, unit_bias) in enumerate(units):
        for index, weight in weights.items():
            layers[0].weight[k, index] = weight
        layers[0].bias[k] = unit_bias
        for layer in layers[1:-1]:
            layer.weight[k, k] = 1.0
        layers[-1].weight[..., k] = output[k]
    layers[-1].bias.fill_(bias)


def set_linear_mixer(mixer, weights, state_weight):
    """Sets QMIX's mixer to ``sum_i weights_i q_i + state_weight s``, for terms >= 0."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        # Negative, to test that the mixer takes absolute values.
        mixer.hyper_w1[-1].bias.copy_(-torch.tensor(weights))
        mixer.hyper_w2[-1].bias.fill_(-1.0)
        mixer.value[0].weight.fill_(1.0)
        mixer.value[-1].weight.fill_(state_weight)


def set_duplex_mixer(mixer, weights, state_weight):
    """Sets QPLEX's mixer to ``sum_i weights_i (q_i + (lambda_i - 1) A_i) + v``.

    ``A_i`` is the advantage, and ``v = state_weight s`` for ``s >= 0``. With two agents
    and two actions ``lambda_i`` is 2 where the *other* takes its second action, else 1.
    """
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        mixer.weights[-1].bias.copy_(-torch.tensor(weights))
        mixer.biases[0].weight[0] = 1.0
        mixer.biases[-1].weight[:, 0] = state_weight / 2
        # sum over 4 heads of |key| sigmoid(agent) sigmoid(action): 4 * 1 * 1/2 * 1/2,
        # or with an action's sigmoid(100) = 1: 4 * 1 * 1/2 * 1.
        mixer.keys.biases[0].fill_(-1.0)
        state_size, num_actions = 1, 2
        for agent, other in ((0, 1), (1, 0)):
            row = state_size + other * num_actions + 1
            mixer.actions.weights[0][:, row, agent] = 100.0


def set_weighted_mixer(mixer, state_weight):
    """Sets RiskQ's mixer of two agents to ``q_0 + q_1 + state_weight s``, s >= 0."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        # Each agent has half of the attention. The weight is negative to test |w|.
        mixer.head_weights[-1].bias.fill_(-2.0)
        mixer.offset[0].weight[0] = 1.0
        mixer.offset[-1].weight[0, 0] = state_weight


GAMMA = 0.5
ACTIONS = [[0, 1], [1, 0], [1, 1]]
REWARDS = [1.0, 2.0, 3.0]

# Plain utilities of the online network, [step][agent][action].
ONLINE_Q = [
    [[1, 0], [2, 0]],  # greedy (0, 0)
    [[0, 4], [1, 3]],  # greedy (1, 1)
    [[2, 1], [0, 2]],  # greedy (0, 1)
    [[5, 0], [0, 1]],  # greedy (0, 1)
]
# Plain utilities of the target network.
TARGET_Q = [
    [[0, 0], [0, 0]],
    [[2, 6], [8, 4]],  # at online greedy actions: 6, 4; its maxima: 6, 8
    [[1, 3], [5, 7]],  # 1, 7; 3, 7
    [[4, 9], [2, 3]],  # 4, 3; 9, 3
]


def plain_networks(**keys):
    """Online and target network with the tables above, and mixers of simple form."""
    networks = []
    for values, state_weight in ((ONLINE_Q, 1.0), (TARGET_Q, 2.0)):
        table = torch.tensor(values, dtype=torch.float32).unsqueeze(-1)
        network = tabular_network(table, **keys)
        if keys["mixer"] == "qmix":
            set_linear_mixer(network.mixer, [2.0, 3.0], state_weight)
        if keys["mixer"] == "qplex":
            set_duplex_mixer(network.mixer, [2.0, 3.0], state_weight)
        if keys["mixer"] == "riskq":
            set_weighted_mixer(network.mixer, state_weight)
        networks.append(network)
    return networks


def plain_batch(terminated):
    """A batch of three steps through the tables above."""
    return table_batch(torch.zeros(4, 2, 2, 1), ACTIONS, REWARDS, terminated=terminated)


def table_batch(table, actions, rewards, *, terminated):
    """A batch of one episode through the cells of a table; the state is the step."""
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


# Compositions of all algorithms, with fewer atoms, and some that no algorithm has.
COMPOSITIONS = {
    name: composition(name)
    | ({"num_atoms": 8} if "num_atoms" in composition(name) else {})
    for name in value_based()
} | {
    "static level": {
        "mixer": "qmix",
        "num_atoms": 8,
        "risk_measure": "cvar",
        "alpha": 0.5,
    },
    "QPLEX of CVaR": {
        "mixer": "qplex",
        "qplex_lambda_layers": 3,
        "num_atoms": 8,
        "risk_measure": "cvar",
        "risk_mode": "dynamic",
    },
    "mixed samples": {
        "mixer": "qmix",
        "joint_critic": "qtran",
        "num_atoms": 8,
        "quantiles": "sampled",
        "risk_measure": "wang",
        "td_weighting": "ow",
        "parameter_sharing": False,
    },
    "hysteresis": {"mixer": "none", "td_weighting": "ow"},
    "per quantile": {
        "mixer": "qmix_quantiles",
        "num_atoms": 8,
        "loss": "quantile",
        "sort_atoms": True,
        "risk_measure": "var",
        "alpha": 0.5,
    },
}


def random_networks(**keys):
    """An online and a target network of three agents and four actions."""
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = network_config(**{"hidden_size": 8, "mixing_embed_dim": 4} | keys)
        network = TeamNetwork(TeamSizes(3, 4, 5, 6), config)
        with torch.no_grad():
            for parameter in network.parameters():
                # Smaller in wide layers, whose sums would be too large for float32.
                parameter.normal_(0, min(0.5, parameter.shape[-1] ** -0.5))
        if network.samples:
            # Random, but equal for a step whatever the padding around it.
            groups = 1 if network.agents[0].head.shares_fractions else 3
            draws = torch.rand(8, 20, groups, network.num_atoms)
            network._midpoints = functools.partial(_drawn, draws)
        networks.append(network)
    return networks


def _drawn(draws, features):
    episodes, steps = features.shape[:2]
    return draws[:episodes, :steps].to(features)


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
    return as_tensors(collate(episodes))


def as_tensors(samples):
    """A collated batch as tensors."""
    tensors = {
        field.name: torch.as_tensor(samples[field.name])
        for field in dataclasses.fields(Batch)
        if field.name in samples
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
