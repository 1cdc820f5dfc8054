"""Parses Tune's search spaces in YAML.

A search space is a mapping from the name of a sampler to a list::

    lr: {loguniform: [1e-4, 1e-3]}
    seed: {grid_search: [0, 1, 2]}

It may replace any value, also inside mappings and lists. The values of a list may
contain search spaces too. All values that a search space can give are checked against
the declaration of the key before a run starts. :meth:`Domain.to_tune` makes Ray's own
objects.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rllib_risk.config.schema import ConfigError, Field, suggest
from rllib_risk.config.yaml_reader import KeyPath

# Names of the arguments of each sampler, and whether it gives whole numbers.
SAMPLERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "uniform": (("low", "high"), False),
    "quniform": (("low", "high", "q"), False),
    "loguniform": (("low", "high"), False),
    "qloguniform": (("low", "high", "q"), False),
    "normal": (("mean", "sd"), False),
    "qnormal": (("mean", "sd", "q"), False),
    "randint": (("low", "high"), True),
    "qrandint": (("low", "high", "q"), True),
    "lograndint": (("low", "high"), True),
}
LISTS = ("grid_search", "choice")

Checker = Callable[[Any], Any]


@dataclass(frozen=True)
class Domain:
    """A search space: a set of values to choose from.

    Attributes:
        kind: ``grid_search``, ``choice`` or the name of a sampler.
        args: The values to choose from, which may contain search spaces; or the
            arguments of the sampler.
    """

    kind: str
    args: tuple[Any, ...]

    @property
    def candidates(self) -> tuple[Any, ...]:
        """All values of a list, the ends of a sampler's interval, or a mean."""
        if self.kind in LISTS:
            return self.args
        if self.kind in ("normal", "qnormal"):
            return self.args[:1]
        if self.kind in ("randint", "lograndint"):
            # Ray's upper end is exclusive here (and inclusive in qrandint).
            return self.args[0], self.args[1] - 1
        return self.args[:2]

    def to_tune(self) -> Any:
        """Returns the object that ``ray.tune`` understands."""
        from ray import tune

        if self.kind in LISTS:
            values = [map_domains(value, Domain.to_tune) for value in self.args]
            return getattr(tune, self.kind)(values)
        # Ray's name of the normal distribution is ``randn``.
        name = {"normal": "randn", "qnormal": "qrandn"}.get(self.kind, self.kind)
        return getattr(tune, name)(*self.args)


def is_domain(value: Any) -> bool:
    """Returns whether a YAML value is written as a search space."""
    return (
        isinstance(value, Mapping)
        and len(value) == 1
        and next(iter(value)) in (*LISTS, *SAMPLERS)
    )


def is_domain_with_list(value: Any) -> bool:
    """Like :func:`is_domain`, for keys whose value may be a mapping.

    A user's own ``{normal: true}`` is a plain value, because a sampler has a list. Tune
    itself treats every mapping with ``grid_search`` as a search space.
    """
    if not is_domain(value):
        return False
    ((kind, args),) = value.items()
    return isinstance(args, list) or kind == "grid_search"


def parse_domain(
    key: str, value: Mapping[str, Any], field: Field | None, check: Checker
) -> Domain:
    """Reads and checks one search space.

    Args:
        key: The configuration key, for messages.
        value: A mapping that :func:`is_domain` accepts.
        field: The key's declaration; None: unknown.
        check: Function that checks one value of the key and returns it, converted if
            necessary.

    Returns:
        The search space.

    Raises:
        ConfigError: If the arguments are wrong, or the key does not accept a value that
            the search space can give.
    """
    kind, args = next(iter(value.items()))
    if not isinstance(args, list) or not args:
        raise ConfigError(
            f"{key}: {kind} needs a list of values, as in {{{kind}: [...]}}."
        )
    if kind in LISTS:
        return Domain(kind, tuple(check(candidate) for candidate in args))
    names, whole = SAMPLERS[kind]
    _check_sampler(key, kind, args, names, whole)
    _check_kind(key, kind, whole, field)
    domain = Domain(kind, tuple(args))
    for candidate in domain.candidates:
        check(candidate)
    return domain


