"""Tune's trial schedulers and searchers by name, with checked arguments.

``ray.tune.create_scheduler`` drops arguments that it does not know without a word.
Here a misspelt argument is an error. Ray is imported inside the functions only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_risk.config.rllib_keys import signature_fields
from rllib_risk.config.schema import ConfigError, Field, check_value, suggest
from rllib_risk.config.search_space import Domain, is_domain, parse_domain

# Name (lower case): the class. Ray's own spellings are accepted beside the short ones.
SCHEDULERS: dict[str, str] = {
    "fifo": "ray.tune.schedulers:FIFOScheduler",
    "asha": "ray.tune.schedulers:ASHAScheduler",
    "async_hyperband": "ray.tune.schedulers:ASHAScheduler",
    "asynchyperband": "ray.tune.schedulers:ASHAScheduler",
    "hyperband": "ray.tune.schedulers:HyperBandScheduler",
    "median_stopping": "ray.tune.schedulers:MedianStoppingRule",
    "median_stopping_rule": "ray.tune.schedulers:MedianStoppingRule",
    "medianstopping": "ray.tune.schedulers:MedianStoppingRule",
    "pbt": "ray.tune.schedulers:PopulationBasedTraining",
}
SEARCHERS: dict[str, str] = {
    "random": "ray.tune.search.basic_variant:BasicVariantGenerator",
    "optuna": "ray.tune.search.optuna:OptunaSearch",
}
_MUTATIONS = "hyperparam_mutations"
# Arguments that take Python objects, which YAML cannot hold.
_CODE_ARGUMENTS = ("custom_explore_fn", "sampler", "space", "storage")


class ClipToBounds:
    """Keeps the values that PBT mutates inside their ranges.

    PBT multiplies a value by 1.2 or 0.8, again and again, whatever range it was drawn
    from: a discount of 0.99 would become 1.19. Used as ``custom_explore_fn``.

    Attributes:
        bounds: For each mutated key path the smallest and the largest value.
    """

    def __init__(self, bounds: Mapping[tuple[str, ...], tuple[float, float]]) -> None:
        """Keeps the bounds."""
        self.bounds = dict(bounds)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """Returns ``config`` with every bounded value clipped, in place."""
        for path, (low, high) in self.bounds.items():
            place = config
            for key in path[:-1]:
                place = place.get(key, {})
            if path[-1] in place:
                place[path[-1]] = min(max(place[path[-1]], low), high)
        return config


@dataclass(frozen=True)
class Component:
    """A scheduler or searcher: a class and checked arguments.

    Attributes:
        name: The name that the user gave.
        class_path: ``module:Class``.
        arguments: Its arguments; search spaces in them are :class:`Domain` objects.
        bounds: Range of each mutated key (PBT only).
    """

    name: str
    class_path: str
    arguments: dict[str, Any]
    bounds: dict[tuple[str, ...], tuple[float, float]] = field(default_factory=dict)

    def build(self, metric: str, mode: str) -> Any:
        """Makes the object.

        Args:
            metric: What to compare trials by, unless the arguments say it.
            mode: ``max`` or ``min``.

        Returns:
            The scheduler or searcher.

        Raises:
            ConfigError: If the class refuses the arguments.
        """
        component = _load(self.class_path, self.name)
        known = signature_fields(component) or {}
        arguments = _to_tune(self.arguments)
        if "metric" in known:
            arguments.setdefault("metric", metric)
            arguments.setdefault("mode", mode)
        if self.bounds:
            arguments["custom_explore_fn"] = ClipToBounds(self.bounds)
        try:
            return component(**arguments)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{self.name}: {error}") from error


def parse_scheduler(
    name: Any, arguments: Any, fields: Mapping[str, Field] | None = None
) -> Component:
    """Checks a scheduler's name and arguments.

    Args:
        name: Such as ``asha`` or ``PBT``.
        arguments: Its arguments from YAML or JSON, or None.
        fields: The algorithm's keys, against which the values of PBT's
            ``hyperparam_mutations`` are checked.

    Returns:
        The scheduler, not yet made.

    Raises:
        ConfigError: If the name or an argument is unknown, or a value is wrong.
    """
    class_path = _class_path("scheduler", name, SCHEDULERS)
    arguments = dict(_mapping("scheduler_config", arguments))
    mutations = arguments.pop(_MUTATIONS, None)
    checked = _check_arguments(str(name), class_path, arguments)
    bounds: dict[tuple[str, ...], tuple[float, float]] = {}
    if "Population" in class_path:
        if not mutations:
            raise ConfigError(f"{name}: needs '{_MUTATIONS}': the keys to mutate.")
        checked[_MUTATIONS] = _parse_mutations(
            _mapping(_MUTATIONS, mutations), fields, (), bounds
        )
    elif mutations is not None:
        raise ConfigError(f"{name}: unknown argument '{_MUTATIONS}' (only pbt has it).")
    return Component(str(name), class_path, checked, bounds)


def parse_searcher(name: Any, arguments: Any) -> Component:
    """Checks a searcher's name and arguments; see :func:`parse_scheduler`."""
    class_path = _class_path("search_alg", name, SEARCHERS)
    checked = _check_arguments(
        str(name), class_path, dict(_mapping("search_alg_config", arguments))
    )
    return Component(str(name), class_path, checked)


