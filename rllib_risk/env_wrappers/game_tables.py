"""Tables of games with known rules, and copies of such games with given outcomes.

An env class offers its tables in two static methods, which take the arguments of the
class. `joint_mdp(**env_config) -> TabularMDP` gives the rules.
`joint_views(**env_config)` gives the agents' observations in every state, float32
[S, N, D].

Letters: `S` states, `E` copies, `N` agents, `A` actions, `D` observation size, `K`
outcomes, `T` steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.batched_env import BatchedStep, BatchedTeamEnv
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.observation_noise import check_std
from rllib_risk.env_wrappers.registry import ENVS, make_team_env, resolve
from rllib_risk.ops.robust_mdp import TabularMDP

# Keys of the adapter that do not change the tables.
_HARMLESS = ("time_limit_is_terminal", "state", "action_mask_key", "obs_noise_std")


@dataclass(frozen=True)
class GameTables:
    """A game with exactly known rules.

    Attributes:
        mdp: Rules over joint actions, numbered in C order: the last agent's action
            changes fastest.
        views: Observations of the agents in every state, float32 [S, N, D].
        num_actions: Number of actions of each agent.
        spec: Sizes of the team.
        step_limit: Steps after which an episode ends.
    """

    mdp: TabularMDP
    views: np.ndarray
    num_actions: tuple[int, ...]
    spec: TeamSpec
    step_limit: int

    def joint(self, actions: np.ndarray) -> np.ndarray:
        """Numbers of joint actions, int64 [E], from the agents' actions [E, N]."""
        return np.ravel_multi_index(tuple(actions.T), self.num_actions).astype(np.int64)

    def is_same_game(self, other: GameTables) -> bool:
        """Whether both have the same rules; the observations may differ."""
        mine, theirs = self.mdp, other.mdp
        pairs = (
            (mine.next_states, theirs.next_states),
            (mine.probabilities, theirs.probabilities),
            (mine.rewards, theirs.rewards),
            (mine.terminals, theirs.terminals),
        )
        start = (mine.start, self.step_limit, self.num_actions)
        return start == (theirs.start, other.step_limit, other.num_actions) and all(
            np.array_equal(a, b) for a, b in pairs
        )


def envs_with_tables() -> list[str]:
    """The names of this package's envs that offer tables."""
    return [
        name
        for name, entry in ENVS.items()
        if entry.factory and hasattr(resolve(name, {})[0], "joint_views")
    ]


def tables_of(name: str, env_config: Mapping[str, Any] | None = None) -> GameTables:
    """The tables of an env.

    Args:
        name: A key of `registry.ENVS`.
        env_config: Arguments of the env and keys of the adapter.

    Returns:
        The tables.

    Raises:
        EnvConfigError: If a key or a value is wrong, or the env has no tables.
    """
    factory, kwargs, adapter = resolve(name, env_config)
    if not hasattr(factory, "joint_views"):
        raise EnvConfigError(
            f"env '{name}' has no tables of its rules. Envs with tables:"
            f" {', '.join(envs_with_tables())}"
        )
    if check_std(adapter.get("obs_noise_std", 0.0)).any():
        raise EnvConfigError("tables hold no observation noise: set obs_noise_std to 0")
    for key in adapter:
        if key not in _HARMLESS:
            raise EnvConfigError(
                f"env_config.{key} cannot be used with tables of an env: remove it"
            )
    env = make_team_env(name, env_config)
    try:
        game = env.parallel_env
        num_actions = tuple(
            int(game.action_space(agent).n) for agent in game.possible_agents
        )
        spec = env.spec_team
    finally:
        env.close()
    if spec.episode_limit is None:
        raise EnvConfigError(
            f"env '{name}' has tables, but no time limit: give it the attribute"
            " episode_limit"
        )
    return GameTables(
        mdp=factory.joint_mdp(**kwargs),  # type: ignore[attr-defined]
        views=factory.joint_views(**kwargs),
        num_actions=num_actions,
        spec=TeamSpec(spec.agents, spec.num_actions, spec.obs_size, 0, None),
        step_limit=spec.episode_limit,
    )


class ForcedEnvs(BatchedTeamEnv):
    """E copies of a game from tables, with given random outcomes.

    There is no global state, since policies act without it.
    """

    def __init__(self, tables: GameTables, outcomes: np.ndarray) -> None:
        """Puts every copy into the start state.

        Args:
            tables: The game.
            outcomes: Outcome of each step of each copy, int64 [E, T]. Steps after the
                first T have outcome 0.
        """
        super().__init__(len(outcomes), tables.spec)
        self._tables = tables
        self._outcomes = np.pad(outcomes, ((0, 0), (0, 1)))
        self._states = np.full(self.num_envs, tables.mdp.start)
        self._steps = np.zeros(self.num_envs, np.int64)
        for agent, available in enumerate(tables.num_actions):
            self.action_mask[:, agent, available:] = 0
        self.obs[:] = tables.views[self._states]

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some copies; see the base class."""
        self._states[slots] = self._tables.mdp.start
        self._steps[slots] = 0
        self.obs[slots] = self._tables.views[self._states[slots]]

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active copy; see the base class."""
        mdp = self._tables.mdp
        last = self._outcomes.shape[1] - 1
        outcomes = self._outcomes[
            np.arange(self.num_envs), np.minimum(self._steps, last)
        ]
        at = (self._states, self._tables.joint(actions), outcomes)
        self._states = np.where(active, mdp.next_states[at], self._states)
        self._steps += active
        terminateds = mdp.terminals[at] & active
        truncateds = (self._steps >= self._tables.step_limit) & active & ~terminateds
        self.obs[:] = self._tables.views[self._states]
        return BatchedStep(
            rewards=(mdp.rewards[at] * active).astype(np.float32),
            terminateds=terminateds,
            truncateds=truncateds,
            infos=[{} for _ in range(self.num_envs)],
        )
