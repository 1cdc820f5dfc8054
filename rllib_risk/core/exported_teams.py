"""Greedy episodes of an exported team, in the environment that it was trained in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.env.env_context import EnvContext

from rllib_risk.config.schema import ConfigError
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.envs import make_batched_env, max_copies
from rllib_risk.core.evaluation import summarise
from rllib_risk.core.play import play_and_render
from rllib_risk.core.record import named_code
from rllib_risk.core.rounds import evaluation_rng, evaluation_seed, play_episodes
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.deploy.acting import Team
from rllib_risk.deploy.artefact import Artefact
from rllib_risk.env_wrappers.episode_loop import Player
from rllib_risk.parts.objectives.static import RunningReturns


class ExportedPlayer(Player):
    """Acts with an exported team in several environments; see the base class.

    Letters: ``E`` environments, ``N`` agents, ``A`` actions, ``D`` observation size.
    """

    def __init__(self, artefact: Artefact, num_envs: int) -> None:
        """Initializes the player at the beginning of an episode in each environment.

        Args:
            artefact: The exported team.
            num_envs: Number of environments ``E``.
        """
        self._team = Team(artefact, num_envs)
        self._returns = None
        if artefact.contract.needs_return:
            gamma = float(artefact.policy["risk"]["return_discount"])
            self._returns = RunningReturns(gamma, num_envs)

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """Chooses the greedy actions of one step."""
        returns = None if self._returns is None else self._returns.values
        actions = self._team.act(obs, action_mask, return_so_far=returns)
        return actions, self._team.risk_levels

    def begin(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        """Resets the returns of the episodes that begin."""
        if self._returns is not None:
            self._returns.begin(slots)

    def earn(self, rewards: np.ndarray) -> None:
        """Adds the discounted rewards of one step to the returns."""
        if self._returns is not None:
            self._returns.earn(rewards)

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        """Resets the hidden states of the episodes that begin."""
        self._team.reset(slots)


@dataclass(frozen=True)
class ExportedTeam:
    """An exported team with the environment and the seed of its evaluation.

    Attributes:
        artefact: The exported team.
        config: Configuration of the environment.
        episodes: Number of episodes of the last evaluation in training, or the default.
        seed: Seed of that evaluation.
    """

    artefact: Artefact
    config: TeamConfig
    episodes: int
    seed: int

    @classmethod
    def load(
        cls,
        artefact: Artefact | Path,
        *,
        env: str | None = None,
        env_config: Mapping[str, Any] | None = None,
        trust_code: bool = False,
    ) -> ExportedTeam:
        """Connects an exported team with its environment.

        Args:
            artefact: The exported team, or the folder that ``rllib export`` wrote.
            env: Name of the environment, for a team that learned from a dataset only.
            env_config: Settings of the environment, in place of those of the training.
            trust_code: Whether an environment that is named by an import path may be
                imported.

        Returns:
            The team.

        Raises:
            ArtefactError: If the folder is missing, damaged, or of a later version.
            ConfigError: If the environment is unknown, or it would have to be imported.
        """
        if not isinstance(artefact, Artefact):
            artefact = Artefact.load(artefact)
        folder, provenance = artefact.folder, artefact.policy.get("provenance") or {}
        name, settings = evaluation_env(artefact)
        if env is not None and name is not None:
            raise ConfigError(
                f"--env: {folder} was trained in '{name}', where it is evaluated. Leave"
                " --env out."
            )
        if env is None and name is None:
            raise ConfigError(
                f"{folder}: this team learned from a dataset and has no environment."
                " Name one with --env."
            )
        config = TeamConfig()
        config.environment(
            env or name, env_config=settings if env_config is None else env_config
        )
        if not trust_code:
            for path in named_code(
                {"env": config.env, "env_config": config.env_config}
            ):
                raise ConfigError(
                    f"{folder}: the environment can be built only by importing"
                    f" {path!r}. If you trust it, add --trust-code."
                )
        last = provenance.get("last_evaluation") or {}
        seeds = provenance.get("seeds") or {}
        episodes = int(last.get("episodes") or config.evaluation_duration)
        return cls(artefact, config, episodes, int(seeds.get("evaluation") or 0))

    def evaluate(
        self, num_episodes: int | None = None, seed: int | None = None
    ) -> dict[str, Any]:
        """Plays greedy episodes; by default those of the last evaluation in training.

        Args:
            num_episodes: Number of episodes; None: :attr:`episodes`.
            seed: Seed of the evaluation; None: :attr:`seed`.

        Returns:
            See :meth:`.EvaluatingAlgorithm.evaluate_episodes`.

        Raises:
            ConfigError: If the team does not fit the environment.
        """
        number = self.episodes if num_episodes is None else num_episodes
        seed = self.seed if seed is None else seed
        num_envs = min(number, max_copies(self.config))
        context = EnvContext(self.config.env_config, worker_index=0)
        envs = make_batched_env(self.config, num_envs, context)
        try:
            self._check(envs.spec)
            player = ExportedPlayer(self.artefact, num_envs)
            seeds = np.array([evaluation_seed(seed, index) for index in range(number)])
            rng = evaluation_rng(seed)
            episodes, crashes = play_episodes(self.config, envs, player, seeds, rng)
        finally:
            envs.close()
        return summarise(episodes, self.artefact.contract.names, crashes)

    def render(self, seed: int | None = None) -> list[np.ndarray]:
        """Plays the first episode of an evaluation in an environment that renders.

        Args:
            seed: Seed of the evaluation; None: :attr:`seed`.

        Returns:
            uint8 frames ``[height, width, 3]``.

        Raises:
            EnvConfigError: If the environment cannot render.
        """
        player = ExportedPlayer(self.artefact, 1)
        return play_and_render(player, self.config, self.seed if seed is None else seed)

    def _check(self, spec: TeamSpec) -> None:
        """Raises a ConfigError if the team does not fit the environment."""
        contract = self.artefact.contract
        own = (contract.names, contract.obs_size, contract.num_actions)
        found = (tuple(spec.agents), spec.obs_size, spec.num_actions)
        if own != found:
            raise ConfigError(
                f"{self.artefact.folder} does not fit the environment: it has"
                f" {_sizes(*own)}, but the environment has {_sizes(*found)}."
            )


def evaluation_env(artefact: Artefact) -> tuple[Any, dict[str, Any]]:
    """Returns the environment of a team's evaluation and its settings.

    Args:
        artefact: The exported team. Artefacts of earlier versions hold only the
            environment of the training.

    Returns:
        Name, or None if the team learned without one, and ``env_config``.
    """
    provenance = artefact.policy.get("provenance") or {}
    found = provenance.get("evaluation") or provenance
    return found.get("env"), dict(found.get("env_config") or {})


def _sizes(agents: tuple[str, ...], obs_size: int, num_actions: int) -> str:
    return (
        f"the agents {', '.join(agents)}, {obs_size} numbers per observation and"
        f" {num_actions} actions"
    )
