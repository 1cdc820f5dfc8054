"""Tells a user in plain words what is wrong with an env before anything is trained.

`check_env` builds the env, plays random legal steps and reports what it found, each
finding with its fix. It never raises because of the env.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.check_rules import (
    MAX_EPISODE_STEPS,
    Episode,
    Findings,
    check_spaces,
    play_episode,
    same_episode,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.parallel_env import agent_ids
from rllib_risk.env_wrappers.registry import (
    ENVS,
    PETTINGZOO,
    build_parallel_env,
    resolve,
)
from rllib_risk.env_wrappers.team_env import TeamEnv

# Whichever comes first ends the random play, but never before one whole episode.
MAX_STEPS = 1000
MAX_EPISODES = 20

_SEED = 0


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: "ok", "warn" (works, but look at it) or "error" (cannot be trained).
        message: What it is and how to mend it.
    """

    level: str
    message: str


@dataclass
class CheckReport:
    """The result of `check_env`.

    Attributes:
        env: What was checked.
        findings: What was found, in the order of the checks.
        summary: Sizes and measured facts; empty if the env could not be built.
    """

    env: str
    findings: list[Finding] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return all(finding.level != "error" for finding in self.findings)

    def __str__(self) -> str:
        """The report as lines of text."""
        lines = [f"env: {self.env}"]
        lines += [f"  {key}: {value}" for key, value in self.summary.items()]
        lines += [f"[{item.level}] {item.message}" for item in self.findings]
        lines.append("usable" if self.ok else "not usable: mend the errors above")
        return "\n".join(lines)


def check_env(
    name_or_factory: str, env_config: Mapping[str, Any] | None = None
) -> CheckReport:
    """Checks an env by playing random legal actions in it.

    Args:
        name_or_factory: A registered name, or "pkg.module:callable" that returns a
            PettingZoo ParallelEnv.
        env_config: As in `make_team_env`; for a factory the keys of env `pettingzoo`
            without `factory`.

    Returns:
        The report; a broken env gives a finding of level "error", never an exception.
    """
    report = CheckReport(name_or_factory)
    findings = Findings()
    with warnings.catch_warnings():  # the findings say it better
        warnings.simplefilter("ignore")
        try:
            name, config = _as_registered(name_or_factory, env_config)
            factory, kwargs, adapter = resolve(name, config)
            _check(
                lambda: build_parallel_env(factory, kwargs), adapter, report, findings
            )
        except EnvConfigError as error:
            findings.add("error", str(error))
        except Exception as error:  # whatever else the env raises is its own fault
            where = traceback.extract_tb(error.__traceback__)[-1]
            findings.add(
                "error",
                f"the env raised {type(error).__name__}: {error} "
                f"({where.filename}, line {where.lineno}, in {where.name})",
            )
    report.findings = [Finding(level, text) for level, text in findings.items]
    return report


def _as_registered(
    name_or_factory: str, env_config: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Turns a bare factory into env `pettingzoo` with that factory."""
    config = dict(env_config or {})
    if name_or_factory in ENVS or ":" not in name_or_factory:
        return name_or_factory, config
    return PETTINGZOO, {"factory": name_or_factory, **config}


def _check(
    build: Callable[[], Any],
    adapter: Mapping[str, Any],
    report: CheckReport,
    findings: Findings,
) -> None:
    """Runs all checks; an exception of the env is left to the caller."""
    env = build()
    try:
        agents = agent_ids(env)
        if not check_spaces(env, agents, adapter.get("box_bins"), findings):
            return
        try:
            env.reset(seed=_SEED)
        except TypeError as error:
            findings.add(
                "error",
                f"reset(seed=...) failed ({error}): give reset the parameters "
                "seed=None and options=None",
            )
            return
        team = TeamEnv(env, **adapter)
        _describe(team, report, findings)
        _play(env, agents, adapter, findings)
        if findings.has_errors():
            return
        if not same_episode(build, agents, adapter.get("box_bins"), _SEED):
            findings.add(
                "warn",
                "the same seed gave two different episodes: draw everything random in "
                "the env from a generator that reset(seed=...) seeds, or runs cannot "
                "be repeated",
            )
        _measure(team, report)
        findings.add("ok", "random legal play through the team adapter works")
    finally:
        env.close()


def _describe(team: TeamEnv, report: CheckReport, findings: Findings) -> None:
    """Fills the summary and checks that there is a state."""
    spec = team.spec_team
    report.summary.update(
        agents=", ".join(spec.agents),
        num_actions=spec.num_actions,
        obs_size=spec.obs_size,
        state_size=spec.state_size,
        episode_limit=spec.episode_limit,
    )
    if spec.state_size == 0:
        findings.add(
            "warn",
            "env has no state(): mixers such as qmix need one; implement state(), or "
            "set env_config.state to concat_obs (vdn and independent learners need "
            "none)",
        )


def _play(
    env: Any, agents: list[Any], adapter: Mapping[str, Any], findings: Findings
) -> None:
    """Plays random episodes and looks at every row."""
    rng = np.random.default_rng(_SEED)
    steps = episodes = 0
    rewards_differ = False
    while steps < MAX_STEPS and episodes < MAX_EPISODES and not findings.has_errors():
        limit = MAX_EPISODE_STEPS if episodes == 0 else MAX_STEPS - steps
        episode: Episode = play_episode(
            env, agents, adapter.get("box_bins"), rng, _SEED + episodes, limit, findings
        )
        steps += episode.steps
        episodes += 1
        rewards_differ |= episode.rewards_differ
        if episodes == 1 and not episode.ended and not findings.has_errors():
            findings.add(
                "error",
                f"no episode ended within {MAX_EPISODE_STEPS} steps of random play: "
                "training uses whole episodes, so give the env a time limit that "
                "truncates",
            )
    if rewards_differ and adapter.get("team_reward", "shared") == "shared":
        findings.add(
            "error",
            "rewards differ between agents, but a team has one reward: set "
            "env_config.team_reward to sum or mean",
        )


def _measure(team: TeamEnv, report: CheckReport) -> None:
    """Times random play through the adapter, and so tries it out as well."""
    rng = np.random.default_rng(_SEED)
    lengths: list[int] = []
    returns: list[float] = []
    steps, seed, begun = 0, _SEED, time.perf_counter()
    while steps < MAX_STEPS and len(lengths) < MAX_EPISODES:
        obs, _ = team.reset(seed=seed)
        seed += 1
        length, total, ended = 0, 0.0, False
        while not ended and steps < (MAX_STEPS if lengths else MAX_EPISODE_STEPS):
            mask = obs["action_mask"]
            action = np.array([rng.choice(np.flatnonzero(row)) for row in mask])
            obs, reward, terminated, truncated, _ = team.step(action)
            ended = terminated or truncated
            length, total, steps = length + 1, total + reward, steps + 1
        if ended:
            lengths.append(length)
            returns.append(total)
    seconds = time.perf_counter() - begun
    report.summary.update(
        random_episodes=len(lengths),
        random_episode_length=round(float(np.mean(lengths)), 2),
        random_return=round(float(np.mean(returns)), 3),
        steps_per_s=round(steps / seconds),
    )
