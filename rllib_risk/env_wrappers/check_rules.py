"""The single checks behind `check_env`, on the bare PettingZoo env."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.spaces import ActionDecoder, ObsEncoder

MAX_EPISODE_STEPS = 10_000

_SAME_SEED_STEPS = 200


@dataclass
class Findings:
    """Collects findings, each kind once.

    Attributes:
        items: Pairs of level and message.
    """

    items: list[tuple[str, str]] = field(default_factory=list)
    _kinds: set[str] = field(default_factory=set)

    def add(self, level: str, message: str, kind: str | None = None) -> None:
        """Adds a finding unless one of its kind is there already.

        Args:
            level: "ok", "warn" or "error".
            message: What it is and how to mend it.
            kind: What makes two findings the same, for messages that hold numbers;
                the message itself if None.
        """
        kind = message if kind is None else kind
        if kind not in self._kinds:
            self._kinds.add(kind)
            self.items.append((level, message))

    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(level == "error" for level, _ in self.items)


@dataclass
class Episode:
    """What one random episode showed.

    Attributes:
        steps: Steps played.
        ended: Whether it came to an end within the allowed steps.
        rewards_differ: Whether two agents ever got different rewards in a step.
        trace: Everything the env returned, for comparing two episodes.
    """

    steps: int = 0
    ended: bool = False
    rewards_differ: bool = False
    trace: list[Any] = field(default_factory=list)


def check_spaces(
    env: Any, agents: list[Any], box_bins: int | None, findings: Findings
) -> bool:
    """Checks the spaces of every agent.

    Args:
        env: A PettingZoo ParallelEnv.
        agents: Its possible agents.
        box_bins: Bins per Box dimension, if configured.
        findings: Where the errors go.

    Returns:
        Whether all spaces can be used.
    """
    usable = True
    for agent in agents:
        for check in (
            lambda agent: ObsEncoder(str(agent), env.observation_space(agent)),
            lambda agent: ActionDecoder(str(agent), env.action_space(agent), box_bins),
        ):
            try:
                check(agent)
            except EnvConfigError as error:
                findings.add("error", str(error))
                usable = False
        same = env.observation_space(agent) is env.observation_space(
            agent
        ) and env.action_space(agent) is env.action_space(agent)
        if usable and not same:
            findings.add(
                "warn",
                "observation_space(agent) or action_space(agent) builds a new space "
                "at every call: return the same object, or seeding it has no effect",
            )
    if usable:
        findings.add("ok", f"{len(agents)} agents with usable spaces")
    return usable


def play_episode(
    env: Any,
    agents: list[Any],
    box_bins: int | None,
    rng: np.random.Generator,
    seed: int,
    max_steps: int,
    findings: Findings,
) -> Episode:
    """Plays random legal actions and checks every row; stops at the first error.

    Args:
        env: A PettingZoo ParallelEnv.
        agents: Its possible agents.
        box_bins: Bins per Box dimension, if configured.
        rng: Chooses the actions.
        seed: Seed of the episode.
        max_steps: Steps to play at most.
        findings: Where errors and warnings go.

    Returns:
        What happened.
    """
    episode = Episode()
    decoders = {a: ActionDecoder(str(a), env.action_space(a), box_bins) for a in agents}
    first = env.reset(seed=seed)
    if not (isinstance(first, tuple) and len(first) == 2):
        findings.add("error", "reset() must return the pair (observations, infos)")
        return episode
    obs, infos = first
    living = list(env.agents)
    finished: set[Any] = set()
    if not living:
        findings.add("error", "no agent is alive after reset(): set self.agents in it")
        return episode
    episode.trace.append((obs, infos))
    while True:
        _check_members(living, agents, findings)
        masks = {a: _check_row(env, a, obs, infos, findings) for a in living}
        if findings.has_errors() or episode.steps >= max_steps:
            return episode
        actions = {}
        for agent in living:
            legal = _legal(masks[agent], decoders[agent].num_actions, agent, findings)
            if legal.size:
                actions[agent] = decoders[agent](int(rng.choice(legal)))
        if findings.has_errors():
            return episode
        row = env.step(actions)
        if not (isinstance(row, tuple) and len(row) == 5):
            findings.add(
                "error",
                "step() must return (observations, rewards, terminations, "
                "truncations, infos)",
            )
            return episode
        obs, rewards, terminations, truncations, infos = row
        episode.trace.append(row)
        episode.steps += 1
        episode.rewards_differ |= _check_rewards(living, rewards, findings)
        finished |= _check_flags(env, living, terminations, truncations, findings)
        living = [agent for agent in env.agents if agent not in finished]
        if not living:
            episode.ended = True
            return episode


def same_episode(
    build: Callable[[], Any], agents: list[Any], box_bins: int | None, seed: int
) -> bool:
    """Whether two fresh envs with one seed and the same actions agree in every row.

    Args:
        build: Builds the env.
        agents: Its possible agents.
        box_bins: Bins per Box dimension, if configured.
        seed: Seed of both episodes.

    Returns:
        True if they do.
    """
    traces = []
    for _ in range(2):
        env = build()
        try:
            rng = np.random.default_rng(seed)
            traces.append(
                play_episode(
                    env, agents, box_bins, rng, seed, _SAME_SEED_STEPS, Findings()
                ).trace
            )
        finally:
            env.close()
    return _equal(traces[0], traces[1])


def _check_members(living: list[Any], agents: list[Any], findings: Findings) -> None:
    for agent in living:
        if agent not in agents:
            findings.add(
                "error",
                f"agent '{agent}' is in agents but not in possible_agents: list every "
                "agent that can appear there",
            )


def _check_row(
    env: Any, agent: Any, obs: Any, infos: Any, findings: Findings
) -> np.ndarray | None:
    """Checks one agent's observation; returns its action mask, if there is one."""
    if agent not in obs:
        findings.add("error", f"agent '{agent}' is alive but got no observation")
        return None
    space = env.observation_space(agent)
    value = obs[agent]
    if not space.contains(value):
        _check_outside(agent, space, value, findings)
    numbers = value
    mask = None
    if isinstance(value, dict):
        mask = value.get("action_mask")
        numbers = value.get("observation", 0.0)
    if mask is None:
        mask = (infos.get(agent) or {}).get("action_mask")
    if isinstance(numbers, np.ndarray) and not np.isfinite(numbers).all():
        findings.add(
            "error",
            f"the observation of agent '{agent}' holds NaN or infinity: mend the env, "
            "a network cannot learn from it",
        )
    return mask


