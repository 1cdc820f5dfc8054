"""One greedy episode with all that its agents thought: levels, values and atoms.

Letters: ``L`` steps, ``N`` agents, ``A`` actions, ``M`` atoms.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import start_env
from rllib_risk.core.episode_loop import check_length, evaluation_seed, numbers_of
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.models.acting import NumpyActor
from rllib_risk.models.risk import Distorted, LevelMeasure, Mean


@dataclass
class EpisodeTrace:
    """An episode step by step.

    Attributes:
        agents: Names.
        rewards: float64 ``[L]``.
        actions: int64 ``[L, N]``.
        action_mask: bool ``[L, N, A]``; True where available.
        risk_levels: float64 ``[L, N]``; 1 where no level is used.
        values: What the agents compared, float32 ``[L, N, A]``.
        atoms: Of all actions, ascending, float32 ``[L, N, A, M]``.
        weights: Of each atom in the value of an action, float64 ``[L, N, M]``, or None
            where the risk measure does not weigh atoms by their order.
        metrics: What the environment reported at the end.
    """

    agents: tuple[str, ...]
    rewards: np.ndarray
    actions: np.ndarray
    action_mask: np.ndarray
    risk_levels: np.ndarray
    values: np.ndarray
    atoms: np.ndarray
    weights: np.ndarray | None
    metrics: dict[str, float]


def trace_episode(
    policy: TeamPolicy, config: AlgorithmConfig, seed: int, index: int = 0
) -> EpisodeTrace:
    """Plays one evaluation episode and takes everything down.

    Args:
        policy: Who plays, greedily.
        config: Whose environment.
        seed: Of the evaluation.
        index: Of the episode in it.

    Returns:
        The episode; the same one as in an evaluation with that seed.
    """
    network = copy.deepcopy(policy.network).cpu()
    actor = NumpyActor(network, 1)
    env = start_env(config)
    rows: dict[str, list[np.ndarray]] = {
        key: [] for key in ("actions", "action_mask", "level", "values", "atoms")
    }
    rewards: list[float] = []
    try:
        obs, _ = env.reset(seed=evaluation_seed(seed, index))
        done = False
        while not done:
            mask = obs["action_mask"][None]
            values, level = actor.act(obs["obs"][None], mask)
            actions = values.argmax(axis=-1)
            actor.remember(actions)
            index_of_level = np.zeros_like(actions) if level is None else level
            for key, array in (
                ("actions", actions),
                ("action_mask", mask != 0),
                ("level", index_of_level),
                ("values", values),
                ("atoms", np.sort(actor.atoms, axis=-1)),
            ):
                rows[key].append(array[0].copy())
            obs, reward, terminated, truncated, info = env.step(actions[0])
            rewards.append(float(reward))
            check_length(config, len(rewards))
            done = terminated or truncated
        stacked = {key: np.stack(arrays) for key, arrays in rows.items()}
        return EpisodeTrace(
            agents=env.spec_team.agents,
            rewards=np.array(rewards),
            actions=stacked["actions"],
            action_mask=stacked["action_mask"],
            risk_levels=np.array(network.risk.levels)[stacked["level"]],
            values=stacked["values"],
            atoms=stacked["atoms"],
            weights=_weights(network.risk, stacked["level"], network.config.num_atoms),
            metrics=numbers_of(info),
        )
    finally:
        env.close()


def _weights(risk: object, level: np.ndarray, num_atoms: int) -> np.ndarray | None:
    """The weight of every atom in order, ``[L, N, M]``."""
    if isinstance(risk, (Distorted, LevelMeasure)):
        return risk.weights.double().numpy()[level]
    if type(risk) is Mean:
        return np.full((*level.shape, num_atoms), 1.0 / num_atoms)
    return None
