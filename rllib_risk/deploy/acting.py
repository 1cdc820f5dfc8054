"""Acting with an exported team, or with one agent of it.

Letters: ``E`` environments, ``N`` agents, ``R`` rows (``E * N``, or ``E`` of one
agent), ``A`` actions, ``D`` observation size, ``C`` size of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.deploy.artefact import Artefact
from rllib_risk.deploy.contract import masks, observations, padded, rows_of
from rllib_risk.deploy.errors import InputError


class _Rows:
    """Rows of agents, each with its memory: what a team and an agent have in common."""

    def __init__(self, artefact: Artefact, agents: np.ndarray) -> None:
        """Initializes the memories.

        Args:
            artefact: The exported team.
            agents: Number of each row's agent, int64 ``[R]``.
        """
        self._artefact = artefact
        self._agents = agents
        one = len(artefact.networks) == 1
        # Which rows each network decides for.
        self._parts: list[tuple[Any, Any]] = [
            (artefact.network_of(agent), slice(None) if one else agents == agent)
            for agent in (agents[:1].tolist() if one else np.unique(agents).tolist())
        ]
        self.memory = artefact.memory[agents]
        self.last_action = np.full(len(agents), artefact.first_action, np.int64)
        self.utilities = np.zeros((len(agents), artefact.contract.num_actions))
        self.levels = np.zeros(len(agents), np.float32)

    def reset(self, rows: Any) -> None:
        """New episodes begin in some rows."""
        self.memory[rows] = self._artefact.memory[self._agents[rows]]
        self.last_action[rows] = self._artefact.first_action

    def decide(
        self, obs: np.ndarray, mask: np.ndarray, returns: np.ndarray | None
    ) -> np.ndarray:
        """Greedy actions, int64 ``[R]``; the memories go on."""
        given = self._artefact.inputs(self._agents, self.memory, self.last_action)
        given |= {"obs": obs, "action_mask": mask}
        if returns is not None:
            given["return_so_far"] = returns
        if len(self._parts) == 1:
            out = self._parts[0][0](given)
            self.memory, self.utilities = out["next_memory"], out["utilities"]
            self.levels = out["risk_level"]
            return out["action"]
        actions, self.memory = np.zeros_like(self.last_action), self.memory.copy()
        self.utilities = np.empty(mask.shape, np.float32)
        for network, rows in self._parts:
            out = network({name: array[rows] for name, array in given.items()})
            actions[rows], self.memory[rows] = out["action"], out["next_memory"]
            self.utilities[rows], self.levels[rows] = (
                out["utilities"],
                out["risk_level"],
            )
        return actions

    def sample(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Actions drawn from the policy whose logits were computed last, ``[R]``."""
        logits, share = self.utilities, self._artefact.policy["epsilon"]
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
        softmax = shifted / shifted.sum(axis=-1, keepdims=True)
        weights = ((1.0 - share) * softmax + share / logits.shape[-1]) * mask
        # Of independent exponential clocks, the one of rate p rings first with
        # probability proportional to p.
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
        """Decides, and remembers what was decided; int64 ``[R]``."""
        actions = self.decide(obs, mask, returns)
        if rng is not None:
            actions = self.sample(mask, rng)
        self.last_action = actions.copy()
        return actions

    def returns_of(self, given: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        """The return so far, float64 of a shape, where the team sees it."""
        if not self._artefact.contract.needs_return:
            if given is not None:
                raise InputError(
                    "return_so_far: this team does not see it; leave it out."
                )
            return None
        if given is None:
            raise InputError(
                "return_so_far is missing: this team learned with objective: static and"
                " sees what the episode has earned. Give 0.0 at its beginning."
            )
        rows = rows_of(given, shape, "the episode", "return_so_far")
        return rows.astype(np.float64)

    def check_sampling(self, rng: np.random.Generator | None) -> None:
        """Refuses to sample from a team that has no probabilities."""
        if rng is not None and not self._artefact.stochastic:
            raise InputError(
                f"rng: {self._artefact.policy['algorithm']} learned values and no"
                " probabilities of actions; leave rng out to take the greedy action."
            )


class Team:
    """All agents of an exported team, in one or several environments at once.

    Attributes:
        artefact: What was loaded.
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
        """Reads an exported team; no code is run.

        Args:
            folder: That ``rllib export`` wrote.
            num_envs: Environments ``E`` to act in at once: all arrays then begin with
                this axis. None: one environment, without that axis.

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
        """Decides one step, and remembers it until :meth:`reset`.

        Args:
            obs: ``[N, D]``, or ``[E, N, D]``; shorter observations are padded with
                zeros. For one environment also a dict of each agent's own flat
                observation by name, as PettingZoo gives it.
            action_mask: 1 where an action is available, ``[N, A]`` or ``[E, N, A]``, or
                a dict as above. It may be left out where the environment of the
                training has no masks.
            return_so_far: What the episode has earned, discounted as in training: a
                number, or ``[E]``. For teams of ``objective: static`` alone.
            rng: Draws the actions of a stochastic policy (COMA, DOP, MAPPO, IPPO).
                None: the greedy actions.

        Returns:
            int64 ``[N]`` or ``[E, N]``; a dict of numbers if ``obs`` is a dict.

        Raises:
            InputError: If an input is missing or has another shape, or there is no
                action that an agent may take. Nothing is remembered then.
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
        """Says which actions were carried out, where those of :meth:`act` were not.

        Args:
            actions: ``[N]`` or ``[E, N]``.

        Raises:
            InputError: If there is another number of them, or no such action.
        """
        given = rows_of(actions, self._own.shape[:-1], "the team", "actions")
        if (
            given.dtype.kind not in "iu"
            or not ((given >= 0) & (given < self._own.sum(axis=-1))).all()
        ):
            raise InputError(f"actions: {given.tolist()} are no actions of the team.")
        self._rows.last_action = given.reshape(-1).astype(np.int64)

    def reset(self, envs: Any = None) -> None:
        """A new episode begins: everything about the one before is forgotten.

        Args:
            envs: Indices of environments, where there are several; None: all of them.
        """
        rows = np.arange(self._own[..., 0].size).reshape(-1, len(self.agents))
        self._rows.reset(rows.ravel() if envs is None else rows[envs].ravel())

    @property
    def utilities(self) -> np.ndarray:
        """Of all actions in the last step, ``-inf`` where unavailable.

        float32 ``[N, A]`` or ``[E, N, A]``. Logits, if the policy is stochastic.
        """
        return self._rows.utilities.reshape(self._own.shape)

    @property
    def risk_levels(self) -> np.ndarray:
        """That each agent acted at in the last step, ``[N]`` or ``[E, N]``."""
        return self._rows.levels.reshape(self._own.shape[:-1])

    def agent(self, name: str) -> Agent:
        """One agent, with a memory of its own.

        Args:
            name: Of the agent.

        Raises:
            InputError: If there is no such agent.
        """
        return Agent(self.artefact, name)

    def _arrays(self, obs: Mapping[str, Any], mask: Any) -> tuple[Any, Any]:
        """Observations and masks by name of the agent, padded to arrays."""
        contract = self.artefact.contract
        if self._lead:
            raise InputError("obs: a dict is for one environment; give an array.")
        parts = padded(obs, self.agents, "obs")
        rows = np.zeros((len(parts), contract.obs_size), np.float32)
        for row, agent, part in zip(rows, contract.agents, parts, strict=True):
            flat = observations(part, (agent.obs_size,), f"agent {agent.name!r}")
            row[: agent.obs_size] = flat
        if mask is None:
            return rows, None
        if not isinstance(mask, Mapping):
            raise InputError("action_mask: give a dict, as obs is one.")
        allowed = np.zeros(self._own.shape, bool)
        parts = padded(mask, self.agents, "action_mask")
        for row, agent, part in zip(allowed, contract.agents, parts, strict=True):
            own = np.ones(agent.num_actions, bool)
            row[: own.size] = masks(part, own, True, f"agent {agent.name!r}")
        return rows, allowed


class Agent:
    """One agent of an exported team, on a machine of its own.

    It acts on what it has seen and done itself, as in training, so that agents on
    several machines act as the team does.

    Attributes:
        contract: What it sees and does.
    """

    def __init__(self, artefact: Artefact | Path | str, name: str) -> None:
        """Initializes the agent at the beginning of an episode.

        Args:
            artefact: The folder that ``rllib export`` wrote.
            name: Of the agent.

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
        """Decides one step, and remembers it until :meth:`reset`.

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
        """Says which action was carried out, where that of :meth:`act` was not.

        Args:
            action: Its number.

        Raises:
            InputError: If there is no such action.
        """
        if not 0 <= action < self.contract.num_actions:
            raise InputError(
                f"agent {self.contract.name!r} has actions 0 to"
                f" {self.contract.num_actions - 1}, not {action}."
            )
        self._rows.last_action = np.array([action], np.int64)

    def reset(self) -> None:
        """A new episode begins: everything about the one before is forgotten."""
        self._rows.reset(slice(None))