def _class_path(what: str, name: Any, known: Mapping[str, str]) -> str:
    class_path = known.get(str(name).lower())
    if class_path is None:
        raise ConfigError(
            f"{what}: unknown name {name!r}.{suggest(str(name).lower(), known)}"
            f" Known: {', '.join(known)}."
        )
    return class_path


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: must be a mapping of names to values, not {value!r}")
    return value


def _load(class_path: str, name: str) -> Any:
    module, _, attribute = class_path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ConfigError(f"{name}: cannot be imported: {error}") from error


def _check_arguments(
    name: str, class_path: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    component = _load(class_path, name)
    known = signature_fields(component) or {}
    usable = [key for key in known if key not in _CODE_ARGUMENTS]
    checked = {}
    for key, value in arguments.items():
        if key not in usable:
            raise ConfigError(
                f"{name}: unknown argument '{key}'.{suggest(str(key), usable)}"
                f" Known: {', '.join(usable) or 'none'}."
            )
        try:
            checked[key] = check_value(key, value, known[key])
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        if key == "mode" and value not in ("min", "max"):
            raise ConfigError(f"{name}: mode: must be min or max, not {value!r}.")
    return checked


def _parse_mutations(
    mutations: Mapping[str, Any],
    fields: Mapping[str, Field] | None,
    path: tuple[str, ...],
    bounds: dict[tuple[str, ...], tuple[float, float]],
) -> dict[str, Any]:
    """Reads PBT's mutations; fills ``bounds`` for :class:`ClipToBounds`."""
    parsed: dict[str, Any] = {}
    for key, value in mutations.items():
        name = f"{_MUTATIONS}: {'.'.join((*path, str(key)))}"
        known = fields.get(key) if fields is not None else None
        if fields is not None and known is None:
            raise ConfigError(f"{name}: unknown key.{suggest(str(key), fields)}")

        def check(candidate: Any, name: str = name, known: Field | None = known) -> Any:
            return check_value(name, candidate, known) if known else candidate

        if isinstance(value, list):
            parsed[key] = [check(candidate) for candidate in value]
        elif is_domain(value):
            domain = parse_domain(name, value, known, check)
            if domain.kind == "grid_search":
                raise ConfigError(f"{name}: PBT samples; use choice or a sampler.")
            parsed[key] = domain
            _note_bounds(domain, known, (*path, str(key)), bounds)
        elif isinstance(value, Mapping):
            parsed[key] = _parse_mutations(value, None, (*path, str(key)), bounds)
        else:
            raise ConfigError(
                f"{name}: must be a list of values or a sampler such as"
                f" {{uniform: [low, high]}}, not {value!r}."
            )
    return parsed


def _note_bounds(
    domain: Domain,
    known: Field | None,
    path: tuple[str, ...],
    bounds: dict[tuple[str, ...], tuple[float, float]],
) -> None:
    if domain.kind.endswith("normal"):
        low = -float("inf") if known is None or known.low is None else known.low
        high = float("inf") if known is None or known.high is None else known.high
        bounds[path] = (low, high)
    elif domain.kind != "choice":
        bounds[path] = (domain.candidates[0], domain.candidates[1])


def _to_tune(value: Any) -> Any:
    if isinstance(value, Domain):
        return value.to_tune()
    if isinstance(value, Mapping):
        return {key: _to_tune(item) for key, item in value.items()}
    return value
