"""Players: a trained policy, greedy or exploring, or a scripted policy.

Letters: ``E`` environments, ``N`` agents, ``A`` actions, ``D`` observation size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rllib_risk.core.policy import TeamPolicy
from rllib_risk.env_wrappers.episode_loop import Player
from rllib_risk.env_wrappers.scripted import ScriptedPolicy
from rllib_risk.parts.exploration import Explorer, random_available

# Returns the epsilon of each environment, [E], after a number of env steps of a round.
Epsilons = Callable[[int], np.ndarray]


class PolicyPlayer(Player):
    """Plays a trained policy with its current weights; see :meth:`refresh`."""

    def __init__(
        self,
        policy: TeamPolicy,
        num_envs: int,
        explorer: Explorer | None = None,
        epsilons: Epsilons | None = None,
        rng: np.random.Generator | None = None,
        thresholds: np.ndarray | None = None,
    ) -> None:
        """Initializes the player.

        Args:
            policy: The policy.
            num_envs: ``E``.
            explorer: Chooses actions by their utilities. None: greedy actions.
            epsilons: Epsilons of the explorer. An episode keeps its first epsilon.
            rng: Random generator of the explorer.
            thresholds: Thresholds of the episodes by their index, for an objective with
                thresholds. None: the chosen threshold for all episodes.
        """
        self._actor = policy.make_actor(num_envs)
        self._returns = policy.watch_returns(num_envs, thresholds)
        self._levels = np.array(policy.network.risk.levels, np.float32)
        self._exploration = None
        if explorer is not None and epsilons is not None and rng is not None:
            self._exploration = explorer, epsilons, rng
            self._epsilon = np.array(epsilons(0), np.float64)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """See :meth:`Player.act`."""
        if self._returns is not None:
            obs = self._returns.beside(obs)
        utilities, level_index = self._actor.act(obs, action_mask)
        if self._exploration is None:
            actions = utilities.argmax(axis=-1)
        else:
            explorer, _, rng = self._exploration
            actions = explorer.explore(utilities, action_mask, self._epsilon, rng)
        self._actor.remember(actions)
        levels = self._levels[0 if level_index is None else level_index]
        return actions, levels

    def begin(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        """See :meth:`Player.begin`."""
        if self._returns is not None:
            self._returns.begin(slots, episodes)

    def earn(self, rewards: np.ndarray) -> None:
        """See :meth:`Player.earn`."""
        if self._returns is not None:
            self._returns.earn(rewards)

    def refresh(self) -> None:
        """Uses weights that have changed while episodes are running."""
        self._actor.refresh()

    def reset(self, slots: np.ndarray, steps_done: int = 0) -> None:
        """See :meth:`Player.reset`. Only exploration uses ``steps_done``."""
        self._actor.reset(slots)
        if self._exploration is not None:
            explorer, epsilons, _ = self._exploration
            explorer.reset(slots)
            self._epsilon[slots] = epsilons(steps_done)[slots]


class ScriptedPlayer(Player):
    """Plays scripted policies, each in a group of consecutive environments."""

    def __init__(
        self,
        policies: Sequence[ScriptedPolicy],
        ends: np.ndarray,
        rng: np.random.Generator,
        epsilon: float = 0.0,
    ) -> None:
        """Initializes the player.

        Args:
            policies: One or more policies.
            ends: End index of the environments of each policy except the last one, int.
            rng: Random generator of the policies and of random actions.
            epsilon: Probability of a random available action, per agent and step.
        """
        self._epsilon = epsilon
        self._policies = policies
        self._ends = ends
        self._rng = rng

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """See :meth:`Player.act`."""
        rows = zip(
            self._policies,
            np.split(obs, self._ends),
            np.split(action_mask, self._ends),
            strict=True,
        )
        actions = np.concatenate([p.act(o, m, self._rng) for p, o, m in rows])
        if self._epsilon > 0.0:
            explores = self._rng.random(actions.shape) < self._epsilon
            random = random_available(action_mask, self._rng)
            actions = np.where(explores, random, actions)
        return actions, 1.0

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        """Does nothing: scripted policies have no memory."""
