"""Risk-aware and robust cooperative multi-agent reinforcement learning on RLlib.

``register()`` registers the algorithms and environments with Ray. Importing the package
is fast: it loads Ray and torch only when they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rllib_risk import moved

if TYPE_CHECKING:
    from pathlib import Path

    from rllib_risk.core.algorithm import TeamAlgorithm

__version__ = "0.2.0.dev0"

__all__ = ["__version__", "load", "register"]

moved.install()


def register() -> None:
    """Registers algorithms, environments and the model; may be called repeatedly."""
    from rllib_risk.algorithms import register_algorithms
    from rllib_risk.core.model import register_model
    from rllib_risk.env_wrappers.registry import register_envs

    register_algorithms()
    register_envs()
    register_model()


def load(path: str | Path, *, trust_code: bool = False, **keys: Any) -> TeamAlgorithm:
    """Loads a checkpoint for acting, evaluation, export or training in this process.

    Ray does not start: remote env runners and learners of the training are left out,
    unless ``keys`` ask for them. To go on training with those of the training, call
    ``TeamAlgorithm.from_checkpoint(path)``. On a machine where Ray is not installed,
    run an exported team instead: ``docs/deploy.md``.

    Args:
        path: Folder of the checkpoint.
        trust_code: Whether code that the checkpoint names may be imported and called:
            the factory of a ``pettingzoo`` environment, a mixer or a risk measure.
        **keys: Keys that replace those of the checkpoint's configuration.

    Returns:
        The restored :class:`~rllib_risk.core.algorithm.TeamAlgorithm`.

    Raises:
        CheckpointError: If the checkpoint is incomplete or damaged, does not fit, or
            names code that is not trusted.
    """
    from rllib_risk.core.algorithm import TeamAlgorithm
    from rllib_risk.core.checkpointing import in_this_process

    register()
    return TeamAlgorithm.from_checkpoint(
        path, trust_code=trust_code, **in_this_process(keys)
    )
