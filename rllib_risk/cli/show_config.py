"""``rllib train file --show-config``: prints every value and its origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from rllib_risk.cli.catalog import RLlibCatalog, default_config, is_team_algorithm
from rllib_risk.cli.preflight import MAX_CONFIGS, build_config, risk_line
from rllib_risk.config.experiment_keys import (
    CHECKPOINT_FIELDS,
    EXPERIMENT_FIELDS,
    OLD_CHECKPOINT_KEYS,
)
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.loading import examples_root
from rllib_risk.config.rllib_keys import ALIASES
from rllib_risk.config.search_space import (
    concrete_configs,
    is_domain,
    is_domain_with_list,
)
from rllib_risk.config.yaml_reader import Document, KeyPath

# Column where the origins begin, unless the line is longer.
_COLUMN = 52
_PLAIN = (bool, int, float, str, type(None))
_DEFAULT = "default"
_NONE: tuple[Any, ...] = (None, {}, [], ())
_CHECKPOINT = "checkpoint_config"
# Keys of an experiment that are shown with their default.
_EXPERIMENT_KEYS = ("num_samples", "max_failures")


class _Value(NamedTuple):
    """A value that no file or option sets, and its origin."""

    value: Any
    origin: str


def configuration_text(specs: Sequence[ExperimentSpec]) -> str:
    """Returns experiments as YAML, each value with its origin as a comment.

    No env is built and Ray is not started. The first line of an experiment says which
    risk its team controls. An origin is a line of a file, an option of the command
    line, a preset, the algorithm, the environment, or the general default. RLlib's keys
    that are null or empty by default are left out.

    Args:
        specs: The checked experiments.
    """
    return "\n".join(line for spec in specs for line in _experiment(spec))


def _experiment(spec: ExperimentSpec) -> Iterator[str]:
    if risk := risk_line(_risks(spec)):
        yield f"# {risk}"
    document, path = _written(spec)
    section = dict(document.data[spec.name])
    config = section.pop("config", None) or {}
    yield _line(0, f"{spec.name}:", document.where(*path))
    for key, value in section.items():
        if key != _CHECKPOINT and key not in OLD_CHECKPOINT_KEYS:
            yield from _lines(key, value, document, (*path, key), 1)
    for key in _EXPERIMENT_KEYS:
        if key not in section:
            yield _line(1, f"{key}: {EXPERIMENT_FIELDS[key].default}", _DEFAULT)
    yield from _checkpoints(section, document, path)
    yield "  config:"
    for key, value in config.items():
        if key != "env_config":
            yield from _lines(key, value, document, (*path, "config", key), 2)
    yield from _env_config(spec, config, document, (*path, "config", "env_config"))
    rest = _not_written(spec, config).items()
    # Values from the algorithm or a preset come before general defaults.
    for key, (value, origin) in sorted(
        rest, key=lambda item: item[1].origin == _DEFAULT
    ):
        yield _line(2, f"{key}: {_flow(value)}", origin)


def _written(spec: ExperimentSpec) -> tuple[Document, KeyPath]:
    """Returns the values that files and options set; a Python file has no lines."""
    document = spec.document
    if document is not None and document.data is not None:
        return document, spec.path
    section = {
        "run": getattr(spec.algorithm, "__name__", spec.algorithm),
        "stop": spec.stop,
        "checkpoint_config": spec.checkpoint,
        "config": spec.config,
    }
    source = "" if document is None else document.source
    return Document({spec.name: section}, source), (spec.name,)


def _checkpoints(
    section: Mapping[str, Any], document: Document, path: KeyPath
) -> Iterator[str]:
    given = {
        new: (section[old], (*path, old))
        for old, new in OLD_CHECKPOINT_KEYS.items()
        if old in section
    }
    for key, value in (section.get(_CHECKPOINT) or {}).items():
        given[key] = (value, (*path, _CHECKPOINT, key))
    yield f"  {_CHECKPOINT}:"
    for key, (value, place) in given.items():
        yield from _lines(key, value, document, place, 2)
    for key, field in CHECKPOINT_FIELDS.items():
        if key not in given:
            yield _line(2, f"{key}: {_flow(field.default)}", _DEFAULT)


def _env_config(
    spec: ExperimentSpec, config: Mapping[str, Any], document: Document, path: KeyPath
) -> Iterator[str]:
    given = config.get("env_config") or {}
    if is_domain_with_list(given):
        yield from _lines("env_config", given, document, path, 2)
        return
    fields = (spec.env and RLlibCatalog().env_fields(spec.env)) or {}
    if given or fields:
        yield "    env_config:"
    for key, value in given.items():
        yield from _lines(key, value, document, (*path, key), 3)
    for key, field in fields.items():
        if key not in given:
            yield _line(3, f"{key}: {_flow(field.default)}", f"default of {spec.env}")


def _not_written(spec: ExperimentSpec, written: Mapping[str, Any]) -> dict[str, _Value]:
    """Returns the keys of the algorithm that neither files nor options set."""
    name = getattr(spec.algorithm, "__name__", spec.algorithm)
    left_out = {ALIASES.get(key, key) for key in written} | {"env", "env_config"}
    values = _defaults(spec.algorithm, name)
    values |= _preset_values(spec.algorithm, written.get("preset"), values)
    configs = [c for c in _configs(spec) if hasattr(c, "composition")]
    values |= _values_of_parts(configs, values)
    if configs:
        unused = (set(config.composition.unused(config)) for config in configs)
        left_out |= set.intersection(*unused)
    return {key: value for key, value in values.items() if key not in left_out}


def _values_of_parts(
    configs: Sequence[Any], defaults: Mapping[str, _Value]
) -> dict[str, _Value]:
    """Returns the keys of own parts, and those that the objective sets.

    Args:
        configs: The configurations of the search space. The keys that their objective
            sets are set in them, too.
        defaults: Values of the keys without these parts.
    """
    found: dict[str, _Value] = {}
    implied: dict[str, list[_Value]] = {}
    for config in configs:
        for slot, part in config.composition.choose(vars(config)).items():
            own = config.own_fields({slot: part.name}) if part.is_own else {}
            for key, field in own.items():
                found[key] = _Value(field.default, f"default of {part.name}")
        objective = config.composition.part("objective", config)
        for key, (usual, value) in objective.implied(config).items():
            if getattr(config, key) == usual:
                setattr(config, key, value)
                origin = f"objective {config.objective}"
                implied.setdefault(key, []).append(_Value(value, origin))
    for key, values in implied.items():
        found[key] = values[0]
        if len(values) < len(configs):  # other objectives leave the default
            text = f"{values[0].origin}: {_flow(values[0].value)}"
            before = defaults[key]
            found[key] = _Value(before.value, f"{before.origin}; {text}")
    return found


def _defaults(algorithm: Any, name: str) -> dict[str, _Value]:
    """Returns the default of every key, with its origin."""
    config = _config_of(algorithm)
    own = _own_fields(type(config))
    values = {
        key: _Value(field.default, _chosen_by(type(config), key, name))
        for key, field in own.items()
    }
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    general = AlgorithmConfig().to_dict()
    for key, value in config.to_dict().items():
        if key in own or not _is_shown(key, algorithm):
            continue
        same = key in general and _is_plain(value) and value == general[key]
        if _is_plain(value) and not (same and value in _NONE):
            origin = _DEFAULT if same else f"default of {name}"
            values[key] = _Value(value, origin)
    return values


def _config_of(algorithm: Any) -> Any:
    if isinstance(algorithm, str):
        return default_config(algorithm)
    return algorithm.get_default_config()


def _own_fields(config_class: type[Any]) -> Mapping[str, Any]:
    fields = getattr(config_class, "fields", None)
    return {} if fields is None else fields()


def _chosen_by(config_class: type[Any], key: str, name: str) -> str:
    """Returns the origin of a default: the algorithm, or the general default."""
    default = _own_fields(config_class)[key].default
    for parent in reversed(config_class.__mro__):
        fields = _own_fields(parent)
        if key in fields:
            return _DEFAULT if fields[key].default == default else f"default of {name}"
    return _DEFAULT


def _is_shown(key: str, algorithm: Any) -> bool:
    """Returns whether setting one of RLlib's keys has an effect."""
    if key.startswith(("_", "callbacks")):
        return False
    if not is_team_algorithm(algorithm):
        return True
    from rllib_risk.core.rllib_settings import HONOURED, key_of

    return key in {key_of(attribute) for attribute in HONOURED}


