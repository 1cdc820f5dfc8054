"""Parses comparisons: several algorithms on one env, with the same seeds.

A file of ``rllib compare`` states once what all algorithms share::

    env: macn
    stop: {num_env_steps_sampled_lifetime: 100_000}
    seeds: [0, 1, 2, 3, 4]
    threshold: -7.0
    config: {gamma: 0.97, mixer: qmix}
    algorithms:
      QMIX:                            # a label that is an algorithm's name
      RMIX-static: {run: RMIX, config: {risk_mode: static}}
      COMA: {without: [mixer]}

Each label becomes one :class:`ExperimentSpec`, with the same checks as a training file.
Errors name the line of the wrong key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rllib_risk.config.checks import Catalog, check_key
from rllib_risk.config.experiment_keys import EXPERIMENT_FIELDS
from rllib_risk.config.experiments import ExperimentSpec, parse_experiment
from rllib_risk.config.flat_space import name_of
from rllib_risk.config.inheritance import (
    Section,
    document_of,
    take_over,
    without_anchors,
)
from rllib_risk.config.loading import import_listed, is_comparison
from rllib_risk.config.schema import MAX_SEED, ConfigError, Field, shown, suggest
from rllib_risk.config.search_space import walk_domains
from rllib_risk.config.yaml_reader import Document, KeyPath

DEFAULT_SEEDS = (0, 1, 2, 3, 4)

_EXPERIMENT_KEYS = (
    "checkpoint_config",
    "max_concurrent_trials",
    "max_failures",
    "resources_per_trial",
    "imports",
)
COMPARISON_FIELDS: dict[str, Field] = {
    "env": Field(
        None,
        "Name of the environment; not needed if all learn from a dataset.",
        str,
    ),
    "stop": Field(
        {}, "Stop criteria: result to the value at which a trial stops.", dict
    ),
    "seeds": Field(list(DEFAULT_SEEDS), "Seeds of every algorithm.", list),
    "threshold": Field(
        None,
        "Return threshold: the table reports the env steps needed to reach it.",
        float,
        optional=True,
    ),
    "config": Field(
        {}, "Configuration that all algorithms share.", dict, optional=True
    ),
    "algorithms": Field(
        {}, "Algorithms: label to `run`, `config` and `without`, all optional.", dict
    ),
    **{key: EXPERIMENT_FIELDS[key] for key in _EXPERIMENT_KEYS},
}
ALGORITHM_FIELDS: dict[str, Field] = {
    "run": Field(None, "Name of the algorithm; null: the label.", str),
    "config": Field({}, "Keys of this algorithm; they override shared keys.", dict),
    "without": Field([], "Shared keys that this algorithm does not use.", list),
}
_ELSEWHERE: dict[str, str] = {
    "num_samples": "write `seeds: [0, 1, 2]`.",
    "seed": "write `seeds: [0, 1, 2]`.",
    "run": "write the names under `algorithms`.",
}
# Keys that must be equal for all algorithms.
_ONE_FOR_ALL: dict[str, str] = {
    "seed": "all algorithms have the same seeds: write them under 'seeds'",
    "env": "all algorithms have the same env: write it under 'env'",
}
_RANGE = re.compile(r"(\d+)-(\d+)")
_MAX_SEEDS = 10_000


@dataclass(frozen=True)
class Comparison:
    """A checked comparison.

    Attributes:
        specs: One experiment per algorithm, without seed. Its name is the label.
        seeds: Seeds of every algorithm.
        threshold: Return threshold: the table reports the env steps to reach it; None:
            no threshold.
    """

    specs: tuple[ExperimentSpec, ...]
    seeds: tuple[int, ...]
    threshold: float | None = None

    def select(self, labels: Sequence[str]) -> Comparison:
        """Returns a comparison of some of the algorithms, in the order of the file.

        Raises:
            ConfigError: If a label does not exist. The message suggests another one.
        """
        known = [spec.name for spec in self.specs]
        for label in labels:
            if label not in known:
                raise ConfigError(
                    f"--algo: the file has no algorithm '{label}'."
                    f"{suggest(label, known)} It has: {', '.join(known)}."
                )
        return replace(self, specs=tuple(s for s in self.specs if s.name in labels))


def parse_seeds(text: str) -> list[int]:
    """Parses seeds of a command line: ``0-4``, ``0,3`` or ``0-2,7``.

    Raises:
        ConfigError: If the text has another form.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match and int(match[2]) - int(match[1]) >= _MAX_SEEDS:
            raise ConfigError(
                f"--seeds: '{part.strip()}' has more than {_MAX_SEEDS:,} seeds. Use"
                " fewer."
            )
        if match and int(match[1]) <= int(match[2]):
            seeds += range(int(match[1]), int(match[2]) + 1)
        elif part.strip().isdecimal():
            seeds.append(int(part))
        else:
            raise ConfigError(f"--seeds: write '0-4' or '0,1,2', not '{text}'.")
    return seeds


def parse_comparison(document: Document, catalog: Catalog) -> Comparison:
    """Parses and checks a comparison.

    Args:
        document: The file, unchecked.
        catalog: Catalog of algorithms and environments.

    Returns:
        The comparison, with a checked experiment for each label.

    Raises:
        ConfigError: If the file is wrong. The message has the place of the first error.
    """
    document = without_anchors(document)
    data = _check_keys(document)
    seeds = _check_seeds(data.get("seeds", list(DEFAULT_SEEDS)), document)
    imports = import_listed(data.get("imports"), document)
    if not data["algorithms"]:
        raise document.error(
            "algorithms: is empty. Name at least one algorithm.", "algorithms"
        )
    shared = _shared(data, document)
    specs = []
    for label, own in data["algorithms"].items():
        try:
            spec = _parse_algorithm(str(label), own, shared, document, catalog)
        except ConfigError as error:
            raise ConfigError(f"{error} (In '{label}'.)") from error
        spec.imports = imports
        specs.append(spec)
    return Comparison(tuple(specs), seeds, data.get("threshold"))


