"""Where datasets come from: scripted and trained policies, and logs of learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext

from rllib_risk.core.envs import make_batched_env
from rllib_risk.core.players import Player, PolicyPlayer, ScriptedPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import EpisodeStore, play_episodes
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.rows import DatasetError
from rllib_risk.env_wrappers.episode_loop import SEED_RANGE
from rllib_risk.env_wrappers.registry import ENVS
from rllib_risk.env_wrappers.scripted import ScriptedPolicy
from rllib_risk.parts.exploration import EpsilonGreedy

# First word of the random streams of recordings.
_RECORD_STREAM = 6
# Copies of an environment that is vectorised; others are played one at a time, since
# the cost of a copy is unknown.
_COPIES = 32

# What a part of a learner's log is called.
LOG_PARTS = ("replay", "paper", "medium", "expert")
# Episodes that the level of a learner is averaged over, as a share of its log.
_WINDOW = 0.05

# Makes the player of a number of environments, with a source of randomness.
MakePlayer = Callable[[int, np.random.Generator], Player]


def scripted_player(policy: ScriptedPolicy, epsilon: float) -> MakePlayer:
    """A scripted policy whose agents each act at random now and then.

    Args:
        policy: The policy.
        epsilon: Probability of a random available action, per agent and step.

    Returns:
        What makes the player.
    """

    def make(num_envs: int, rng: np.random.Generator) -> Player:
        return ScriptedPlayer([policy], np.empty(0, np.int64), rng, epsilon)

    return make


def trained_player(policy: TeamPolicy, epsilon: float) -> MakePlayer:
    """A trained policy whose agents each act at random now and then.

    Args:
        policy: The policy.
        epsilon: Probability of a random available action, per agent and step.

    Returns:
        What makes the player.
    """

    def make(num_envs: int, rng: np.random.Generator) -> Player:
        if epsilon == 0.0:
            return PolicyPlayer(policy, num_envs)
        explorer = EpsilonGreedy(num_envs, policy.network.sizes.num_agents)
        always = np.full(num_envs, epsilon)
        return PolicyPlayer(policy, num_envs, explorer, lambda _: always, rng)

    return make


def record(
    config: AlgorithmConfig, players: Sequence[MakePlayer], num_episodes: int, seed: int
) -> Iterator[Episode]:
    """Plays episodes for a dataset.

    Args:
        config: Its environment, and its limits.
        players: Who plays; of several each plays the same number of episodes, in turns.
        num_episodes: How many, of all of them.
        seed: Of environments and players.

    Yields:
        The episodes.
    """
    copies = _COPIES if config.env in ENVS else 1
    each, more = divmod(num_episodes, len(players))
    left = [each + (index < more) for index in range(len(players))]
    copies = max(min(copies, max(left)), 1)
    rng = np.random.default_rng((seed, _RECORD_STREAM))
    envs = make_batched_env(config, copies, EnvContext(config.env_config, 0))
    try:
        store = EpisodeStore(envs.spec, envs.num_envs)
        while any(left):
            for index, make in enumerate(players):
                number = min(copies, left[index])
                left[index] -= number
                if number:
                    seeds = rng.integers(SEED_RANGE, size=number)
                    player = make(envs.num_envs, rng)
                    yield from play_episodes(config, envs, player, seeds, rng, store)[0]
    finally:
        envs.close()


def part_of_log(log: Dataset, part: str, share: float) -> tuple[int, int]:
    """Which episodes of a learner's log a dataset is cut out of.

    All of them (``replay``); or a stretch of so large a share of its env steps that
    begins half way (``paper``: Eldeeb et al., 2024), that is the last one (``expert``),
    or that begins where the learner first reached half of its gain (``medium``). Its
    level is the mean return of the last 5 % of episodes, at the beginning and at the
    end.

    Args:
        log: All episodes of a learner, in the order in which it played them.
        part: One of :data:`LOG_PARTS`.
        share: Share of the log's env steps.

    Returns:
        The first episode, and the one after the last.

    Raises:
        DatasetError: If the learner did not get better, where that matters.
    """
    if part == "replay":
        return 0, log.card.num_episodes
    facts = np.array([(len(e), e.episode_return) for e in log.episodes()])
    starts = np.concatenate([[0.0], facts[:, 0].cumsum()])  # in env steps
    steps = share * starts[-1]
    if part == "paper":
        first = int(np.searchsorted(starts, starts[-1] / 2))
    elif part == "medium":
        first = _half_way(facts[:, 1], log)
    if part == "expert" or starts[first] + steps > starts[-1]:
        first = int(np.searchsorted(starts[:-2], starts[-1] - steps))
    after = int(np.searchsorted(starts, starts[first] + steps))
    return first, max(after, first + 1)


def _half_way(returns: np.ndarray, log: Dataset) -> int:
    window = max(int(_WINDOW * len(returns)), 1)
    sums = np.concatenate([[0.0], returns.cumsum()])
    levels = (sums[window:] - sums[:-window]) / window  # of [i, i + window)
    if levels[-1] <= levels[0]:
        raise DatasetError(
            f"the learner of {log.folder} did not get better: its returns went from"
            f" {levels[0]:.2f} to {levels[-1]:.2f}, so that there is no half way"
        )
    return int((levels >= (levels[0] + levels[-1]) / 2).argmax())
