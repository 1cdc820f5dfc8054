"""Tells a user in plain words what is wrong with an env before anything is trained.

`check_env` builds the env, plays random legal steps through the adapter that training
uses, and reports what it found, each finding with its fix. It never raises because of
the env.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from rllib_risk.data.replay_memory import bytes_of, spelled
from rllib_risk.env_wrappers.action_masks import ACTION_MASK
from rllib_risk.env_wrappers.checking.recording import EnvRecording
from rllib_risk.env_wrappers.checking.rules import (
    Findings,
    RowRules,
    check_observation_spaces,
    equal,
)
from rllib_risk.env_wrappers.episode_loop import (
    EpisodeLimits,
    EpisodeLoop,
    EpisodeObserver,
    OneTeamEnv,
    Player,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.failures import CRASHES, describe, moment
from rllib_risk.env_wrappers.notices import captured
from rllib_risk.env_wrappers.registry import (
    ENVS,
    PETTINGZOO,
    build_parallel_env,
    resolve,
)
from rllib_risk.env_wrappers.team_env import BatchedStep, TeamEnv

# Whichever comes first ends the random play, but never before one whole episode.
MAX_STEPS = 1000
MAX_EPISODES = 20
# An episode this long counts as one that never ends.
MAX_EPISODE_STEPS = 10_000

# The default of `buffer_size_episodes`, and the memory beyond which the report shows it
# and warns of it.
REPLAY_EPISODES = 5000
REPLAY_SHOWN_BYTES = 10**9
REPLAY_BYTES = 8 * 10**9

_SEED = 0
_SAME_SEED_STEPS = 200
_MAX_NAMES = 8


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
    complete = False
    with captured() as notices, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            name, config = _as_registered(name_or_factory, env_config)
            factory, kwargs, adapter = resolve(name, config)
        except EnvConfigError as error:
            findings.add("error", str(error))
        else:
            build = partial(build_parallel_env, factory, kwargs)
            complete = _Check(build, adapter, report, findings).run()
        for key, text in notices.items():
            # Of notices about several agents the first will do.
            findings.add("warn", text, kind=" ".join(key.split()[:2]))
    if complete:
        findings.add("ok", "random legal play through the team adapter works")
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


@dataclass
class _Episode:
    """One episode of random play.

    Attributes:
        rows: What the adapter returned at the reset and in the first steps.
        begun: Env steps and seconds of the play before it.
        steps: Steps played.
        total: Sum of the team's rewards.
        ended: Whether it came to an end.
    """

    rows: list[Any]
    begun: tuple[int, float]
    steps: int = 0
    total: float = 0.0
    ended: bool = False


class _Check:
    """Builds an env and a copy of it, plays both and closes them."""

    def __init__(
        self,
        build: Callable[[], Any],
        adapter: Mapping[str, Any],
        report: CheckReport,
        findings: Findings,
    ) -> None:
        self._build = build
        self._adapter = adapter
        self._summary = report.summary
        self._findings = findings

    def run(self) -> bool:
        """Runs all checks; what the env raises becomes a finding.

        Returns:
            Whether nothing stopped them.
        """
        first = self._with_env(self._play)
        if first is None or self._findings.has_errors():
            return False
        again = self._with_env(
            lambda team, recording: _play_randomly(
                team, recording, 1, _SAME_SEED_STEPS, _SAME_SEED_STEPS
            )[0]
        )
        if again is None:
            return False
        if not equal(first.rows, again.rows):
            self._findings.add(
                "warn",
                "the same seed gave two different episodes: draw everything random in "
                "the env from a generator that reset(seed=...) seeds, or runs cannot "
                "be repeated",
            )
        return True

    def _with_env(
        self, use: Callable[[TeamEnv, EnvRecording], _Episode | None]
    ) -> _Episode | None:
        """Builds the env, uses it through the adapter, and closes it.

        Args:
            use: Called with the adapter and what listens beneath it.

        Returns:
            What `use` returned; None if anything raised, which is a finding then.
        """
        findings = self._findings
        try:
            env = self._build()
        except EnvConfigError as error:
            findings.add("error", str(error))
            return None
        except CRASHES as error:
            findings.add("error", f"the env raised {describe(error, moment(None))}")
            return None
        mask_key = self._adapter.get("action_mask_key", ACTION_MASK)
        recording = EnvRecording(env, RowRules(env, mask_key, findings).on_call)
        result = None
        try:
            result = use(TeamEnv(env, **self._adapter), recording)
        except CRASHES as error:
            findings.add("error", recording.explain(error))
        finally:
            try:
                getattr(env, "close", lambda: None)()
            except CRASHES as error:
                text = recording.explain(error)
                findings.add("warn", f"{text}; training goes on")
        return result

    def _play(self, team: TeamEnv, recording: EnvRecording) -> _Episode | None:
        """Plays random episodes and describes what was seen.

        Returns:
            The first episode; None if it did not end.
        """
        spec, findings = team.spec_team, self._findings
        names = list(spec.agents[:_MAX_NAMES])
        if spec.num_agents > _MAX_NAMES:
            names.append(f"... ({spec.num_agents} agents)")
        self._summary.update(
            agents=", ".join(names),
            num_actions=spec.num_actions,
            obs_size=spec.obs_size,
            state_size=spec.state_size,
            episode_limit=spec.episode_limit,
        )
        findings.add("ok", f"{spec.num_agents} agents with usable spaces")
        check_observation_spaces(team.parallel_env, findings)
        if spec.state_size == 0:
            findings.add(
                "warn",
                "env has no state(): mixers such as qmix need one; implement state(), "
                "or set env_config.state to concat_obs (vdn and independent learners "
                "need none)",
            )
        recording.episode = 0  # the adapter may have had to reset the env before
        episodes = _play_randomly(
            team, recording, MAX_EPISODES, MAX_STEPS, MAX_EPISODE_STEPS
        )
        # The first episode may compile things or start a simulator.
        before, begun = episodes[min(1, len(episodes) - 1)].begun
        seconds = time.perf_counter() - recording.seconds - begun
        steps = sum(episode.steps for episode in episodes)
        speed = (steps - before) / seconds
        self._summarise(team, [e for e in episodes if e.ended], speed)
        return episodes[0]

    def _summarise(
        self, team: TeamEnv, episodes: list[_Episode], steps_per_s: float
    ) -> None:
        """Fills the summary and says what the play as a whole showed."""
        findings, masks = self._findings, team.masks
        self._summary["action_mask"] = {
            "none": "none, every action is always legal",
            "observation": f"entry {masks.key} of the observation",
            "info": f"entry {masks.key} of the info",
        }[masks.source]
        if not episodes:
            findings.add(
                "error",
                f"no episode ended within {MAX_EPISODE_STEPS} steps of random play: "
                "training uses whole episodes, so give the env a time limit that "
                "truncates",
            )
            return
        length = float(np.mean([episode.steps for episode in episodes]))
        replay = bytes_of(team.spec_team, REPLAY_EPISODES, round(length))
        self._summary.update(
            random_episodes=len(episodes),
            random_episode_length=round(length, 2),
            random_return=round(float(np.mean([e.total for e in episodes])), 3),
            steps_per_s=round(steps_per_s),
        )
        if replay > REPLAY_SHOWN_BYTES:
            text = f"{spelled(replay)} for {REPLAY_EPISODES:,} episodes"
            self._summary["replay_memory"] = text
        if replay > REPLAY_BYTES:
            findings.add(
                "warn",
                f"the default replay of {REPLAY_EPISODES:,} episodes of {length:g} "
                f"steps would take {spelled(replay)}: set buffer_size_episodes to "
                f"{max(1, int(REPLAY_EPISODES * REPLAY_BYTES / replay))} for "
                f"{spelled(REPLAY_BYTES)}, set compact_replay to true (half of "
                "it), or observe less",
            )


class _RandomPlay(Player, EpisodeObserver):
    """Plays random legal actions, and notes what the env returned."""

    def __init__(
        self, envs: OneTeamEnv, recording: EnvRecording, most: int, most_of_first: int
    ) -> None:
        self.episodes: list[_Episode] = []
        self._envs = envs
        self._recording = recording
        self._most = most
        self._most_of_first = most_of_first
        self._steps = 0
        self._rng = np.random.default_rng(_SEED)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        rows = action_mask[0]
        actions = [self._rng.choice(np.flatnonzero(row)) for row in rows]
        return np.array([actions]), 1.0

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        """It has no memory of an episode."""

    def created(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        begun = self._steps, time.perf_counter() - self._recording.seconds
        self.episodes.append(_Episode([], begun))

    def started(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        self.episodes[-1].rows.append(self._envs.last)

    def stepped(
        self, loop: EpisodeLoop, actions: np.ndarray, step: BatchedStep
    ) -> None:
        episode = self.episodes[-1]
        _, reward, terminated, truncated, _ = self._envs.last
        episode.steps += 1
        episode.total += reward
        episode.ended = terminated or truncated
        if episode.steps <= _SAME_SEED_STEPS:
            episode.rows.append(self._envs.last)
        self._steps += 1
        first = len(self.episodes) == 1
        most = self._most_of_first if first and not episode.ended else self._most
        if self._steps >= most:
            loop.stop()


def _play_randomly(
    team: TeamEnv,
    recording: EnvRecording,
    num_episodes: int,
    most: int,
    most_of_first: int,
) -> list[_Episode]:
    """Plays random legal actions.

    Args:
        team: The env.
        recording: What listens beneath it.
        num_episodes: At most this many episodes.
        most: At most this many steps.
        most_of_first: At most this many steps of the first episode, where these are
            more.

    Returns:
        The episodes; the last one may not have ended.
    """
    envs = OneTeamEnv(team)
    play = _RandomPlay(envs, recording, most, most_of_first)
    seeds = _SEED + np.arange(num_episodes)
    rng = np.random.default_rng(_SEED)  # unused: what the env raises ends the play
    EpisodeLoop(envs, play, seeds, rng, EpisodeLimits(), play).play()
    return play.episodes
