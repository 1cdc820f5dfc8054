"""Records episodes of scripted and trained policies for datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext

from rllib_risk.core.envs import make_batched_env, max_copies
from rllib_risk.core.players import Player, PolicyPlayer, ScriptedPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import EpisodeStore, play_episodes
from rllib_risk.data.episodes import Episode
from rllib_risk.env_wrappers.episode_loop import SEED_RANGE
from rllib_risk.env_wrappers.scripted import ScriptedPolicy
from rllib_risk.parts.exploration import EpsilonGreedy

# First seed word of the random stream of a recording.
_RECORD_STREAM = 6
# Creates a player for a number of environments, with a random number generator.
MakePlayer = Callable[[int, np.random.Generator], Player]


def scripted_player(policy: ScriptedPolicy, epsilon: float) -> MakePlayer:
    """Returns the maker of a player: a scripted policy with random exploration.

    Args:
        policy: The policy.
        epsilon: Probability of a random available action, per agent and step.

    Returns:
        Function that creates the player.
    """

    def make(num_envs: int, rng: np.random.Generator) -> Player:
        return ScriptedPlayer([policy], np.empty(0, np.int64), rng, epsilon)

    return make


def trained_player(policy: TeamPolicy, epsilon: float) -> MakePlayer:
    """Returns the maker of a player: a trained policy with random exploration.

    Args:
        policy: The policy.
        epsilon: Probability of a random available action, per agent and step.

    Returns:
        Function that creates the player.
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
        config: Configuration with the environment and the limits of episodes.
        players: Makers of the players. Several players take turns, and their numbers of
            episodes differ by at most one.
        num_episodes: Number of episodes of all players together.
        seed: Seed of environments and players.

    Yields:
        The episodes.
    """
    copies = max_copies(config)
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
