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
from rllib_risk.env_wrappers.checking.random_play import (
    KEPT_STEPS,
    PlayedEpisode,
    play_randomly,
)
from rllib_risk.env_wrappers.checking.recording import EnvRecording
from rllib_risk.env_wrappers.checking.rules import (
    Findings,
    RowRules,
    check_observation_spaces,
    equal,
)
from rllib_risk.env_wrappers.episode_loop import MAX_EPISODE_STEPS
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.failures import CRASHES, close_env, describe, moment
from rllib_risk.env_wrappers.notices import captured
from rllib_risk.env_wrappers.registry import (
    ENVS,
    PETTINGZOO,
    build_parallel_env,
    env_title,
    resolve,
)
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.env_wrappers.watchdog import ENV_TIMEOUT_S, Watchdog

# The first of these limits ends the random play, but not before one whole episode.
MAX_STEPS = 1000
MAX_EPISODES = 20

# The default of `buffer_size_episodes`. The report shows the size of this replay above
# REPLAY_SHOWN_BYTES, and warns of it above REPLAY_BYTES.
REPLAY_EPISODES = 5000
REPLAY_SHOWN_BYTES = 10**9
REPLAY_BYTES = 8 * 10**9

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
            watchdog = Watchdog(env_title(name, config), ENV_TIMEOUT_S)
            complete = _Check(build, adapter, report, findings, watchdog).run()
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


class _Check:
    """Builds an env twice, plays both copies and closes them."""

    def __init__(
        self,
        build: Callable[[], Any],
        adapter: Mapping[str, Any],
        report: CheckReport,
        findings: Findings,
        watchdog: Watchdog,
    ) -> None:
        self._build = build
        self._watchdog = watchdog
        self._recording: EnvRecording | None = None
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
            lambda team, recording: play_randomly(
                team, recording, 1, KEPT_STEPS, KEPT_STEPS
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
        self, use: Callable[[TeamEnv, EnvRecording], PlayedEpisode | None]
    ) -> PlayedEpisode | None:
        """Builds the env, uses it through the adapter, and closes it.

        Args:
            use: Called with the adapter and the recording of the env.

        Returns:
            The result of `use`; None if the env raised, which becomes a finding.
        """
        team = result = None
        try:
            team = self._watchdog.build(0, self._make)
            assert self._recording is not None
            result = use(team, self._recording)
        except CRASHES as error:
            self._findings.add("error", self._explain(error))
        finally:
            if team is not None:
                team.close()
            self._watchdog.end(0)
            self._recording = None
        return result

    def _make(self) -> TeamEnv:
        """Builds the env, its recording and the adapter."""
        env = self._build()
        mask_key = self._adapter.get("action_mask_key", ACTION_MASK)
        rules = RowRules(env, mask_key, self._findings)
        self._recording = EnvRecording(env, rules.on_call)
        try:
            return TeamEnv(env, **self._adapter)
        except BaseException:
            close_env(env)
            raise

    def _explain(self, error: BaseException) -> str:
        if self._recording is not None:
            return self._recording.explain(error)
        if isinstance(error, EnvConfigError):
            return str(error)
        return f"the env raised {describe(error, moment(None))}"

    def _play(self, team: TeamEnv, recording: EnvRecording) -> PlayedEpisode | None:
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
        episodes = play_randomly(
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
        self, team: TeamEnv, episodes: list[PlayedEpisode], steps_per_s: float
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
