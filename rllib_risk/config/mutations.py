"""What population based training changes in the configuration of a running trial."""

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
# What a scheduler is given, the range of each key, and what each may become.
Parsed = tuple[dict[str, Any], Bounds, dict[Path, Domain]]


def parse_mutations(
    argument: str, given: Mapping[str, Any], fields: Mapping[str, Field] | None
) -> Parsed:
    """Checks PBT's ``hyperparam_mutations``.

    Args:
        argument: Their name, for messages.
        given: Key to list or sampler; keys of keys in mappings.
        fields: The algorithm's keys; None: not known.

    Returns:
        The mutations for PBT, the range of each key that has one, and what each key
        may become as a search space.

    Raises:
        ConfigError: If a key is unknown or cannot mutate, or a value is wrong.
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
                raise ConfigError(f"{name}: PBT samples; use choice or a sampler.")
            # PBT multiplies what a sampler gave; of a list it takes a neighbour.
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
    """Yields path, what is written there, and declaration of all keys."""
    for key, value in given.items():
        name = f"{argument}: {'.'.join((*path, str(key)))}"
        known = fields.get(key) if fields is not None else None
        if fields is not None and known is None:
            raise ConfigError(f"{name}: unknown key.{suggest(str(key), fields)}")
        if known is not None and known.fixed:
            raise ConfigError(
                f"{name}: cannot change in a run, since networks, checkpoints or"
                f" resources depend on it. What may: {', '.join(_may_mutate(fields))}."
            )
        if isinstance(value, Mapping) and not is_domain(value):
            yield from _leaves(argument, value, None, (*path, str(key)))
        else:
            yield (*path, str(key)), value, known


def _may_mutate(fields: Mapping[str, Field] | None) -> list[str]:
    """Names of the numbers that a run can go on with."""
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
    """Checks that there is a value to begin with for every key that mutates.

    Args:
        mutated: The keys.
        bounds: Those of them that are multiplied, with their ranges.
        config: The experiment's configuration, with search spaces.

    Raises:
        ConfigError: If Tune would stumble over one in the middle of the run.
    """
    for path in mutated:
        name, place = ".".join(path), config
        # Tune draws a value for a key that is not given, but not inside of one.
        for depth, key in enumerate(path):
            if not isinstance(place, Mapping) or key not in place:
                if depth == 0:
                    break
                raise ConfigError(
                    f"{name}: give it a value in 'config' too, to begin with."
                )
            place = place[key]
        else:
            if path in bounds and not (_is_number(place) or isinstance(place, Domain)):
                raise ConfigError(
                    f"{name}: is multiplied as it mutates, so that 'config' must hold a"
                    f" number to begin with, not {place!r}."
                )


def with_mutations(
    config: Mapping[str, Any], mutated: Mapping[Path, Domain]
) -> dict[str, Any]:
    """Returns a configuration with what may become of it as search spaces.

    Args:
        config: The experiment's configuration, checked by :func:`check_start`.
        mutated: What each key may become.
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
