"""Plays one greedy episode and records the agents' utilities and atoms."""

from __future__ import annotations

import copy
from collections import defaultdict
from functools import partial

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import loop_over, make_env
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import evaluation_rng, evaluation_seed, play_episodes
from rllib_risk.env_wrappers.episode_loop import Player
from rllib_risk.evaluation.episode_trace import EpisodeTrace
from rllib_risk.parts.acting import Actor, make_actor
from rllib_risk.parts.objectives.static import ReturnWatch
from rllib_risk.parts.risk import Distorted, LevelMeasure, Mean


def trace_episode(
    policy: TeamPolicy, config: AlgorithmConfig, seed: int, index: int = 0
) -> EpisodeTrace:
    """Plays one evaluation episode and records it.

    Args:
        policy: The policy, which acts greedily.
        config: Configuration with the environment.
        seed: Seed of the evaluation.
        index: Index of the episode in the evaluation.

    Returns:
        The record of the same episode as in an evaluation with that seed.
    """
    envs = loop_over(config, partial(make_env, config))
    network = copy.deepcopy(policy.network).cpu()
    actor = make_actor(network, 1, **policy.window())
    player = _Recorder(actor, policy.watch_returns(1))
    seeds = np.array([evaluation_seed(seed, index)])
    try:
        (episode,), _ = play_episodes(config, envs, player, seeds, evaluation_rng(seed))
    finally:
        envs.close()
    rows = {key: np.stack(arrays) for key, arrays in player.rows.items()}
    return EpisodeTrace(
        agents=envs.spec.agents,
        rewards=episode.rewards.astype(np.float64),
        actions=rows["actions"],
        action_mask=rows["action_mask"],
        risk_levels=np.array(network.risk.levels)[rows["level"]],
        values=rows["values"],
        atoms=rows["atoms"],
        weights=_weights(network.risk, rows["level"], network.acting_atoms),
        metrics=episode.metrics,
    )


class _Recorder(Player):
    """Acts greedily in one environment and records each step.

    Attributes:
        rows: Arrays of every step of the running episode, by name.
    """

    def __init__(self, actor: Actor, returns: ReturnWatch | None) -> None:
        self._actor = actor
        self._returns = returns
        self.rows: defaultdict[str, list[np.ndarray]] = defaultdict(list)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        if self._returns is not None:
            obs = self._returns.beside(obs)
        values, level = self._actor.act(obs, action_mask)
        actions = values.argmax(axis=-1)
        self._actor.remember(actions)
        for key, array in (
            ("actions", actions),
            ("action_mask", action_mask != 0),
            ("level", np.zeros_like(actions) if level is None else level),
            ("values", values),
            ("atoms", np.sort(self._actor.atoms, axis=-1)),
        ):
            self.rows[key].append(array[0].copy())
        return actions, 1.0

    def begin(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        if self._returns is not None:
            self._returns.begin(slots, episodes)

    def earn(self, rewards: np.ndarray) -> None:
        if self._returns is not None:
            self._returns.earn(rewards)

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        # The environment crashed, and the episode starts again.
        self._actor.reset(slots)
        self.rows.clear()


def _weights(risk: object, level: np.ndarray, num_atoms: int) -> np.ndarray | None:
    """Returns the weights of the sorted atoms, ``[L, N, M]``, or None."""
    if isinstance(risk, (Distorted, LevelMeasure)):
        weights = np.asarray(risk.weights.double().numpy()[level])
        # Acting may use another number of sampled quantiles than learning.
        return weights if weights.shape[-1] == num_atoms else None
    if type(risk) is Mean:
        return np.full((*level.shape, num_atoms), 1.0 / num_atoms)
    return None
