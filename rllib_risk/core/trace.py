"""Plays one greedy episode and takes down all that its agents thought."""

from __future__ import annotations

import copy

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import start_env
from rllib_risk.core.episode_loop import check_length, evaluation_seed, numbers_of
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.evaluation.episode_trace import EpisodeTrace
from rllib_risk.models.acting import NumpyActor, within_window
from rllib_risk.models.risk import Distorted, LevelMeasure, Mean


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
    inner = NumpyActor(network, 1)
    actor = within_window(inner, 1, **policy.window())
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
                ("atoms", np.sort(inner.atoms, axis=-1)),
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