def _check_outside(
    agent: Any, space: spaces.Space, value: Any, findings: Findings
) -> None:
    """Says in which way an observation is not in its space."""
    if isinstance(space, spaces.Box):
        array = np.asarray(value)
        if array.size != int(np.prod(space.shape)):
            findings.add(
                "error",
                f"agent '{agent}' returned an observation of shape {array.shape}, its "
                f"space says {space.shape}: make them agree",
            )
            return
        if array.dtype != space.dtype:
            findings.add(
                "warn",
                f"the observation of agent '{agent}' has dtype {array.dtype}, its "
                f"space {space.dtype}: it is cast to float32, nothing need be done",
            )
        inside = (array.reshape(space.shape) >= space.low) & (
            array.reshape(space.shape) <= space.high
        )
        if not inside.all() and np.isfinite(array).all():
            findings.add(
                "warn",
                f"an observation of agent '{agent}' lies outside its space (values "
                f"{array.min():g} to {array.max():g}): widen low and high of the Box",
                kind=f"outside {agent}",
            )
        return
    findings.add(
        "warn",
        f"an observation of agent '{agent}' is not in its space {space}: make "
        "observation_space(agent) describe what reset() and step() return",
    )


def _legal(mask: Any, num_actions: int, agent: Any, findings: Findings) -> np.ndarray:
    """Numbers of the legal actions; errors go to `findings`."""
    if mask is None:
        return np.arange(num_actions)
    flags = np.asarray(mask).reshape(-1)
    if flags.shape != (num_actions,):
        findings.add(
            "error",
            f"the action_mask of agent '{agent}' has {flags.size} entries for "
            f"{num_actions} actions: give one entry per action",
        )
        return np.arange(0)
    legal = np.flatnonzero(flags)
    if not legal.size:
        findings.add(
            "error",
            f"the action_mask of agent '{agent}' allows no action: keep at least one "
            "legal (a no-op) while the agent is alive",
        )
    return legal


def _check_rewards(living: list[Any], rewards: Any, findings: Findings) -> bool:
    """Checks the rewards of one step; returns whether they differ."""
    missing = [agent for agent in living if agent not in rewards]
    if missing:
        findings.add("warn", f"agent '{missing[0]}' is alive but got no reward")
    values = np.array([rewards[a] for a in living if a in rewards], dtype=np.float64)
    if not np.isfinite(values).all():
        findings.add("error", "a reward is NaN or infinite: mend the env")
        return False
    return bool(values.size and np.ptp(values) > 1e-6)


def _check_flags(
    env: Any,
    living: list[Any],
    terminations: Any,
    truncations: Any,
    findings: Findings,
) -> set[Any]:
    """Checks the end flags of one step; returns the agents that are finished."""
    finished = set()
    for agent in living:
        if agent not in terminations or agent not in truncations:
            findings.add(
                "warn",
                f"agent '{agent}' got no termination or truncation flag: return both "
                "for every agent that acted",
            )
        done = bool(terminations.get(agent, False) or truncations.get(agent, False))
        if done and agent in env.agents:
            findings.add(
                "warn",
                f"done flags inconsistent: agent '{agent}' ended but is still in "
                "agents; remove it there (the adapter treats it as dead)",
            )
        if not done and agent not in env.agents:
            findings.add(
                "warn",
                f"agent '{agent}' vanished from agents without a termination or "
                "truncation flag: set one (the adapter treats it as dead, and as "
                "truncated if the episode ends there)",
            )
        if done or agent not in env.agents:
            finished.add(agent)
    return finished


def _equal(one: Any, two: Any) -> bool:
    """Whether two nested results hold the same numbers."""
    if isinstance(one, dict):
        return (
            isinstance(two, dict)
            and one.keys() == two.keys()
            and all(_equal(one[key], two[key]) for key in one)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(
            _equal(a, b) for a, b in zip(one, two, strict=True)
        )
    if isinstance(one, np.ndarray | np.generic | int | float):
        return bool(np.array_equal(np.asarray(one), np.asarray(two), equal_nan=False))
    return bool(one == two)
