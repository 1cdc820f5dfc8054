"""Checks the keys that population based training changes in a running trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rllib_risk.config.schema import ConfigError, Field, check_value, suggest
from rllib_risk.config.search_space import (
    Domain,
    is_domain,
    map_domains,
    parse_domain,
)

Path = tuple[str, ...]
Bounds = dict[Path, tuple[float, float]]
# Argument of the scheduler, range of each key, and search space of each key.
Parsed = tuple[dict[str, Any], Bounds, dict[Path, Domain]]


def parse_mutations(
    argument: str, given: Mapping[str, Any], fields: Mapping[str, Field] | None
) -> Parsed:
    """Checks PBT's ``hyperparam_mutations``.

    Args:
        argument: Name of the argument, for messages.
        given: Mapping of each key to a list or sampler; nested keys in mappings.
        fields: The algorithm's keys; None: unknown.

    Returns:
        The argument for PBT, the range of each key that has one, and the search space
        of each key.

    Raises:
        ConfigError: If a key is unknown or must not mutate, or a value is wrong.
    """
    parsed: dict[str, Any] = {}
    bounds: Bounds = {}
    spaces: dict[Path, Domain] = {}
    for path, value, known in _leaves(argument, given, fields):
        name = f"{argument}: {'.'.join(path)}"

        def check(candidate: Any, name: str = name, known: Field | None = known) -> Any:
            return check_value(name, candidate, known) if known else candidate

        if isinstance(value, list):
            mutation: Any = [check(candidate) for candidate in value]
            spaces[path] = Domain("choice", tuple(mutation))
        elif is_domain(value):
            domain = parse_domain(name, value, known, check)
            if domain.kind == "grid_search":
                raise ConfigError(
                    f"{name}: PBT draws values and cannot run a grid. Use choice or a"
                    " sampler."
                )
            # PBT multiplies a sampled value; from a list it takes a neighbour.
            mutation = list(domain.args) if domain.kind == "choice" else domain
            spaces[path] = domain
            if domain.kind != "choice":
                bounds[path] = _bounds(domain, known)
        else:
            raise ConfigError(
                f"{name}: must be a list of values or a sampler such as"
                f" {{uniform: [low, high]}}, not {value!r}."
            )
        _put(parsed, path, mutation)
    return parsed, bounds, spaces


def parse_bounds(
    argument: str, given: Mapping[str, Any], fields: Mapping[str, Field] | None
) -> Parsed:
    """Checks PB2's ``hyperparam_bounds``: ``[low, high]`` for each key.

    See :func:`parse_mutations`.
    """
    parsed: dict[str, Any] = {}
    bounds: Bounds = {}
    for path, value, known in _leaves(argument, given, fields):
        name = f"{argument}: {'.'.join(path)}"
        if not (
            isinstance(value, list)
            and len(value) == 2
            and all(_is_number(end) for end in value)
            and value[0] < value[1]
        ):
            raise ConfigError(
                f"{name}: must be two ascending numbers [low, high], not {value!r}."
            )
        ends = [check_value(name, end, known) if known else end for end in value]
        _put(parsed, path, ends)
        bounds[path] = (ends[0], ends[1])
    return parsed, bounds, {p: Domain("uniform", ends) for p, ends in bounds.items()}


def _leaves(
    argument: str,
    given: Mapping[str, Any],
    fields: Mapping[str, Field] | None,
    path: Path = (),
) -> Iterator[tuple[Path, Any, Field | None]]:
    """Yields path, written value and declaration of every key."""
    for key, value in given.items():
        name = f"{argument}: {'.'.join((*path, str(key)))}"
        known = fields.get(key) if fields is not None else None
        if fields is not None and known is None:
            raise ConfigError(f"{name}: unknown key.{suggest(str(key), fields)}")
        if known is not None and known.fixed:
            raise ConfigError(
                f"{name}: cannot change during a run, because networks, checkpoints or"
                " resources depend on it. Keys that can change:"
                f" {', '.join(_may_mutate(fields))}."
            )
        if isinstance(value, Mapping) and not is_domain(value):
            yield from _leaves(argument, value, None, (*path, str(key)))
        else:
            yield (*path, str(key)), value, known


def _may_mutate(fields: Mapping[str, Field] | None) -> list[str]:
    """Returns the names of numeric keys that may change during a run."""
    return sorted(
        key
        for key, field in (fields or {}).items()
        if not field.fixed
        and {int, float} & {*field.types}
        and (field.doc or field.low is not None)
    )


def _bounds(domain: Domain, known: Field | None) -> tuple[float, float]:
    if not domain.kind.endswith("normal"):
        return domain.candidates[0], domain.candidates[1]
    low = -float("inf") if known is None or known.low is None else known.low
    high = float("inf") if known is None or known.high is None else known.high
    return low, high


def _put(tree: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_start(
    mutated: Iterable[Path], bounds: Bounds, config: Mapping[str, Any]
) -> None:
    """Checks that every mutating key has a start value.

    Args:
        mutated: The mutating keys.
        bounds: Ranges of the keys that PBT multiplies.
        config: The experiment's configuration, with search spaces.

    Raises:
        ConfigError: If a start value is missing or has the wrong type. Tune would then
            fail during the run.
    """
    for path in mutated:
        name, place = ".".join(path), config
        # Tune draws a start value for a missing key at the top level, but not below.
        for depth, key in enumerate(path):
            if not isinstance(place, Mapping) or key not in place:
                if depth == 0:
                    break
                raise ConfigError(
                    f"{name}: has no start value. Give it a value in 'config'."
                )
            place = place[key]
        else:
            if path in bounds and not (_is_number(place) or isinstance(place, Domain)):
                raise ConfigError(
                    f"{name}: PBT multiplies this key, so its start value in 'config'"
                    f" must be a number, not {place!r}."
                )


def with_mutations(
    config: Mapping[str, Any], mutated: Mapping[Path, Domain]
) -> dict[str, Any]:
    """Returns a configuration whose mutating keys are search spaces.

    Args:
        config: The experiment's configuration, checked by :func:`check_start`.
        mutated: Search space of each mutating key.
    """
    changed: dict[str, Any] = map_domains(config, lambda domain: domain)  # a copy
    for path, domain in mutated.items():
        place = changed
        for key in path[:-1]:
            place = place.setdefault(key, {})
        if path[-1] in place:
            domain = Domain("choice", (place[path[-1]], domain))
        place[path[-1]] = domain
    return changed