def _check_kind(key: str, kind: str, whole: bool, field: Field | None) -> None:
    """Refuses a sampler whose numbers are of the wrong kind for the key."""
    types = field.types if field else (object,)
    accepted = {object, float, int} if whole else {object, float}
    if not accepted.intersection(types):
        other = "choice" if whole else "randint or choice"
        raise ConfigError(
            f"{key}: {kind} gives {'whole ' if whole else ''}numbers, which this key"
            f" does not accept. Use {other}."
        )


def _check_sampler(
    key: str, kind: str, args: list[Any], names: tuple[str, ...], whole: bool
) -> None:
    wanted = f"{{{kind}: [{', '.join(names)}]}}"
    if len(args) != len(names):
        raise ConfigError(f"{key}: {kind} must be written {wanted}, not with {args}.")
    accepted = int if whole else (int, float)
    for name, arg in zip(names, args, strict=True):
        if isinstance(arg, bool) or not isinstance(arg, accepted):
            what = "whole number" if whole else "number"
            raise ConfigError(f"{key}: {kind}: {name} must be a {what}, not {arg!r}.")
    first, second = args[:2]
    if names[0] == "low" and first >= second:
        raise ConfigError(f"{key}: {kind}: low must be below high, not {args}.")
    if kind.lstrip("q").startswith("log") and first <= 0:
        raise ConfigError(f"{key}: {kind}: low must be above 0, not {first}.")
    if names[-1] == "q" and args[-1] <= 0:
        raise ConfigError(f"{key}: {kind}: q must be above 0, not {args[-1]}.")
    if names == ("low", "high", "q"):
        for name, end in zip(names, args[:2], strict=False):
            # Tune refuses this too, but too late for a message with the line.
            if not math.isclose(end / args[-1], round(end / args[-1]), abs_tol=1e-9):
                raise ConfigError(
                    f"{key}: {kind}: {name} must be a multiple of q, but {end} is not a"
                    f" multiple of {args[-1]}."
                )


def misspelt_sampler(value: Any) -> str:
    """Returns a hint if a mapping looks like a search space with a typo."""
    if isinstance(value, Mapping) and len(value) == 1:
        name, args = next(iter(value.items()))
        if isinstance(args, list):
            return suggest(str(name), (*LISTS, *SAMPLERS))
    return ""


def walk_domains(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Domain]]:
    """Yields all search spaces of a configuration with their paths.

    Args:
        value: A configuration or a part of one.
        path: Path of the part.

    Yields:
        Path in the document, and search space. Search spaces inside the second value of
        a choice at ``env_config`` are below ``("env_config", "choice", 1)``.
    """
    if isinstance(value, Domain):
        yield path, value
        if value.kind in LISTS:
            for index, option in enumerate(value.args):
                yield from walk_domains(option, (*path, value.kind, index))
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        yield from walk_domains(item, (*path, key))


def map_domains(value: Any, change: Callable[[Domain], Any]) -> Any:
    """Returns a copy of ``value`` with ``change`` applied to every search space in it.

    ``change`` itself must handle search spaces inside another search space.
    """
    if isinstance(value, Domain):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_domains(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_domains(item, change) for item in value)
    return value


def concrete_configs(config: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
    """Returns configurations without search spaces that represent all samples.

    The first configuration uses the first candidate of every search space. Each other
    one changes a single search space to another candidate. Combinations are left out,
    because there may be very many.

    Args:
        config: A configuration with search spaces.
        limit: Maximum number of configurations.
    """
    return list(itertools.islice(_concrete(config), limit))


def _concrete(value: Any) -> Iterator[Any]:
    """Yields values without search spaces; see :func:`concrete_configs`."""
    if isinstance(value, Domain):
        for candidate in value.candidates:
            yield from _concrete(candidate)
    elif isinstance(value, Mapping):
        keys = list(value)
        for items in _one_changed([value[key] for key in keys]):
            yield dict(zip(keys, items, strict=True))
    elif type(value) in (list, tuple):
        yield from map(type(value), _one_changed(list(value)))
    else:
        yield value


def _one_changed(items: list[Any]) -> Iterator[list[Any]]:
    """Yields the first value of each item, then lists with one item changed."""
    first = [next(_concrete(item)) for item in items]
    yield first
    for index, item in enumerate(items):
        for other in itertools.islice(_concrete(item), 1, None):
            yield [*first[:index], other, *first[index + 1 :]]
