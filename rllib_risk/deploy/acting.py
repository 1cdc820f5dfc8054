"""Acting with an exported team, or with one agent of it.

Letters: ``E`` environments, ``N`` agents, ``R`` rows (``E * N`` of a team, 1 of an
agent), ``A`` actions, ``D`` observation size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.deploy.artefact import Artefact
from rllib_risk.deploy.contract import (
    finite_rows,
    masks,
    observations,
    padded,
    rows_of,
)
from rllib_risk.deploy.errors import InputError


class _Rows:
    """Rows of agents, each with its memory; the common part of Team and Agent."""

    def __init__(self, artefact: Artefact, agents: np.ndarray) -> None:
        """Initializes the memories.

        Args:
            artefact: The exported team.
            agents: Index of each row's agent, int64 ``[R]``.
        """
        self._artefact = artefact
        self._agents = agents
        one = len(artefact.networks) == 1
        # Pairs of a network and the rows for which it chooses actions.
        self._parts: list[tuple[Any, Any]] = [
            (artefact.network_of(agent), slice(None) if one else agents == agent)
            for agent in (agents[:1].tolist() if one else np.unique(agents).tolist())
        ]
        self.memory = artefact.memory[agents]
        self.last_action = np.full(len(agents), artefact.first_action, np.int64)
        self.utilities = np.zeros((len(agents), artefact.contract.num_actions))
        self.levels = np.zeros(len(agents), np.float32)

    def reset(self, rows: Any) -> None:
        """Resets the memories of some rows, for new episodes."""
        self.memory[rows] = self._artefact.memory[self._agents[rows]]
        self.last_action[rows] = self._artefact.first_action

    def decide(
        self, obs: np.ndarray, mask: np.ndarray, returns: np.ndarray | None
    ) -> np.ndarray:
        """Chooses greedy actions, int64 ``[R]``, and updates the memories.

        Raises:
            InputError: If the utilities are not finite. The memories do not change.
        """
        given = self._artefact.inputs(self._agents, self.memory, self.last_action)
        given |= {"obs": obs, "action_mask": mask}
        if returns is not None:
            given["return_so_far"] = returns
        with np.errstate(over="ignore", invalid="ignore"):
            out = self._outputs(given)
        # The maximum of utilities with a NaN is NaN.
        if not np.isfinite(out["utilities"].max(axis=-1)).all():
            raise InputError(
                "The team's networks overflow: their utilities are infinite or NaN."
                " Give obs and return_so_far in the units of the training."
            )
        self.memory, self.utilities = out["next_memory"], out["utilities"]
        self.levels = out["risk_level"]
        return out["action"]

    def _outputs(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs each network on its rows; returns the outputs of all rows."""
        if len(self._parts) == 1:
            return self._parts[0][0](given)
        found = [
            (rows, network({name: array[rows] for name, array in given.items()}))
            for network, rows in self._parts
        ]
        whole = {
            name: np.empty((len(self._agents), *array.shape[1:]), array.dtype)
            for name, array in found[0][1].items()
        }
        for rows, outputs in found:
            for name, array in outputs.items():
                whole[name][rows] = array
        return whole

    def sample(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws actions ``[R]`` from the policy of the last logits."""
        logits, share = self.utilities, self._artefact.policy["epsilon"]
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        softmax = shifted / shifted.sum(axis=-1, keepdims=True)
        weights = ((1.0 - share) * softmax + share / logits.shape[-1]) * mask
        # Exponential race: among independent exponential times with rates p, that of an
        # action is the smallest with a probability proportional to its p.
        rings = np.full(weights.shape, np.inf)
        clocks = rng.standard_exponential(weights.shape)
        np.divide(clocks, weights, out=rings, where=weights > 0.0)
        return rings.argmin(axis=-1)

    def act(
        self,
        obs: np.ndarray,
        mask: np.ndarray,
        returns: np.ndarray | None,
        rng: np.random.Generator | None,
    ) -> np.ndarray:
        """Chooses actions and stores them as the last actions; int64 ``[R]``."""
        actions = self.decide(obs, mask, returns)
        if rng is not None:
            actions = self.sample(mask, rng)
        self.last_action = actions.copy()
        return actions

    def returns_of(self, given: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        """Checks the return so far; float64, or None if the team does not use it."""
        if not self._artefact.contract.needs_return:
            if given is not None:
                raise InputError(
                    "return_so_far: this team does not use it. Leave it out."
                )
            return None
        if given is None:
            raise InputError(
                "return_so_far is missing: this team learned with objective: static, so"
                " its actions depend on it. Give the sum of the episode's rewards up to"
                " this step, discounted as in training; 0.0 at the beginning."
            )
        given = finite_rows(given, shape, "the episode", "return_so_far")
        return given.astype(np.float64)

    def check_sampling(self, rng: np.random.Generator | None) -> None:
        """Raises if actions cannot be sampled because the team learned values."""
        if rng is not None and not self._artefact.stochastic:
            raise InputError(
                f"rng: {self._artefact.policy['algorithm']} learned values, not"
                " probabilities of actions. Leave rng out to get the greedy actions."
            )


class Team:
    """All agents of an exported team, in one or several environments at once.

    Attributes:
        artefact: The exported team.
        agents: Names of the agents, in the order of all arrays.
    """

    def __init__(self, artefact: Artefact, num_envs: int | None = None) -> None:
        """Initializes the team at the beginning of an episode; see :meth:`load`."""
        n = len(artefact.contract.agents)
        self.artefact = artefact
        self.agents = artefact.contract.names
        self._lead: tuple[int, ...] = () if num_envs is None else (num_envs,)
        envs = 1 if num_envs is None else num_envs
        self._rows = _Rows(artefact, np.tile(np.arange(n), envs))
        self._own = np.tile(artefact.contract.own_actions(), (*self._lead, 1, 1))
        self._own = self._own.reshape(*self._lead, n, -1)

    @classmethod
    def load(cls, folder: Path | str, num_envs: int | None = None) -> Team:
        """Reads an exported team; no code of the artefact is run.

        Args:
            folder: The folder that ``rllib export`` wrote.
            num_envs: Number of environments ``E`` to act in at once; all arrays then
                begin with this axis. None: one environment, without this axis.

        Returns:
            The team at the beginning of an episode.

        Raises:
            ArtefactError: If the folder is missing, damaged, or of a later version.
        """
        return cls(Artefact.load(folder), num_envs)

    def act(
        self,
        obs: Any,
        action_mask: Any = None,
        *,
        return_so_far: Any = None,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Chooses the actions of one step, and updates the memory.

        Args:
            obs: Observations, ``[N, D]`` or ``[E, N, D]``; shorter observations are
                padded with zeros. For one environment also a dict of each agent's own
                flat observation by name, as in PettingZoo.
            action_mask: 1 where an action is available, ``[N, A]`` or ``[E, N, A]``, or
                a dict as above. Optional if ``contract.needs_mask`` is False.
            return_so_far: Sum of the episode's rewards up to this step, discounted as
                in training: a number, or ``[E]``. Only for teams of ``objective:
                static``.
            rng: Draws the actions of a stochastic policy (COMA, DOP, MAPPO, IPPO).
                None: the greedy actions.

        Returns:
            Actions, int64 ``[N]`` or ``[E, N]``; a dict of numbers if ``obs`` is a
            dict.

        Raises:
            InputError: If an input is missing, has another shape or holds numbers with
                which the networks cannot compute, or an agent has no available action.
                The memory does not change then.
        """
        named = isinstance(obs, Mapping)
        if named:
            obs, action_mask = self._arrays(obs, action_mask)
        contract, rows = self.artefact.contract, self._rows
        n = len(self.agents)
        whose = f"the team of {n} agents"
        obs = observations(obs, (*self._lead, n, contract.obs_size), whose)
        mask = masks(action_mask, self._own, contract.needs_mask, whose)
        returns = rows.returns_of(return_so_far, self._lead)
        rows.check_sampling(rng)
        actions = rows.act(
            obs.reshape(-1, obs.shape[-1]),
            mask.reshape(-1, mask.shape[-1]),
            None if returns is None else np.repeat(returns, n),
            rng,
        )
        if named:
            return dict(zip(self.agents, actions.tolist(), strict=True))
        return actions.reshape(*self._lead, n)

    def remember(self, actions: Any) -> None:
        """Stores the executed actions, if they differ from those of :meth:`act`.

        Args:
            actions: The executed actions, ``[N]`` or ``[E, N]``.

        Raises:
            InputError: If the shape is wrong or an action does not exist.
        """
        given = rows_of(actions, self._own.shape[:-1], "the team", "actions")
        if (
            given.dtype.kind not in "iu"
            or not ((given >= 0) & (given < self._own.sum(axis=-1))).all()
        ):
            raise InputError(
                f"actions: {given.tolist()} are not actions of the team. Give one"
                " integer per agent, at least 0 and below its num_actions."
            )
        self._rows.last_action = given.reshape(-1).astype(np.int64)

    def reset(self, envs: Any = None) -> None:
        """Starts a new episode: resets the memory.

        Args:
            envs: Indices of environments, if there are several; None: all of them.
        """
        rows = np.arange(self._own[..., 0].size).reshape(-1, len(self.agents))
        self._rows.reset(rows.ravel() if envs is None else rows[envs].ravel())

    @property
    def utilities(self) -> np.ndarray:
        """Utilities of all actions in the last step, ``-inf`` where unavailable.

        float32 ``[N, A]`` or ``[E, N, A]``; logits if the policy is stochastic.
        """
        return self._rows.utilities.reshape(self._own.shape)

    @property
    def risk_levels(self) -> np.ndarray:
        """Risk levels of the agents in the last step, ``[N]`` or ``[E, N]``."""
        return self._rows.levels.reshape(self._own.shape[:-1])

    def agent(self, name: str) -> Agent:
        """Creates one agent, with its own memory.

        Args:
            name: Name of the agent.

        Raises:
            InputError: If there is no such agent.
        """
        return Agent(self.artefact, name)

    def _arrays(self, obs: Mapping[str, Any], mask: Any) -> tuple[Any, Any]:
        """Pads observations and masks, given by name of the agent, to arrays."""
        contract = self.artefact.contract
        if self._lead:
            raise InputError(
                "obs: a dict is for one environment, but the team acts in several."
                " Give an array."
            )
        parts = padded(obs, self.agents, "obs")
        rows = np.zeros((len(parts), contract.obs_size), np.float32)
        for row, agent, part in zip(rows, contract.agents, parts, strict=True):
            flat = observations(part, (agent.obs_size,), f"agent {agent.name!r}")
            row[: agent.obs_size] = flat
        if mask is None:
            return rows, None
        if not isinstance(mask, Mapping):
            raise InputError("action_mask: obs is a dict, so give a dict here too.")
        allowed = np.zeros(self._own.shape, bool)
        parts = padded(mask, self.agents, "action_mask")
        for row, agent, part in zip(allowed, contract.agents, parts, strict=True):
            own = np.ones(agent.num_actions, bool)
            row[: own.size] = masks(part, own, True, f"agent {agent.name!r}")
        return rows, allowed


class Agent:
    """One agent of an exported team, for example on its own machine.

    It acts on its own observations and actions only, as in training. So agents on
    several machines act as the team does.

    Attributes:
        contract: Its observation and actions.
    """

    def __init__(self, artefact: Artefact | Path | str, name: str) -> None:
        """Initializes the agent at the beginning of an episode.

        Args:
            artefact: The exported team, or the folder that ``rllib export`` wrote.
            name: Name of the agent.

        Raises:
            ArtefactError: If the folder is missing, damaged, or of a later version.
            InputError: If there is no such agent.
        """
        if not isinstance(artefact, Artefact):
            artefact = Artefact.load(artefact)
        names = artefact.contract.names
        if name not in names:
            raise InputError(f"There is no agent {name!r}; known: {', '.join(names)}.")
        index = names.index(name)
        self.contract = artefact.contract.agents[index]
        self._team = artefact.contract
        self._rows = _Rows(artefact, np.array([index], np.int64))

    def act(
        self,
        obs: Any,
        mask: Any = None,
        *,
        return_so_far: float | None = None,
        rng: np.random.Generator | None = None,
    ) -> int:
        """Chooses the action of one step, and updates the memory.

        Args:
            obs: The agent's own flat observation, ``[obs_size]``.
            mask: 1 where an action is available, ``[num_actions]``; see
                :meth:`Team.act`.
            return_so_far: See :meth:`Team.act`.
            rng: See :meth:`Team.act`.

        Returns:
            The action.

        Raises:
            InputError: See :meth:`Team.act`.
        """
        own, whose = self.contract, f"agent {self.contract.name!r}"
        row = np.zeros((1, self._team.obs_size), np.float32)
        row[0, : own.obs_size] = observations(obs, (own.obs_size,), whose)
        available = np.zeros((1, self._team.num_actions), bool)
        available[0, : own.num_actions] = masks(
            mask, np.ones(own.num_actions, bool), self._team.needs_mask, whose
        )
        returns = self._rows.returns_of(return_so_far, ())
        self._rows.check_sampling(rng)
        if returns is not None:
            returns = returns.reshape(1)
        return int(self._rows.act(row, available, returns, rng)[0])

    def remember(self, action: int) -> None:
        """Stores the executed action, if it differs from that of :meth:`act`.

        Args:
            action: Number of the executed action.

        Raises:
            InputError: If the action does not exist.
        """
        whose = f"agent {self.contract.name!r}"
        given = rows_of(action, (), whose, "action")
        if given.dtype.kind not in "iu" or not 0 <= given < self.contract.num_actions:
            raise InputError(
                f"{whose} has actions 0 to {self.contract.num_actions - 1}, not"
                f" {action}."
            )
        self._rows.last_action = given.reshape(1).astype(np.int64)

    def reset(self) -> None:
        """Starts a new episode: resets the memory."""
        self._rows.reset(slice(None))