def _shared(data: Mapping[str, Any], document: Document) -> Section:
    """Returns the section that every algorithm inherits."""
    keys = ("env", "stop", "config", *_EXPERIMENT_KEYS)
    shared = {key: data[key] for key in keys if key in data}
    places = {p: where for p, where in document.places.items() if p[0] in shared}
    return Section(shared, places)


def _check_keys(document: Document) -> dict[str, Any]:
    """Checks the top-level keys of the file."""
    data = document.data
    if not is_comparison(data):
        if isinstance(data, Mapping) and any(
            isinstance(value, Mapping) and ("run" in value or "algorithm" in value)
            for value in data.values()
        ):
            raise document.error(
                "this is a training file, not a comparison. Run it with:"
                f" rllib train file {document.source}"
            )
        raise document.error(
            "'algorithms' is missing. List the algorithms to compare under it."
        )
    checked: dict[str, Any] = {}
    for key, value in data.items():
        if key in _ELSEWHERE:
            raise document.error(f"unknown key '{key}': {_ELSEWHERE[key]}", str(key))
        if key not in COMPARISON_FIELDS:
            raise document.error(
                f"unknown key '{key}' of a comparison."
                f"{suggest(str(key), COMPARISON_FIELDS)}"
                " (Keys of the algorithms go under 'config'.)",
                str(key),
            )
        field = COMPARISON_FIELDS[key]
        checked[key] = check_key(str(key), value, field, document, (str(key),))
    checked["config"] = checked.get("config") or {}
    for key, what in (
        ("env", "the environment, or a dataset under 'config' to learn without one"),
        ("stop", "the stop criteria"),
    ):
        if not checked.get(key) and not (key == "env" and _have_datasets(checked)):
            raise document.error(f"'{key}' is missing. Add {what}.")
    return checked


def _have_datasets(data: Mapping[str, Any]) -> bool:
    """Whether all algorithms learn from a dataset, so that they need no env."""
    sections = [data["config"]]
    if "dataset" not in sections[0]:
        own = data.get("algorithms", {}).values()
        sections = [(o or {}).get("config") for o in own if isinstance(o or {}, dict)]
    return bool(sections) and all("dataset" in (config or {}) for config in sections)


def _check_seeds(seeds: list[Any], document: Document) -> tuple[int, ...]:
    if not seeds:
        raise document.error("seeds: is empty. Give at least one seed.", "seeds")
    for index, seed in enumerate(seeds):
        whole = isinstance(seed, int) and not isinstance(seed, bool)
        if not whole or not 0 <= seed <= MAX_SEED:
            raise document.error(
                f"seeds: must be whole numbers from 0 to {MAX_SEED:,}, not"
                f" {shown(seed)}.",
                "seeds",
                index,
            )
        if seed in seeds[:index]:
            raise document.error(
                f"seeds: {seed} is given twice. Leave one out.", "seeds", index
            )
    return tuple(seeds)


def _parse_algorithm(
    label: str,
    own: Any,
    shared: Section,
    document: Document,
    catalog: Catalog,
) -> ExperimentSpec:
    """Builds one experiment from the shared keys and an algorithm's own keys."""
    place: KeyPath = ("algorithms", label)
    own = _check_own(label, own, shared.data["config"], document)
    algorithm = own.setdefault("run", label)
    try:
        catalog.check_algorithm(algorithm)
    except ConfigError as error:
        raise document.error(str(error), *place, "run") from error

    def located(message: str, *path: str | int) -> ConfigError:
        return document.error(message, *place, *path)

    written = document.places.items()
    places = {path[2:]: where for path, where in written if path[:2] == place}
    section = take_over(shared, Section(own, places), located, of_comparison=True)
    view = document_of({label: section}, document.source)
    spec = parse_experiment(label, section.data, view, catalog, (label,))
    for names, domain in walk_domains(spec.config):
        raise view.error(
            f"{name_of(names)}: a comparison cannot have a {domain.kind}. Give each"
            " value its own label.",
            *(label, "config", *names),
        )
    return spec


def _check_own(
    label: str, own: Any, shared: Mapping[str, Any], document: Document
) -> dict[str, Any]:
    """Checks the section of a label; returns it with ``config`` filled in."""
    place: KeyPath = ("algorithms", label)
    own = {} if own is None else own  # "QMIX:" without a value
    if not isinstance(own, Mapping):
        raise document.error(
            f"{label}: must be a mapping with run, config and without, or empty, not"
            f" {own!r}.",
            *place,
        )
    checked: dict[str, Any] = {"config": {}}
    for key, value in own.items():
        inside = (*place, str(key))
        if key not in ALGORITHM_FIELDS:
            raise document.error(
                f"unknown key '{key}' of {label}.{suggest(str(key), ALGORITHM_FIELDS)}"
                " (Keys of the algorithm go under 'config'.)",
                *inside,
            )
        field = ALGORITHM_FIELDS[key]
        checked[key] = check_key(str(key), value, field, document, inside)
    for section, start in ((shared, ()), (checked["config"], place)):
        for key, why in _ONE_FOR_ALL.items():
            if key in section:
                raise document.error(f"{key}: {why}.", *start, "config", key)
    if "env_config" in checked["config"]:
        raise document.error(
            "env_config: all algorithms have the same env. Write env_config under the"
            " shared 'config'.",
            *(*place, "config", "env_config"),
        )
    return checked
