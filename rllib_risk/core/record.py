"""Writes a configuration to a checkpoint as JSON, and reads it without trusting it.

A checkpoint may come from anywhere, so it may name only: configuration classes that are
already imported (``rllib_risk.register()`` imports those of this package), known keys,
and registered environments. Import paths of environments and of custom parts name code.
The caller must allow them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ray

from rllib_risk.core.checkpoint import CheckpointError
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.source_version import source_version
from rllib_risk.env_wrappers.registry import GYMNASIUM, PETTINGZOO
from rllib_risk.parts.slots import VALUE_PARTS

# RLlib's keys that a run depends on; ours are all recorded.
_RLLIB_KEYS = (
    "env",
    "env_config",
    "gamma",
    "lr",
    "grad_clip",
    "seed",
    "num_env_runners",
    "num_envs_per_env_runner",
    "num_cpus_per_env_runner",
    "num_gpus",
    "num_learners",
    "num_cpus_per_learner",
    "num_gpus_per_learner",
    "min_sample_timesteps_per_iteration",
    "min_time_s_per_iteration",
    "evaluation_interval",
    "evaluation_duration",
    "evaluation_num_env_runners",
    "evaluation_config",
    "metrics_num_episodes_for_smoothing",
)

# Keys that may name a class by import path.
_PARTS = tuple(VALUE_PARTS.slots)


def to_record(algorithm: str, config: TeamConfig) -> dict[str, Any]:
    """Returns what a checkpoint records of its algorithm, configuration and versions.

    Args:
        algorithm: Name of the algorithm's class.
        config: The configuration.

    Returns:
        A JSON object.
    """
    keys = (*config.all_fields(), *_RLLIB_KEYS)
    values = {key: getattr(config, key) for key in keys}
    return {
        "algorithm": algorithm,
        "config_class": _path(type(config)),
        "config": {key: value for key, value in values.items() if _is_json(value)},
        "versions": {**source_version(), "ray": ray.__version__},
    }


def from_record(record: Mapping[str, Any], *, trust_code: bool) -> TeamConfig:
    """Rebuilds a configuration.

    Args:
        record: Record of :func:`to_record`, read from a file.
        trust_code: Whether code that the record names by import path (an environment's
            factory, a custom part) may be imported and called.

    Returns:
        The configuration; not yet validated.

    Raises:
        CheckpointError: If the record names an unknown class or key, or code that is
            not trusted.
    """
    values = record.get("config")
    cls = _find_class(record)
    if not isinstance(values, dict):
        raise CheckpointError("The checkpoint's config.json holds no configuration.")
    if not trust_code:
        for path in named_code(values):
            raise CheckpointError(
                f"The checkpoint can be loaded only by importing {path!r}. If you"
                " trust it, say so: rllib evaluate --trust-code, or"
                " rllib_risk.load(path, trust_code=True)."
            )
    config = cls()
    known = {*config.fields(), *config.own_fields(values), *_RLLIB_KEYS}
    if not values.keys() <= known:
        odd = ", ".join(sorted(values.keys() - known))
        raise CheckpointError(
            f"The checkpoint's configuration has unknown keys: {odd}."
        )
    # Set first, so that the preset is not applied again: its values are recorded too.
    config.preset = values.get("preset")
    config.update_from_dict(values)
    config.forget_unused()
    return config


def named_code(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the import paths of a configuration, which Python imports and calls.

    Args:
        values: Keys and values of the configuration.

    Yields:
        Factories of environments, modules that register environments, and custom
        parts.
    """
    evaluation = values.get("evaluation_config") or {}
    for part in (values, evaluation):
        for key in _PARTS:
            named = part.get(key)
            if isinstance(named, str) and ":" in named:
                yield named
        if part.get("env", values.get("env")) not in (GYMNASIUM, PETTINGZOO):
            continue
        variants = part.get("env_variants") or ()
        for env_config in (part.get("env_config") or {}, *variants):
            for key in ("factory", "id"):
                named = env_config.get(key)
                # An id without a module is looked up in registered environments.
                if named is not None and (key == "factory" or ":" in str(named)):
                    yield str(named)


def _find_class(record: Mapping[str, Any]) -> type[TeamConfig]:
    path = record.get("config_class")
    # Only imported classes count, because a file must not cause imports.
    for cls in _subclasses(TeamConfig):
        if path == _path(cls):
            return cls
    raise CheckpointError(
        f"The checkpoint needs the configuration class {path!r}. Import its module"
        " first (rllib evaluate --import MODULE)."
    )


def _subclasses(cls: type[TeamConfig]) -> Iterator[type[TeamConfig]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_json(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))
