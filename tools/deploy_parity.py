"""Compares exported teams with the library's own policies, action by action.

Every kind of network plays in every family of environments. Parameters are random and
not trained, because random ones use all actions and risk levels. In each step the
policy of the library and the exported team get the same observations. The episode
continues with the policy's actions.

The table counts the decisions that differ. It also gives the largest difference between
the utilities of both sides. If decisions differ, it gives the largest gap between the
policy's utilities of the two actions. Both numbers are relative to the largest
utility::

    python tools/deploy_parity.py --steps 10000
    python tools/deploy_parity.py --steps 10000 --format onnx
    python tools/deploy_parity.py --env macn --kind LSTM
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.env.env_context import EnvContext

import rllib_risk
from rllib_risk.algorithms import config_class
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.envs import make_batched_env
from rllib_risk.core.export import FORMATS, export_team
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import limits_of, one_thread
from rllib_risk.deploy import Team
from rllib_risk.env_wrappers.batched_env import BatchedStep
from rllib_risk.env_wrappers.episode_loop import EpisodeLoop, EpisodeObserver, Player

_QUANTILES = {"num_atoms": 8}
_STATIC = {"risk_mode": "static", "alpha": 0.3, "num_atoms": 8}
# Algorithm and keys by kind of network.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "feed-forward": ("QMIX", {"recurrent": False}),
    "GRU": ("QMIX", {}),
    "LSTM": ("QMIX", {"rnn_cell": "lstm"}),
    "a network each": ("QMIX", {"parameter_sharing": False}),
    "window": ("QMIX", {"acting_window": 5}),
    "padded window": (
        "QMIX",
        {"acting_window": 5, "sequence_length": 5, "window_padding": "zeros"},
    ),
    "CVaR, predicted level": ("RMIX", _QUANTILES),
    "CVaR, level 0.3": ("RMIX", _STATIC),
    "VaR": ("RMIX", {**_STATIC, "risk_measure": "var"}),
    "sampled quantiles": ("DMIX", _QUANTILES),
    "sampled, CVaR 0.3": ("DMIX", {**_STATIC, "risk_measure": "cvar"}),
    "Wang": ("DMIX", {**_QUANTILES, "risk_measure": "wang"}),
    "CPW": ("DMIX", {**_QUANTILES, "risk_measure": "cpw"}),
    "power": ("DMIX", {**_QUANTILES, "risk_measure": "power"}),
    "mean-variance": ("DMIX", {**_QUANTILES, "risk_measure": "mean_variance"}),
    "fixed quantiles": ("DMIX", {**_QUANTILES, "quantiles": "fixed"}),
    "static CVaR": ("QMIX", {"objective": "static", "alpha": 0.3}),
    "static CVaR, MAPPO": ("MAPPO", {"objective": "static", "alpha": 0.3}),
    "COMA": ("COMA", {}),
    "DOP": ("DOP", {}),
    "MAPPO": ("MAPPO", {}),
    "IPPO": ("IPPO", {"parameter_sharing": False}),
}
ENVS: dict[str, tuple[str, dict[str, Any]]] = {
    "macn": ("macn", {"wind_probability": 0.2}),
    "hvac": ("hvac", {"normalise": True, "episode_steps": 96, "bins": 21}),
    "uav": ("uav", {}),
    "car_following": ("car_following", {}),
    "memory_game": ("memory_game", {}),
    "smax": ("smax", {}),
}
_NUM_ENVS = 8


class _Both(Player, EpisodeObserver):
    """Player that acts with the policy and compares it with the exported team."""

    def __init__(self, policy: TeamPolicy, team: Team, gamma: float, sampled: bool):
        explorer = policy.make_explorer(_NUM_ENVS) if sampled else None
        share = team.artefact.policy["epsilon"]
        self._policy = PolicyPlayer(
            policy,
            _NUM_ENVS,
            explorer,
            lambda steps: np.full(_NUM_ENVS, share),
            np.random.default_rng(1) if sampled else None,
        )
        self._actor = self._policy._actor
        self._act = self._actor.act
        self._actor.act = self._watched  # type: ignore[method-assign]
        self._team = team
        self._rng = np.random.default_rng(1) if sampled else None
        self._static = team.artefact.contract.needs_return
        self._gamma = gamma
        self._returns, self._weights = np.zeros(_NUM_ENVS), np.ones(_NUM_ENVS)
        self.limit = self.steps = self.decisions = self.differing = 0
        self.distance = self.scale = self.gap = 0.0

    def _watched(self, obs: np.ndarray, action_mask: np.ndarray) -> Any:
        self._utilities, levels = self._act(obs, action_mask)
        return self._utilities, levels

    def act(self, obs: np.ndarray, action_mask: np.ndarray) -> Any:
        actions, levels = self._policy.act(obs.copy(), action_mask)
        given = {"return_so_far": self._returns} if self._static else {}
        found = self._team.act(obs.copy(), action_mask, rng=self._rng, **given)
        differing = (found != actions) & self._active[:, None]
        differing |= (self._team.risk_levels != levels) & self._active[:, None]
        self.differing += int(differing.sum())
        chosen, other = (
            np.take_along_axis(self._utilities, a[..., None], -1)[..., 0][differing]
            for a in (actions, found)
        )
        self.gap = max(self.gap, float(np.abs(chosen - other).max(initial=0.0)))
        self._team.remember(actions)
        here = (action_mask != 0) & self._active[:, None, None]
        ours, theirs = self._team.utilities[here], self._utilities[here]
        self.distance = max(self.distance, float(np.abs(ours - theirs).max()))
        self.scale = max(self.scale, float(np.abs(theirs).max()))
        return actions, levels

    def begin(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        self._policy.begin(slots, episodes)
        self._returns[slots], self._weights[slots] = 0.0, 1.0

    def earn(self, rewards: np.ndarray) -> None:
        self._policy.earn(rewards)
        self._returns += self._weights * rewards
        self._weights *= self._gamma

    def reset(self, slots: np.ndarray, steps_done: int = 0) -> None:
        self._policy.reset(slots, steps_done)
        self._team.reset(slots)

    def created(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        self._active = loop.active

    def stepped(
        self, loop: EpisodeLoop, actions: np.ndarray, step: BatchedStep
    ) -> None:
        self.steps += int(loop.active.sum())
        self.decisions += int(loop.active.sum()) * actions.shape[1]
        if self.steps >= self.limit:
            loop.stop()


def build(env: str, kind: str) -> TeamAlgorithm:
    """Builds an algorithm with random parameters, without Ray.

    Args:
        env: A key of ``ENVS``.
        kind: A key of ``KINDS``.

    Returns:
        The algorithm.
    """
    rllib_risk.register()
    name, keys = KINDS[kind]
    env_name, env_config = ENVS[env]
    config = config_class(name)().environment(env_name, env_config=env_config)
    config.env_runners(num_env_runners=0).evaluation(evaluation_num_env_runners=0)
    config.training(hidden_size=16, **keys).debugging(seed=0)
    algorithm = config.build_algo()
    network = algorithm.team_policy.network
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * 0.5)
    if keys.get("objective") == "static":
        network.objective.observe([-20.0, 5.0])
        network.objective.choose(-8.0)
    return algorithm


@one_thread()
def compare(algorithm: TeamAlgorithm, team: Team, steps: int, sampled: bool) -> _Both:
    """Plays episodes and compares both sides.

    Args:
        algorithm: Algorithm whose policy plays.
        team: The exported team of this algorithm, for 8 environments.
        steps: Minimum number of env steps.
        sampled: Whether actions are sampled; otherwise they are greedy.

    Returns:
        The player with its counts.
    """
    config = algorithm.config
    both = _Both(algorithm.team_policy, team, config.gamma, sampled)
    both.limit = steps
    context = EnvContext(config.env_config, worker_index=0)
    envs = make_batched_env(config, _NUM_ENVS, context)
    try:
        seeds, rng = np.arange(steps + _NUM_ENVS), np.random.default_rng(0)
        EpisodeLoop(envs, both, seeds, rng, limits_of(config), both).play()
    finally:
        envs.close()
    return both


def rows(env: str, kind: str, steps: int, file_format: str) -> list[tuple[str, _Both]]:
    """Compares one kind of network in an environment.

    Actions are greedy, and for stochastic policies also sampled.

    Args:
        env: A key of ``ENVS``.
        kind: A key of ``KINDS``.
        steps: Minimum number of env steps.
        file_format: Format of the artefact.

    Returns:
        Name and counts of each comparison.
    """
    algorithm = build(env, kind)
    with tempfile.TemporaryDirectory() as folder:
        export_team(algorithm, Path(folder), file_format)
        done = []
        for sampled in (False, True)[: 1 + algorithm.team_policy.stochastic]:
            team = Team.load(folder, _NUM_ENVS)
            name = f"{kind}, sampled" if sampled else kind
            done.append((name, compare(algorithm, team, steps, sampled)))
    algorithm.stop()
    return done


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--steps",
        type=int,
        default=10_000,
        help="minimum number of env steps per comparison (default 10000)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help=f"format of the artefact (default {FORMATS[0]})",
    )
    parser.add_argument(
        "--env",
        choices=ENVS,
        action="append",
        help="environment to play; may be repeated (default: all)",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        action="append",
        help="kind of network; may be repeated (default: all)",
    )
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # some compositions are unusual and warn
    print(
        "| env | network | steps | decisions | differing | utilities | gap |",
        flush=True,
    )
    print("|---|---|---|---|---|---|---|")
    for env in given.env or ENVS:
        for kind in given.kind or KINDS:
            for name, both in rows(env, kind, given.steps, given.format):
                print(
                    f"| {env} | {name} | {both.steps:,} | {both.decisions:,} |"
                    f" {both.differing} | {both.distance / both.scale:.1e} |"
                    f" {both.gap / both.scale:.1e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
