"""Catalog of algorithms and environments and their configuration keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from rllib_risk.algorithms import ALGORITHMS as TEAM_ALGORITHMS
from rllib_risk.algorithms import config_class
from rllib_risk.config.imports import import_path
from rllib_risk.config.metrics import RLLIB_METRICS, TEAM_METRICS
from rllib_risk.config.rllib_keys import (
    field_for,
    rllib_fields,
    setter_hints,
    signature_fields,
)
from rllib_risk.config.schema import ConfigError, Field, suggest
from rllib_risk.core import ray_internals

TEAM_METRIC = "evaluation/return_mean"
RLLIB_METRIC = "env_runners/episode_return_mean"


def is_team_algorithm(algorithm: Any) -> bool:
    """Returns whether an algorithm (name or class) follows the team contract."""
    if isinstance(algorithm, str):
        return hasattr(_config_class(algorithm), "preflight")
    return hasattr(algorithm.get_default_config(), "preflight")


def default_metric(algorithm: Any) -> str:
    """Returns the name of the metric that compares runs of an algorithm."""
    return TEAM_METRIC if is_team_algorithm(algorithm) else RLLIB_METRIC


def default_config(name: str) -> Any:
    """Returns a new default ``AlgorithmConfig`` of an algorithm.

    Args:
        name: An algorithm of this package or of RLlib, or ``pkg.module:Algorithm``.

    Raises:
        ConfigError: If there is no such algorithm.
    """
    if name in TEAM_ALGORITHMS:
        return config_class(name)()
    registry = ray_internals.rllib_registry()
    if name in registry:
        try:
            return registry[name]()[1]
        except ImportError as error:
            raise ConfigError(f"run: {name}: {error}") from error
    if "." in name or ":" in name:
        algorithm = import_path(name, "run", dotted=True)
        if hasattr(algorithm, "get_default_config"):
            return algorithm.get_default_config()
        raise ConfigError(f"run: '{name}' is not an RLlib Algorithm class.")
    known = [*TEAM_ALGORITHMS, *registry]
    raise ConfigError(
        f"run: unknown algorithm '{name}'.{suggest(name, known)}"
        f" Known: {', '.join(known)}, or your own as 'pkg.module:Algorithm'."
    )


@cache
def _config_class(name: str) -> Any:
    """Returns the class of :func:`default_config`, whose instances are slow to make."""
    return type(default_config(name))


@cache
def _algorithm_fields(name: str) -> dict[str, Field]:
    config = default_config(name)
    hints = setter_hints(type(config), ray_internals.not_provided())
    fields = rllib_fields(config.to_dict(), hints)
    if hasattr(config, "fields"):
        fields.update(config.fields())
    else:
        # The key of `config.rl_module(model_config=...)`.
        fields["model_config"] = Field({}, "", dict)
    return fields


class RLlibCatalog:
    """Implements :class:`rllib_risk.config.checks.Catalog` for this process."""

    def check_algorithm(self, name: str) -> None:
        """Raises ``ConfigError`` with a suggestion if there is no such algorithm."""
        default_config(name)

    def is_there(self, name: str) -> bool:
        """Returns whether an algorithm exists with all packages that it needs."""
        try:
            self.check_algorithm(name)
        except ConfigError:
            return False
        return True

    def check_env(self, env: str, algorithm: str) -> None:
        """Raises ``ConfigError`` if there is no such env for this algorithm."""
        from rllib_risk.env_wrappers.registry import ENVS

        if env in ENVS or ray_internals.env_creator(env) is not None:
            return
        known = [*ENVS]
        if not is_team_algorithm(algorithm):
            import gymnasium

            # "module:Name" and "pkg.module.Class" are imported by RLlib itself.
            if env in gymnasium.registry or ":" in env or "." in env:
                return
            known += list(gymnasium.registry)
        raise ConfigError(
            f"env: unknown environment '{env}'.{suggest(env, known)} Known:"
            f" {', '.join(ENVS)}. Your own: 'env: pettingzoo' with 'env_config:"
            " {factory: pkg.module:parallel_env}', or a name that a module under"
            " 'imports:' registers."
        )

    def algorithm_fields(
        self, name: str, config: Mapping[str, Any] | None = None
    ) -> Mapping[str, Field]:
        """Returns all keys that the algorithm accepts, with those of your own parts."""
        fields = _algorithm_fields(name)
        if not config or not is_team_algorithm(name):
            return fields
        return fields | _config_class(name).own_fields(config)

    def unused_keys(self, name: str) -> Mapping[str, str]:
        """Returns RLlib's keys without effect in the algorithm, and what to use."""
        if not is_team_algorithm(name):
            return {}
        from rllib_risk.core.rllib_settings import UNUSED_KEYS

        return UNUSED_KEYS

    def env_fields(self, env: str) -> Mapping[str, Field] | None:
        """Returns all ``env_config`` keys of an env; None if they are unknown."""
        from rllib_risk.env_wrappers import registry

        if env not in registry.ENVS:
            return None
        adapter = {
            key: field_for("", default)
            for key, default in registry.ADAPTER_DEFAULTS.items()
        }
        if env == registry.PETTINGZOO:
            own = {"factory": Field(None, "", str), "kwargs": Field({}, "", dict)}
            return {**own, **adapter}
        factory = registry.import_factory(registry.ENVS[env].factory)
        arguments = signature_fields(factory)
        return None if arguments is None else {**arguments, **adapter}

    def subkeys(self, algorithm: str, key: str) -> Mapping[str, Field] | None:
        """Returns the keys inside a key such as ``model``; None if any are allowed."""
        if key == "model_config" and not is_team_algorithm(algorithm):
            from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

            return signature_fields(DefaultModelConfig)
        if key != "model":
            return None
        defaults = default_config(algorithm).model
        return {name: field_for("", value) for name, value in defaults.items()}

    def metrics(self, algorithm: str) -> tuple[str, ...]:
        """Returns the names of the results that the algorithm reports."""
        return TEAM_METRICS if is_team_algorithm(algorithm) else RLLIB_METRICS
