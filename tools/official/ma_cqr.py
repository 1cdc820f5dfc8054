"""Compares the family of MA-CQR with its released code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from official.common import ACTIONS, STATE, UPDATES, Case, Names, Pair, make_policy
from rllib_risk.data.episodes import Episode, collate


def one_step_episodes(seed: int) -> list[Episode]:
    """Returns episodes of one step with two agents, which both observe the state.

    About a third of the episodes end in a terminal step.
    """
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(128, 2, STATE)).astype(np.float32)
    return [
        Episode(
            obs=np.repeat(rows[:, None], 2, axis=1),
            state=rows,
            action_mask=np.ones((2, 2, ACTIONS), np.uint8),
            actions=rng.integers(ACTIONS, size=(1, 2)).astype(np.int16),
            rewards=rng.normal(0, 20, size=1).astype(np.float32),
            terminated=bool(rng.random() < 1 / 3),
            risk_levels=np.ones((1, 2), np.float32),
        )
        for rows in states
    ]


# Quantiles, centralised, weight of the penalty, and xi, by preset.
MEMBERS = {
    "ma_dqn": (False, False, 0.0, 1.0),
    "ma_dqn_sum": (False, True, 0.0, 1.0),
    "ma_qr_dqn": (True, False, 0.0, 1.0),
    "ma_qr_dqn_sum": (True, True, 0.0, 1.0),
    "ma_ciql": (False, False, 1.0, 1.0),
    "ma_ccql": (False, True, 1.0, 1.0),
    "ma_ciqr": (True, False, 1.0, 1.0),
    "ma_ccqr": (True, True, 1.0, 1.0),
    "ma_ciqr_cvar": (True, False, 1.0, 0.15),
    "ma_ccqr_cvar": (True, True, 1.0, 0.15),
}


def make_uavs(quantiles: bool, weight: float, xi: float) -> list[Any]:
    """Builds the two released agents, with two mistakes corrected.

    The weights of the quantile loss are on the axis of the predictions. The centralised
    penalty subtracts the value of the action, not the index of the action.
    """
    if quantiles:
        from agent_CQR import CQRAgent

        made = [CQRAgent(k, (STATE,), ACTIONS, weight, xi) for k in range(2)]
        for agent in made:
            agent.quantile_tau = agent.quantile_tau.unsqueeze(-1)
        return made
    from agent_CQL import CQLAgent

    made = [CQLAgent((STATE,), ACTIONS, weight) for _ in range(2)]
    for agent in made:
        agent.cql_loss_cen = agent.cql_loss_ind
    return made


def networks_of(agents: list[Any], quantiles: bool) -> tuple[dict, dict]:
    """Returns online and target networks of the released agents."""
    online, target = (
        ("qnetwork_local", "qnetwork_target")
        if quantiles
        else ("network", "target_net")
    )
    return tuple(
        {f"uav{k}": getattr(agent, name) for k, agent in enumerate(agents)}
        for name in (online, target)
    )


class TeamLearner:
    """The released centralised update with one Adam, which counts the reward once."""

    def __init__(self, agents: list[Any], networks: tuple[dict, dict], reward: float):
        """Initializes the learner.

        Args:
            agents: The released agents.
            networks: Networks from :func:`networks_of`.
            reward: Factor on the rewards of an agent.
        """
        self._agents, self._reward = agents, reward
        self._networks = [
            [p for network in part.values() for p in network.parameters()]
            for part in networks
        ]
        self._adam = torch.optim.Adam(self._networks[0], 1e-4)

    def update(self, batch: list[Tensor], quantiles: bool) -> float:
        """Makes one update; returns the loss."""
        from utils import loss_update_cent

        states, actions, rewards, following, dones = batch
        parts = []
        for k, agent in enumerate(self._agents):
            learn = agent.learn_cqr_cent if quantiles else agent.learn_cql_cent
            own = (states, actions[:, [k]], self._reward * rewards, following, dones)
            parts.append(learn(own))
        loss = self._agents[0].loss_calc_cent(*map(sum, zip(*parts, strict=True)))
        return loss_update_cent(loss, *self._networks, self._adam)


def compare_ma_cqr() -> None:
    """Compares the ten members of MA-CQR's family, with documented mistakes corrected.

    The released quantile losses are M times ours. Therefore ``grad_clip`` and Adam's
    epsilon are divided by M here, which makes clipping and Adam equivalent.
    """
    for preset, (quantiles, centralised, weight, xi) in MEMBERS.items():
        theirs = make_uavs(quantiles, weight, xi)
        networks = networks_of(theirs, quantiles)
        scale, alone = (8 if quantiles else 1), quantiles and not centralised
        keys = {
            "lr": 1e-5 if alone else 1e-4,
            "grad_clip": None if alone else 1.0 / scale,
            "optimizer_eps": 1e-8 / scale,
            "target_update_tau": 1e-2 if alone else 1e-3,
        }
        policy = make_policy("MACQR", 2, STATE, preset=preset, **keys)
        case = Case(preset, uav_pairs(networks, policy))
        for agent in theirs:
            # The optimizer was made before the weights were copied; clear its state.
            agent.optimizer.state.clear()
        team = TeamLearner(theirs, networks, 0.5 if quantiles else 1.0)
        for step in range(UPDATES):
            samples = collate(one_step_episodes(step))
            batch = uav_batch(samples)
            if centralised:
                loss = team.update(batch, quantiles)
            else:
                loss = independent_update(theirs, batch, quantiles)
            mine, _ = policy.td_targets_and_loss(policy.tensors(samples))
            policy.learn_on_batch(samples)
            policy.update_target(keys["target_update_tau"])
            case.add(loss, scale * mine.item(), scale)
        case.show()


def uav_pairs(networks: tuple[dict, dict], policy: Any) -> list[Pair]:
    """Returns the pairs of online and of target networks."""
    names: Names = []
    for k in range(2):
        for theirs, ours in (
            ("head_1", "encoder.fc1"),
            ("ff_1", "encoder.body"),
        ):
            names.append((rf"uav{k}\.{theirs}\.(.*)", rf"agents.{k}.{ours}.\1"))
        names.append((rf"uav{k}\.ff_2\.(.*)", rf"agents.{k}.head.\1.by_quantile"))
    ours = ({"": policy.network}, {"": policy.target_network})
    return [Pair(t, o, names) for t, o in zip(networks, ours, strict=True)]


def uav_batch(samples: Any) -> list[Tensor]:
    """Returns states, actions, rewards, next states and terminals, ``[B, .]``."""
    state = torch.from_numpy(samples["state"])
    actions = torch.from_numpy(samples["actions"])[:, 0]
    rewards = torch.from_numpy(samples["rewards"])
    ends = torch.from_numpy(samples["terminateds"])
    return [state[:, 0], actions, rewards, state[:, 1], ends]


def independent_update(
    agents: list[Any], batch: list[Tensor], quantiles: bool
) -> float:
    """Updates the released agents; returns the mean of their losses."""
    states, actions, rewards, following, dones = batch
    found = []
    for k, agent in enumerate(agents):
        own = (states, actions[:, [k]], rewards, following, dones)
        found.append(
            agent.learn_cqr_ind(own) if quantiles else agent.learn_cql_ind(own)[0]
        )
    return float(np.mean(found))
