"""Evaluates checkpoints of RLlib's own algorithms, on both of its API stacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_risk.cli.catalog import default_config
from rllib_risk.cli.output import note
from rllib_risk.config.schema import ConfigError


def evaluate_foreign(
    checkpoint: Path,
    algo: str,
    episodes: int | None,
    seed: int | None,
    env_config: Mapping[str, Any],
) -> dict[str, Any]:
    """Plays episodes without exploration; Ray must be running.

    Args:
        checkpoint: A checkpoint of RLlib's own algorithms. Loading it runs its code.
        algo: Name of the algorithm.
        episodes: Number of episodes; None: as in the training.
        seed: Seed of the environment; None: as in the training.
        env_config: Keys that replace those of the training's ``env_config``.

    Returns:
        Statistics of exactly the requested number of episodes.

    Raises:
        ConfigError: If the checkpoint is damaged or of another algorithm.
    """
    expected = default_config(algo).algo_class
    note("Loading a checkpoint of RLlib's own algorithms. This runs the code in it.")
    try:
        algorithm = expected.from_checkpoint(str(checkpoint))
    except Exception as error:  # damaged pickles raise many exception types
        raise ConfigError(
            f"{checkpoint} cannot be loaded as a checkpoint of {algo}:"
            f" {type(error).__name__}: {error}"
        ) from error
    if type(algorithm).__name__ != expected.__name__:
        name = type(algorithm).__name__
        raise ConfigError(
            f"--algo: {checkpoint} is a checkpoint of {name}, not of {algo}. Use --algo"
            f" {name}."
        )
    config = _evaluation_config(algorithm, episodes, seed, env_config)
    algorithm.stop()
    played: list[tuple[float, int]] = []
    if config.enable_env_runner_and_connector_v2:
        _collect_episodes(config, played)
    algorithm = config.build_algo()
    try:
        algorithm.restore(str(checkpoint))
        runners = algorithm.evaluate()["env_runners"]
    finally:
        algorithm.stop()
    if not config.enable_env_runner_and_connector_v2:
        history = runners["hist_stats"]
        lengths = (int(value) for value in history["episode_lengths"])
        played = list(zip(history["episode_reward"], lengths, strict=True))
    from rllib_risk.ops.statistics import return_statistics

    returns = [float(value) for value, _ in played]
    result = return_statistics(returns, None, [length for _, length in played])
    return {**result, "success_rate": None, "returns": returns}


def _evaluation_config(
    algorithm: Any,
    episodes: int | None,
    seed: int | None,
    env_config: Mapping[str, Any],
) -> Any:
    """Returns the training's configuration, changed to play greedy episodes here."""
    config = algorithm.config.copy(copy_frozen=False)
    config.num_env_runners = 0
    config.num_learners = 0
    config.evaluation_num_env_runners = 0
    config.num_envs_per_env_runner = 1
    config.evaluation_interval = 1
    config.evaluation_duration = episodes or config.evaluation_duration
    config.evaluation_duration_unit = "episodes"
    config.evaluation_config = {**(config.evaluation_config or {}), "explore": False}
    if env_config:
        config.env_config = {**config.env_config, **env_config}
        own = config.evaluation_config.get("env_config")
        if own is not None:
            config.evaluation_config["env_config"] = {**own, **env_config}
    if seed is not None:
        config.seed = seed
    return config


def _collect_episodes(config: Any, played: list[tuple[float, int]]) -> None:
    """Adds a callback that records return and length of every episode (new stack)."""

    def on_episode_end(*, episode: Any, **others: Any) -> None:
        played.append((float(episode.get_return()), len(episode)))

    before = config.callbacks_on_episode_end or []
    several = before if isinstance(before, list) else [before]
    config.callbacks_on_episode_end = [*several, on_episode_end]
