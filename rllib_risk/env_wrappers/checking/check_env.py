"""Checks an env before training and reports every problem with its fix.

`check_env` builds the env and plays random legal steps through the adapter that
training uses. Errors of the env become findings; `check_env` does not raise them.
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

# The first of these limits ends the random play, but not before one whole episode.
MAX_STEPS = 1000
MAX_EPISODES = 20
# An episode with this many steps counts as one that never ends.
MAX_EPISODE_STEPS = 10_000

# The default of `buffer_size_episodes`. The report shows the size of this replay above
# REPLAY_SHOWN_BYTES, and warns of it above REPLAY_BYTES.
REPLAY_EPISODES = 5000
REPLAY_SHOWN_BYTES = 10**9
REPLAY_BYTES = 8 * 10**9

_SEED = 0
_SAME_SEED_STEPS = 200
_MAX_NAMES = 8


@dataclass(frozen=True)
class Finding:
    """One result of the check.

    Attributes:
        level: "ok", "warn" (works, but may be wrong) or "error" (cannot be trained).
        message: The problem and its fix.
    """

    level: str
    message: str


@dataclass
class CheckReport:
    """The result of `check_env`.

    Attributes:
        env: Name or factory of the env.
        findings: The findings, in the order of the checks.
        summary: Sizes and measured facts; empty if the env could not be built.
    """

    env: str
    findings: list[Finding] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors; warnings are allowed."""
        return all(finding.level != "error" for finding in self.findings)

    def __str__(self) -> str:
        """The report as lines of text."""
        lines = [f"env: {self.env}"]
        lines += [f"  {key}: {value}" for key, value in self.summary.items()]
        lines += [f"[{item.level}] {item.message}" for item in self.findings]
        lines.append("usable" if self.ok else "not usable: fix the errors above")
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
            # Notices about several agents have one kind, so only the first is added.
            findings.add("warn", text, kind=" ".join(key.split()[:2]))
    if complete:
        findings.add("ok", "random legal play through the team adapter works")
    report.findings = [Finding(level, text) for level, text in findings.items]
    return report


def _as_registered(
    name_or_factory: str, env_config: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Turns a factory "pkg.module:callable" into `pettingzoo` and its env_config."""
    config = dict(env_config or {})
    if name_or_factory in ENVS or ":" not in name_or_factory:
        return name_or_factory, config
    return PETTINGZOO, {"factory": name_or_factory, **config}


@dataclass
class _Episode:
    """One episode of random play.

    Attributes:
        rows: Results of the adapter's reset and first steps.
        begun: Env steps before this episode, and the clock at its beginning in seconds,
            less the time spent in the listener.
        steps: Steps played.
        total: Sum of the team's rewards.
        ended: Whether the episode has ended.
    """

    rows: list[Any]
    begun: tuple[int, float]
    steps: int = 0
    total: float = 0.0
    ended: bool = False


class _Check:
    """Builds an env twice, plays both copies and closes them."""

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
        """Runs all checks; exceptions of the env become findings.

        Returns:
            Whether all checks ran to the end.
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
                "the same seed gave two different episodes, so runs cannot be "
                "repeated: draw all random numbers of the env from a generator that "
                "reset(seed=...) seeds",
            )
        return True

    def _with_env(
        self, use: Callable[[TeamEnv, EnvRecording], _Episode | None]
    ) -> _Episode | None:
        """Builds the env, uses it through the adapter, and closes it.

        Args:
            use: Called with the adapter and the recording of the env.

        Returns:
            The result of `use`; None if the env raised, which becomes a finding.
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
                findings.add("warn", f"{text}; training would ignore this")
        return result

    def _play(self, team: TeamEnv, recording: EnvRecording) -> _Episode | None:
        """Plays random episodes and fills the summary.

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
        check_observation_spaces(team.parallel_env, spec, findings)
        if spec.state_size == 0:
            findings.add(
                "warn",
                "the env has no state(), but mixers such as qmix need one: implement "
                "state(), or set env_config.state to concat_obs. vdn and independent "
                "learners do not need a state",
            )
        recording.episode = 0  # the adapter may have reset the env to read its state
        episodes = _play_randomly(
            team, recording, MAX_EPISODES, MAX_STEPS, MAX_EPISODE_STEPS
        )
        # The speed leaves out the first episode, which may compile code or start a
        # simulator, if there is a second one.
        before, begun = episodes[min(1, len(episodes) - 1)].begun
        seconds = time.perf_counter() - recording.seconds - begun
        steps = sum(episode.steps for episode in episodes)
        speed = (steps - before) / seconds
        self._summarise(team, [e for e in episodes if e.ended], speed)
        return episodes[0]

    def _summarise(
        self, team: TeamEnv, episodes: list[_Episode], steps_per_s: float
    ) -> None:
        """Fills the summary and adds findings about the play as a whole."""
        findings, masks = self._findings, team.masks
        self._summary["action_mask"] = {
            "none": "none; every action is always legal",
            "observation": f"entry {masks.key} of the observation",
            "info": f"entry {masks.key} of the info",
        }[masks.source]
        if not episodes:
            findings.add(
                "error",
                f"no episode ended within {MAX_EPISODE_STEPS} steps of random play, "
                "but training uses whole episodes: give the env a time limit that "
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
            compact = "" if team.spec_team.image else "compact_replay to true, "
            findings.add(
                "warn",
                f"the default replay of {REPLAY_EPISODES:,} episodes of {length:g} "
                f"steps would take {spelled(replay)}: set buffer_size_episodes to "
                f"{max(1, int(REPLAY_EPISODES * REPLAY_BYTES / replay))} for "
                f"{spelled(REPLAY_BYTES)}, {compact}or make the observations smaller",
            )


class _RandomPlay(Player, EpisodeObserver):
    """Plays random legal actions and records what the env returned."""

    def __init__(
        self, envs: OneTeamEnv, recording: EnvRecording, most: int, max_first: int
    ) -> None:
        self.episodes: list[_Episode] = []
        self._envs = envs
        self._recording = recording
        self._most = most
        self._max_first = max_first
        self._steps = 0
        self._rng = np.random.default_rng(_SEED)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        rows = action_mask[0]
        actions = [self._rng.choice(np.flatnonzero(row)) for row in rows]
        return np.array([actions]), 1.0

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        """Does nothing; random play has no memory."""

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
        most = self._max_first if first and not episode.ended else self._most
        if self._steps >= most:
            loop.stop()


def _play_randomly(
    team: TeamEnv,
    recording: EnvRecording,
    num_episodes: int,
    most: int,
    max_first: int,
) -> list[_Episode]:
    """Plays random legal actions.

    Args:
        team: The env.
        recording: The recording of the env.
        num_episodes: Largest number of episodes.
        most: Largest number of steps in all episodes.
        max_first: Largest number of steps while the first episode runs; it may be
            larger than `most`.

    Returns:
        The episodes; the last one may be unfinished.
    """
    envs = OneTeamEnv(team)
    play = _RandomPlay(envs, recording, most, max_first)
    seeds = _SEED + np.arange(num_episodes)
    rng = np.random.default_rng(_SEED)  # not used: an error of the env ends the play
    EpisodeLoop(envs, play, seeds, rng, EpisodeLimits(), play).play()
    return play.episodes
