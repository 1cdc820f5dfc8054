"""Tune's trial schedulers by name, with checked arguments.

``ray.tune.create_scheduler`` silently drops unknown arguments. Here a misspelt argument
is an error. Ray is imported only inside functions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_risk.config.imports import import_path
from rllib_risk.config.mutations import Bounds, Path, parse_bounds, parse_mutations
from rllib_risk.config.rllib_keys import signature_fields
from rllib_risk.config.schema import ConfigError, Field, check_value, suggest
from rllib_risk.config.search_space import Domain, map_domains

# Class by lower-case name. Ray's own spellings and short ones are accepted.
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
    "pb2": "ray.tune.schedulers.pb2:PB2",
}
# Required module by name, and its package for `pip install`.
_PACKAGES: dict[str, tuple[str, str]] = {"pb2": ("sklearn", "scikit-learn")}
# Schedulers that change the configuration of a running trial, and the argument that
# names the keys.
_MUTATIONS = {"pbt": "hyperparam_mutations", "pb2": "hyperparam_bounds"}
# Arguments that take Python objects, which YAML cannot hold.
_CODE_ARGUMENTS = ("custom_explore_fn", "sampler", "space", "storage")


class ClipToBounds:
    """Clips the values that PBT mutates to their ranges (a ``custom_explore_fn``).

    PBT multiplies a value by 1.2 or 0.8 repeatedly and ignores its range. A discount of
    0.99 would become 1.19.

    Attributes:
        bounds: Smallest and largest value of each mutated key path.
    """

    def __init__(self, bounds: Mapping[tuple[str, ...], tuple[float, float]]) -> None:
        """Stores the bounds."""
        self.bounds = dict(bounds)

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """Clips every bounded value of ``config`` in place and returns it."""
        for path, (low, high) in self.bounds.items():
            place = config
            for key in path[:-1]:
                place = place.get(key, {})
            if path[-1] in place:
                place[path[-1]] = min(max(place[path[-1]], low), high)
        return config


@dataclass(frozen=True)
class Component:
    """A scheduler or searcher: its class and checked arguments.

    Attributes:
        name: Name that the user gave.
        class_path: Import path ``module:Class``.
        arguments: Arguments; search spaces in them are :class:`Domain` objects.
        bounds: Range of each mutated key; empty without a :attr:`population`.
        mutated: Search space of each mutated key; empty without a :attr:`population`.
    """

    name: str
    class_path: str
    arguments: dict[str, Any]
    bounds: Bounds = field(default_factory=dict)
    mutated: dict[Path, Domain] = field(default_factory=dict)

    @property
    def population(self) -> bool:
        """Whether trials copy checkpoints and configurations from each other."""
        return self.name.lower() in _MUTATIONS

    @property
    def compares(self) -> bool:
        """Whether it compares trials by a metric."""
        known = signature_fields(import_path(self.class_path, self.name)) or {}
        return "metric" in known

    def build(self, metric: str, mode: str) -> Any:
        """Builds the scheduler or searcher.

        Args:
            metric: Metric that compares trials, unless the arguments name one.
            mode: ``max`` or ``min``.

        Returns:
            The scheduler or searcher.

        Raises:
            ConfigError: If the class refuses the arguments.
        """
        component = import_path(self.class_path, self.name)
        known = signature_fields(component) or {}
        arguments = map_domains(self.arguments, Domain.to_tune)
        if "metric" in known:
            arguments.setdefault("metric", metric)
            arguments.setdefault("mode", mode)
        if self.population:
            # The first results may come before the first evaluation.
            arguments.setdefault("require_attrs", False)
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
        name: Name, such as ``asha`` or ``PBT``.
        arguments: Arguments from YAML or JSON; None: none.
        fields: The algorithm's keys, for checking PBT's ``hyperparam_mutations``.

    Returns:
        The checked scheduler, not yet built.

    Raises:
        ConfigError: If the name or an argument is unknown, or a value is wrong.
    """
    class_path = known_entry("scheduler", name, SCHEDULERS)
    module, package = _PACKAGES.get(str(name).lower(), ("", ""))
    require_package(str(name), module, package)
    arguments = dict(mapping("scheduler_config", arguments))
    key = _MUTATIONS.get(str(name).lower())
    for other in _MUTATIONS.values():
        if other != key and other in arguments:
            owner = next(name for name in _MUTATIONS if _MUTATIONS[name] == other)
            raise ConfigError(
                f"{name}: unknown argument '{other}' (only {owner} has it). Leave it"
                " out."
            )
    given = arguments.pop(key, None) if key else None
    checked = check_arguments(str(name), class_path, arguments)
    if key is None:
        return Component(str(name), class_path, checked)
    if not given:
        raise ConfigError(f"{name}: '{key}' is missing. List the keys to mutate in it.")
    parse = parse_mutations if key == "hyperparam_mutations" else parse_bounds
    checked[key], bounds, mutated = parse(key, mapping(key, given), fields)
    return Component(str(name), class_path, checked, bounds, mutated)


def known_entry(what: str, name: Any, known: Mapping[str, Any]) -> Any:
    """Looks up a scheduler or searcher by name.

    Raises:
        ConfigError: If the name is unknown. The message suggests the closest one.
    """
    entry = known.get(str(name).lower())
    if entry is None:
        raise ConfigError(
            f"{what}: unknown name {name!r}.{suggest(str(name).lower(), known)}"
            f" Known: {', '.join(known)}."
        )
    return entry


def require_package(name: str, module: str, package: str) -> None:
    """Refuses a scheduler or searcher whose package is not installed.

    Args:
        name: Name of the scheduler or searcher.
        module: Required module; empty: none.
        package: Name and version of the package for ``pip install``.
    """
    if module and importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"{name}: needs a package that is not installed. Install it with: pip"
            f" install '{package}'"
        )


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    """Returns a mapping of arguments; None is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{key}: must be a mapping of names to values, not {value!r}."
        )
    return value


def check_arguments(
    name: str, class_path: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Checks the arguments of a class by its signature.

    Args:
        name: Name of the scheduler or searcher, for messages.
        class_path: Import path ``module:Class``.
        arguments: The arguments, unchecked.

    Returns:
        The arguments with numbers converted.

    Raises:
        ConfigError: If an argument is unknown or has the wrong type.
    """
    component = import_path(class_path, name)
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
        if key == "metric" and not isinstance(value, str):
            raise ConfigError(f"{name}: metric: must be one name, not {value!r}.")
        if key == "mode" and value not in ("min", "max"):
            raise ConfigError(f"{name}: mode: must be min or max, not {value!r}.")
    return checked
