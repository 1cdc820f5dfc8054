"""Flattens a nested search space for Ray's searchers, and nests their suggestions.

Ray's searchers take a mapping of names to plain samplers. In this package a search
space may be nested: in a list, or inside a value of another search space. Its path in
the configuration becomes its name. A searcher suggests a value for each name, and
:func:`fill` puts the values into the configuration. Suggestions inside a value that was
not chosen are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import LISTS, Domain, walk_domains
from rllib_risk.config.yaml_reader import KeyPath

_PLAIN = (bool, int, float, str)


def name_of(path: KeyPath) -> str:
    """Returns the name of the search space at a path."""
    # Joined by dots: Tune's searchers turn names with slashes into nested mappings.
    return ".".join(map(str, path))


def flatten_space(config: Mapping[str, Any]) -> dict[str, Domain]:
    """Returns all search spaces by name.

    A choice among values other than numbers and texts becomes a choice of their
    indices. Samplers with steps (such as ``quniform``) lose the step, which few
    searchers support. :func:`fill` rounds instead.

    Args:
        config: A configuration with search spaces.
    """
    return {name_of(path): _plain(domain) for path, domain in walk_domains(config)}


def _plain(domain: Domain) -> Domain:
    if domain.kind in LISTS:
        return domain if _is_plain(domain) else Domain("choice", _indices(domain))
    if not domain.kind.startswith("q"):
        return domain
    kind, (low, high) = domain.kind[1:], domain.args[:2]
    # Ray's upper end is inclusive in qrandint, and exclusive in randint.
    return Domain(kind, (low, high + 1 if kind == "randint" else high))


def _is_plain(domain: Domain) -> bool:
    return all(isinstance(value, _PLAIN) for value in domain.args)


def _indices(domain: Domain) -> tuple[int, ...]:
    return tuple(range(len(domain.args)))


def fill(value: Any, flat: Mapping[str, Any], path: KeyPath = ()) -> Any:
    """Replaces the search spaces of a configuration by suggested values.

    Args:
        value: A configuration with search spaces, or a part of one.
        flat: Values by the names of :func:`flatten_space`.
        path: Path of the part in the configuration.

    Returns:
        A copy without search spaces.
    """
    if isinstance(value, Domain):
        suggested = flat[name_of(path)]
        # Some searchers suggest NumPy numbers.
        suggested = suggested.item() if hasattr(suggested, "item") else suggested
        if value.kind not in LISTS:
            return _rounded(value, suggested)
        if _is_plain(value):
            return suggested
        index = int(suggested)
        return fill(value.args[index], flat, (*path, value.kind, index))
    if isinstance(value, Mapping):
        return {key: fill(item, flat, (*path, key)) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(fill(x, flat, (*path, i)) for i, x in enumerate(value))
    return value


def searched_part(value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a configuration that has search spaces.

    Lists with search spaces are kept whole, because Tune merges only mappings.
    """
    kept = {key: item for key, item in value.items() if any(walk_domains(item))}
    return {
        key: searched_part(item) if isinstance(item, Mapping) else item
        for key, item in kept.items()
    }


def _rounded(domain: Domain, value: Any) -> Any:
    if not domain.kind.startswith("q"):
        return value
    low, high, step = domain.args
    if domain.kind == "qnormal":
        low, high = -math.inf, math.inf
    rounded = min(max(round(value / step) * step, low), high)
    return int(rounded) if domain.kind == "qrandint" else float(rounded)


def flatten_point(
    config: Mapping[str, Any], point: Any, *, partial: bool = False
) -> dict[str, Any]:
    """Flattens a start point of a search (``points_to_evaluate``).

    Args:
        config: A configuration with search spaces.
        point: Values for all search spaces, nested like the configuration.
        partial: Whether values may be left out.

    Returns:
        Values by the names of :func:`flatten_space`. A search space inside a value that
        the point does not choose gets its first candidate, which is not used.

    Raises:
        ConfigError: If a value is missing, unknown or not in the search space.
    """
    chosen: dict[str, Any] = {}
    _read_point(searched_part(config), point, (), chosen, partial)
    space = flatten_space(config)
    return {name: chosen.get(name, d.candidates[0]) for name, d in space.items()}


def _read_point(
    space: Any, point: Any, path: KeyPath, found: dict[str, Any], partial: bool = False
) -> None:
    where = name_of(path) or "a point"
    if isinstance(space, Domain):
        _read_value(space, point, path, found)
    elif isinstance(space, Mapping):
        if not isinstance(point, Mapping):
            raise ConfigError(f"{where}: must be a mapping, not {point!r}.")
        for key in point:
            if key not in space:
                raise ConfigError(f"{where}: {key!r} has no search space.")
        for key, item in space.items():
            if any(walk_domains(item)) and key not in point and not partial:
                raise ConfigError(f"{name_of((*path, key))}: has no value.")
            if key in point:
                _read_point(item, point[key], (*path, key), found, partial)
    elif isinstance(space, list | tuple):
        if not isinstance(point, list) or len(point) != len(space):
            raise ConfigError(f"{where}: must be a list of {len(space)} values.")
        for index, (item, value) in enumerate(zip(space, point, strict=True)):
            _read_point(item, value, (*path, index), found)
    elif space != point:
        raise ConfigError(f"{where}: is {space!r} in config, not {point!r}.")


def _read_value(
    domain: Domain, value: Any, path: KeyPath, found: dict[str, Any]
) -> None:
    name = name_of(path)
    if domain.kind in LISTS:
        for index, option in enumerate(domain.args):
            inside: dict[str, Any] = {}
            try:
                _read_point(option, value, (*path, domain.kind, index), inside)
            except ConfigError:
                continue
            # The point may say 1 where the list has 1.0.
            found |= {name: option if _is_plain(domain) else index, **inside}
            return
        raise ConfigError(f"{name}: {value!r} is not one of its values.")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    low, high = (-math.inf, math.inf) if "normal" in domain.kind else domain.candidates
    if not number or not low <= value <= high:
        raise ConfigError(f"{name}: {value!r} is not one of its values.")
    found[name] = (
        value if isinstance(domain.args[0], int) and _whole(domain) else (float(value))
    )


def _whole(domain: Domain) -> bool:
    return domain.kind in ("randint", "qrandint", "lograndint")
