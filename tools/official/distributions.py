"""Compares DFAC (DDN, DMIX, DPLEX) and RiskQ with their released code."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from official.common import UPDATES, Case, Logger, Names, Pair, make_policy
from official.common import random_episodes as episodes_of
from official.pymarl import (
    AGENT,
    MONOTONIC,
    SCHEME,
    arguments,
    halves,
    make_mac,
    their_batch,
)
from official.variants import DUPLEX
from rllib_risk.data.episodes import collate
from rllib_risk.networks.layers import mlp

IQN: Names = [
    *AGENT[:2],
    (r"agent\.phi\.(.*)", r"agents.0.head.embedding.\1"),
    (r"agent\.fc2\.(.*)", r"agents.0.head.output.\1"),
]
STATE_WEIGHTS: Names = [
    (r"mixer\.attention_weight\.weights\.(.*)", r"mixer.weights.\1"),
    (r"mixer\.attention_weight\.biases\.(.*)", r"mixer.biases.\1"),
]
WEIGHTED: Names = [
    (r"mixer\.query_embedding_layers\.(.*)", r"mixer.queries.\1"),
    (r"mixer\.key_embedding_layers\.(.*)", r"mixer.keys.\1"),
    (r"mixer\.head_embedding_layer\.(.*)", r"mixer.head_weights.\1"),
    (r"mixer\.constrant_value_layer\.(.*)", r"mixer.offset.\1"),
]
_IQN_KEYS = {"agent": "iqn_rnn", "optimizer": "Adam", "quantile_embed_dim": 64}


class StateWeights(nn.Module):
    """Computes DPLEX's ``w_i`` and ``b_i`` from the state, without attention to units.

    The authors' mixer without attention does the same.
    """

    def __init__(self, args: Any) -> None:
        """Initializes the networks."""
        super().__init__()
        self.weights = mlp(args.state_shape, args.hypernet_embed, args.n_agents)
        self.biases = mlp(args.state_shape, args.hypernet_embed, args.n_agents)

    def forward(self, agent_qs: Tensor, states: Tensor, actions: Any) -> tuple:
        """Returns the weights, the sum of the biases, and no regularisation."""
        states = states.reshape(-1, states.shape[-1])
        return self.weights(states).abs(), self.biases(states).sum(-1), 0.0, []


def on_the_cpu() -> None:
    """Keeps tensors on the CPU, which the released learners always move to the GPU."""
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda tensor, *_: tensor  # type: ignore[method-assign]


class Fractions:
    """Passes the quantile fractions that the released agents draw to our policy."""

    def __init__(self, learner: Any, policy: Any) -> None:
        """Starts recording.

        Args:
            learner: The released learner.
            policy: Our policy.
        """
        self._drawn: dict[Any, list[Tensor]] = {}
        policy.generator = lambda stream: None
        pairs = (
            (learner.mac, policy.network),
            (learner.target_mac, policy.target_network),
        )
        for mac, network in pairs:
            self._drawn[mac] = []
            self._record(mac)
            network._midpoints = functools.partial(self._take, mac)

    def _record(self, mac: Any) -> None:
        forward = mac.agent.forward

        def record(*args: Any, **keywords: Any) -> Any:
            out = forward(*args, **keywords)
            self._drawn[mac].append(out[2])
            return out

        mac.agent.forward = record

    def _take(self, mac: Any, features: Tensor) -> Tensor:
        """Returns the fractions ``[B, ., 1, M]`` of the steps of ``features``."""
        drawn = torch.stack(self._drawn[mac], dim=1).unsqueeze(2)
        return drawn[:, : features.shape[1]]

    def forget(self) -> None:
        """Deletes the fractions before a new update."""
        for drawn in self._drawn.values():
            drawn.clear()


def make_dfac(mixer: str, quantiles: int, **sizes: Any) -> Any:
    """Builds the released learner of DDN, DMIX or DPLEX.

    Args:
        mixer: ``ddn``, ``dmix`` or ``dplex``.
        quantiles: Number of drawn quantiles.
        **sizes: Settings that replace those of the comparison.
    """
    import modules.mixers.dplex
    from learners.iqn_learner import IQNLearner

    on_the_cpu()
    modules.mixers.dplex.Qatten_Weight = StateWeights
    common: dict[str, Any] = {
        "name": mixer,
        "mixer": mixer,
        "n_quantiles": quantiles,
        "n_target_quantiles": quantiles,
        "n_approx_quantiles": 32,
        "double_q": False,
        "adv_hypernet_layers": 1,
        "adv_hypernet_embed": 64,
        "num_kernel": 4,
        "is_minus_one": True,
    }
    args = arguments(**common | _IQN_KEYS | sizes)
    return IQNLearner(make_mac("basic_mac", args), SCHEME, Logger(), args)


def compare_dfac() -> None:
    """Compares DDN, DMIX and DPLEX."""
    for name, mixer, quantiles, names in (
        ("DDN", "ddn", 1, []),
        ("DMIX", "dmix", 8, MONOTONIC),
        ("DPLEX", "dplex", 8, STATE_WEIGHTS + DUPLEX[2:]),
    ):
        learner = make_dfac(mixer, quantiles)
        policy = make_policy(name, preset=f"{mixer}_official")
        fractions = Fractions(learner, policy)
        compare_steps(
            f"{name} {mixer}_official", learner, policy, IQN + names, fractions
        )


def make_riskq(atoms: int, unit_size: int, **sizes: Any) -> Any:
    """Builds the released learner of RiskQ.

    Args:
        atoms: Number of atoms.
        unit_size: Number of state features per agent.
        **sizes: Settings that replace those of the comparison.
    """
    from learners.riskq_learner import RiskQLearner

    on_the_cpu()
    common: dict[str, Any] = {
        "name": "RiskQ",
        "mixer": "riskq",
        "agent": "qrdqn_rnn",
        "optimizer": "RMSProp",
        "n_quantiles": atoms,
        "n_target_quantiles": atoms,
        "n_approx_quantiles": atoms,
        "quantile_embed_dim": 64,
        "n_query_embedding_layer1": 32,
        "n_query_embedding_layer2": 16,
        "n_key_embedding_layer1": 16,
        "n_head_embedding_layer1": 32,
        "n_head_embedding_layer2": 1,
        "n_attention_head": 1,
        "n_constrant_value": 16,
        "type": "weighted",
        "agent_own_state_size": unit_size,
        "td_lambda": 0.6,
        "lr": 1e-3,
        "qmix_loss": 1,
        "risk_type": "wang",
        "risk_param": 0.75,
        "masked_out_quantiles": False,
        "sort_quantiles": True,
    }
    args = arguments(**common | sizes)
    return RiskQLearner(make_mac("risk_mac", args), SCHEME, Logger(), args)


def compare_riskq() -> None:
    """Compares RiskQ, with the released weights of Wang's distortion in our policy."""
    from utils.risk import distortion_de

    for atoms in (8, 32):
        learner = make_riskq(atoms, 2)
        policy = make_policy(
            "RiskQ", preset="riskq_official", num_atoms=atoms, riskq_unit_size=2
        )
        # The released weights are densities at the midpoints, clipped at 5. Their sum
        # is below 1.
        middle = (2 * torch.arange(atoms) + 1) / (2 * atoms)
        policy.network.risk.weights.copy_(distortion_de(middle, "wang", 0.75) / atoms)
        title = f"RiskQ riskq_official, {atoms} atoms"
        compare_steps(title, learner, policy, AGENT + WEIGHTED, None)


def compare_steps(
    title: str, learner: Any, policy: Any, names: Names, fractions: Fractions | None
) -> None:
    """Makes some updates with both sides and prints the row.

    Args:
        title: Title of the row.
        learner: The released learner.
        policy: Our policy.
        names: Rules from released parameter names to ours.
        fractions: Drawn fractions of the released learner; None: fixed fractions.
    """
    ours = ({"": policy.network}, {"": policy.target_network})
    pairs = [Pair(t, o, names) for t, o in zip(halves(learner), ours, strict=True)]
    case = Case(title, pairs)
    for step in range(UPDATES):
        if fractions is not None:
            fractions.forget()
        episodes = episodes_of(step)
        learner.train(their_batch(episodes), step, 0)
        stats = policy.learn_on_batch(collate(episodes))
        logged = learner.logger.last
        case.add(logged["loss"], stats["td_loss"])
    case.show()
