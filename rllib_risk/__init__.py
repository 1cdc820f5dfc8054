"""rllib_risk: cooperative multi-agent RL on RLlib, aware of risk.

``register()`` makes the algorithms and environments known to Ray by name. Importing the
package is light: neither Ray nor torch is loaded before something needs them.
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
    """Registers algorithms, environments and the model; harmless to call twice."""
    from rllib_risk.algorithms import register_algorithms
    from rllib_risk.core.model import register_model
    from rllib_risk.env_wrappers.registry import register_envs

    register_algorithms()
    register_envs()
    register_model()


def load(path: str | Path, *, trust_code: bool = False, **keys: Any) -> TeamAlgorithm:
    """Loads a checkpoint, ready to evaluate or to go on training.

    Ray is started only if the run had remote env runners. To act or evaluate without
    them, and so without Ray, set ``num_env_runners=0, evaluation_num_env_runners=0``.
    A machine that has no Ray runs an exported team: ``docs/deploy.md``.

    Args:
        path: A checkpoint folder.
        trust_code: Whether code that the checkpoint names may be imported and called:
            the factory of a ``pettingzoo`` environment, a mixer or a risk measure.
        **keys: Keys that replace those of the checkpoint's configuration.

    Returns:
        The :class:`~rllib_risk.core.algorithm.TeamAlgorithm` it came from.

    Raises:
        CheckpointError: If the checkpoint is not whole, does not fit, or names code
            that is not trusted.
    """
    from rllib_risk.core.algorithm import TeamAlgorithm

    register()
    return TeamAlgorithm.from_checkpoint(path, trust_code=trust_code, **keys)
