"""Plays one greedy episode and takes down all that its agents thought."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import loop_over, make_env
from rllib_risk.core.episode_loop import (
    check_length,
    lost_episodes,
    numbers_of,
    until_whole,
)
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.env_wrappers.team_env import LoopedTeamEnvs
from rllib_risk.evaluation.episode_trace import EpisodeTrace
from rllib_risk.parts.acting import make_actor
from rllib_risk.parts.risk import Distorted, LevelMeasure, Mean


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
    envs = loop_over(config, partial(make_env, config))
    try:
        return until_whole(partial(_trace, policy, config, envs), seed, index)
    finally:
        envs.close()


def _trace(
    policy: TeamPolicy, config: AlgorithmConfig, envs: LoopedTeamEnvs, env_seed: int
) -> EpisodeTrace | None:
    """One episode; None if it was lost."""
    network = copy.deepcopy(policy.network).cpu()
    actor = make_actor(network, 1, **policy.window())
    rows: dict[str, list[np.ndarray]] = {
        key: [] for key in ("actions", "action_mask", "level", "values", "atoms")
    }
    rewards: list[float] = []
    envs.reset(np.zeros(1, np.int64), np.array([env_seed]))
    done = False
    while not done:
        mask = envs.action_mask
        values, level = actor.act(envs.obs, mask)
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
        step = envs.step(actions, np.ones(1, bool))
        if lost_episodes(config, step):
            return None
        rewards.append(float(step.rewards[0]))
        check_length(config, len(rewards))
        done = bool(step.terminateds[0] or step.truncateds[0])
    stacked = {key: np.stack(arrays) for key, arrays in rows.items()}
    return EpisodeTrace(
        agents=envs.spec.agents,
        rewards=np.array(rewards),
        actions=stacked["actions"],
        action_mask=stacked["action_mask"],
        risk_levels=np.array(network.risk.levels)[stacked["level"]],
        values=stacked["values"],
        atoms=stacked["atoms"],
        weights=_weights(network.risk, stacked["level"], network.num_atoms),
        metrics=numbers_of(step.infos[0]),
    )


def _weights(risk: object, level: np.ndarray, num_atoms: int) -> np.ndarray | None:
    """The weight of every atom in order, ``[L, N, M]``."""
    if isinstance(risk, (Distorted, LevelMeasure)):
        return np.asarray(risk.weights.double().numpy()[level])
    if type(risk) is Mean:
        return np.full((*level.shape, num_atoms), 1.0 / num_atoms)
    return None