def _preset_values(
    algorithm: Any, preset: Any, defaults: Mapping[str, _Value]
) -> dict[str, _Value]:
    """Returns the values that a preset sets; several presets are listed together."""
    presets = getattr(_config_of(algorithm), "presets", {})
    if isinstance(preset, str):
        chosen = presets.get(preset, {})
        return {k: _Value(v, f"preset {preset}") for k, v in chosen.items()}
    if not is_domain(preset):
        return {}
    ((_, names),) = preset.items()
    found: dict[str, _Value] = {}
    for name in names:
        for key, value in presets.get(name, {}).items():
            before = found.get(key, defaults[key])
            origin = f"{before.origin}; preset {name}: {_flow(value)}"
            found[key] = _Value(before.value, origin)
    return found


def _lines(
    key: str, value: Any, document: Document, path: KeyPath, level: int
) -> Iterator[str]:
    """Yields the lines of a value: a block for a mapping, otherwise one line."""
    place = document.where(*path)
    if isinstance(value, Mapping) and value and not is_domain_with_list(value):
        yield f"{'  ' * level}{_flow(key)}:"
        for name, item in value.items():
            yield from _lines(str(name), item, document, (*path, str(name)), level + 1)
        return
    yield _line(level, f"{_flow(key)}: {_flow(value)}", place)


def _line(level: int, text: str, origin: str) -> str:
    # Paths are relative to the package, whose folder does not matter to a user.
    origin = origin.replace(f"{examples_root().parent}{os.sep}", "")
    return f"{'  ' * level + text:<{_COLUMN}}  # {origin}".replace("\n", " ")


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in _PLAIN


def _flow(value: Any) -> str:
    """Formats a value as one line of YAML; other objects as their ``repr``."""
    if not _is_plain(value):
        value = repr(value)
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), sort_keys=False
    )
    return text.removesuffix("\n...\n").strip()


def _risks(spec: ExperimentSpec) -> list[str]:
    """Returns the distinct descriptions of the risk that an experiment controls."""
    risks = (config.risk() for config in _configs(spec) if hasattr(config, "risk"))
    return [*dict.fromkeys(risks)]


def _configs(spec: ExperimentSpec) -> list[Any]:
    """Builds the configurations of the search space; no env is built."""
    return [
        build_config(spec, values)
        for values in concrete_configs(spec.config, MAX_CONFIGS)
    ]
