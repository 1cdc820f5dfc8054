"""Tune's searchers by name, with checked arguments and search spaces.

Tune asks a searcher for the values of each trial and reports the result to it. Ray is
imported only inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_risk.config.flat_space import flatten_point, name_of
from rllib_risk.config.schedulers import (
    Component,
    check_arguments,
    known_entry,
    mapping,
    require_package,
)
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.search_space import walk_domains
from rllib_risk.config.yaml_reader import Document, KeyPath

_USUAL_KINDS = ("choice", "uniform", "loguniform", "randint", "lograndint")
POINTS = "points_to_evaluate"
RANDOM = "random"


@dataclass(frozen=True)
class SearcherEntry:
    """A searcher that this package supports.

    Attributes:
        class_path: Import path ``module:Class``.
        module: Required module; empty: none besides Ray.
        package: Package of the module for ``pip install``.
        kinds: Supported samplers. This package itself adds those with steps, such as
            ``quniform``.
    """

    class_path: str
    module: str = ""
    package: str = ""
    kinds: tuple[str, ...] = _USUAL_KINDS


# Searchers tested with Ray 2.60; docs/configuration.md lists the versions.
SEARCHERS: dict[str, SearcherEntry] = {
    RANDOM: SearcherEntry("ray.tune.search.basic_variant:BasicVariantGenerator"),
    "optuna": SearcherEntry(
        "ray.tune.search.optuna:OptunaSearch", "optuna", "optuna>=3.6"
    ),
    "hyperopt": SearcherEntry(
        "ray.tune.search.hyperopt:HyperOptSearch",
        "hyperopt",
        "hyperopt",
        (*_USUAL_KINDS, "normal"),
    ),
    # Ray uses a class that later versions of the package do not have.
    "bayesopt": SearcherEntry(
        "ray.tune.search.bayesopt:BayesOptSearch",
        "bayes_opt",
        "bayesian-optimization==1.4.3",
        ("uniform",),
    ),
}


def parse_searcher(name: Any, arguments: Any) -> Component:
    """Checks a searcher's name and arguments.

    Args:
        name: Name, such as ``optuna``.
        arguments: Arguments from YAML or JSON; None: none.

    Returns:
        The checked searcher, not yet built.

    Raises:
        ConfigError: If the name or an argument is unknown, a value is wrong, or its
            package is not installed.
    """
    entry = known_entry("search_alg", name, SEARCHERS)
    require_package(str(name), entry.module, entry.package)
    given = dict(mapping("search_alg_config", arguments))
    return Component(
        str(name).lower(),
        entry.class_path,
        check_arguments(str(name), entry.class_path, given),
    )


def check_searcher(
    searcher: Component, config: Mapping[str, Any], document: Document, path: KeyPath
) -> None:
    """Checks that a searcher can search the space of an experiment.

    Args:
        searcher: The searcher.
        config: The experiment's configuration with search spaces.
        document: Document of the experiment.
        path: Path of the experiment in the document.

    Raises:
        ConfigError: If the searcher cannot search it. The message has the place.
    """
    name, simple = searcher.name, searcher.name == RANDOM
    domains = list(walk_domains(config))
    if not domains and not simple:
        raise document.error(
            f"{name}: 'config' has no search space. Add one, or leave search_alg out.",
            *(*path, "search_alg"),
        )
    known = SEARCHERS[name].kinds
    for place, domain in () if simple else domains:
        where, key = (*path, "config", *place), name_of(place)
        if domain.kind == "grid_search":
            raise document.error(
                f"{key}: {name} chooses values itself and cannot run a grid. Write"
                " choice instead, or leave search_alg out.",
                *where,
            )
        if domain.kind.removeprefix("q") not in known:
            raise document.error(
                f"{key}: {name} does not support {domain.kind}. It supports"
                f" {', '.join(known)}.",
                *where,
            )
    for index, point in enumerate(searcher.arguments.get(POINTS) or ()):
        try:
            flatten_point(config, point, partial=simple)
            if simple:
                _refuse_chosen_mappings(domains, point)
        except ConfigError as error:
            raise document.error(
                f"{POINTS}: {error}", *path, "search_alg_config", POINTS, index
            ) from error


def _refuse_chosen_mappings(domains: list[Any], point: Any) -> None:
    """Refuses mappings and lists as values of a choice in a start point.

    For them, Tune's random search looks in the configuration and not in the choice.
    """
    for place, _ in domains:
        value = point
        for key in place:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping | list):
            raise ConfigError(
                f"{name_of(place)}: {RANDOM} cannot start with {value!r}, because it is"
                " not a plain value. Use another searcher, such as optuna."
            )
