"""Plays random legal actions for the check of an env."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.checking.recording import EnvRecording
from rllib_risk.env_wrappers.episode_loop import (
    EpisodeLimits,
    EpisodeLoop,
    EpisodeObserver,
    OneTeamEnv,
    Player,
)
from rllib_risk.env_wrappers.team_env import BatchedStep, TeamEnv

# Number of steps of an episode whose results are kept.
KEPT_STEPS = 200
_SEED = 0


@dataclass
class PlayedEpisode:
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


class _RandomPlay(Player, EpisodeObserver):
    """Plays random legal actions and records what the env returned."""

    def __init__(
        self, envs: OneTeamEnv, recording: EnvRecording, most: int, max_first: int
    ) -> None:
        self.episodes: list[PlayedEpisode] = []
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
        self.episodes.append(PlayedEpisode([], begun))

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
        if episode.steps <= KEPT_STEPS:
            episode.rows.append(self._envs.last)
        self._steps += 1
        first = len(self.episodes) == 1
        most = self._max_first if first and not episode.ended else self._most
        if self._steps >= most:
            loop.stop()


def play_randomly(
    team: TeamEnv,
    recording: EnvRecording,
    num_episodes: int,
    most: int,
    max_first: int,
) -> list[PlayedEpisode]:
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
