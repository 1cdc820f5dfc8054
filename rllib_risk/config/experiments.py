"""Parses and checks experiments, the sections of a training file.

The format is the one that ``rllib train file`` of Ray 2.40 read::

    my-experiment:
      run: RMIX                # or `algorithm:`
      env: macn
      stop: {num_env_steps_sampled_lifetime: 100_000}
      num_samples: 1
      checkpoint_config: {checkpoint_frequency: 10}
      config: {gamma: 0.99, env_config: {width: 7}}

``scheduler``, ``search_alg`` and ``imports`` are additions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_risk.config.checks import Catalog, check_config, check_key
from rllib_risk.config.experiment_keys import (
    CHECKPOINT_FIELDS,
    EXPERIMENT_FIELDS,
    INHERITANCE_FIELDS,
    OLD_CHECKPOINT_KEYS,
    REMOVED,
    RESOURCE,
    STOP_VALUE,
)
from rllib_risk.config.metrics import check_metric
from rllib_risk.config.mutations import check_start
from rllib_risk.config.schedulers import Component, parse_scheduler
from rllib_risk.config.schema import (
    ConfigError,
    check_value,
    shown,
    suggest,
)
from rllib_risk.config.searchers import RANDOM, check_searcher, parse_searcher
from rllib_risk.config.yaml_reader import Document, KeyPath

# File systems allow 255 bytes in the name of a folder, and Tune extends the name.
MAX_CHARACTERS = 200
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


@dataclass
class ExperimentSpec:
    """A checked experiment.

    Attributes:
        name: Name of the experiment and of its folder.
        algorithm: Name of the algorithm; for a Python file, its class.
        config: Configuration, with search spaces as ``Domain`` objects.
        env: Name of the env; None if a Python file's configuration contains it.
        stop: Stop criteria: result to the value at which a trial stops.
        checkpoint: Arguments of Tune's ``CheckpointConfig``.
        num_samples: Number of times to sample the search space.
        time_budget_s: Time limit in seconds; None: no limit.
        resources_per_trial: Resources of each trial; None: what RLlib requests.
        storage_path: Folder for results.
        max_failures: Maximum number of restarts of a failed trial.
        restore: Folder of a checkpoint from which trials start.
        scheduler: Tune scheduler.
        searcher: Tune searcher.
        max_concurrent_trials: Maximum number of trials at the same time.
        imports: Names of the imported modules.
        config_object: The ``AlgorithmConfig`` of a Python file.
        document: Document of the experiment, for messages.
        path: Path of the experiment in the document.
    """

    name: str
    algorithm: Any
    config: dict[str, Any] = field(default_factory=dict)
    env: str | None = None
    stop: dict[str, float] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
    num_samples: int = EXPERIMENT_FIELDS["num_samples"].default
    time_budget_s: float | None = None
    resources_per_trial: dict[str, Any] | None = None
    storage_path: str | None = None
    max_failures: int = EXPERIMENT_FIELDS["max_failures"].default
    restore: str | None = None
    scheduler: Component | None = None
    searcher: Component | None = None
    max_concurrent_trials: int | None = None
    imports: tuple[str, ...] = ()
    config_object: Any = None
    document: Document | None = None
    path: KeyPath = ()

    def checkpoint_value(self, key: str) -> Any:
        """Returns a value of ``checkpoint_config``, or its default.

        Args:
            key: Name of the value.
        """
        return self.checkpoint.get(key, CHECKPOINT_FIELDS[key].default)

    def located(self, message: str, *otherwise: str) -> ConfigError:
        """Returns an error with the place of the key that the message begins with.

        Args:
            message: Message that may begin with a key of ``config`` or the experiment.
            *otherwise: Keys of the experiment to point to if the message does not begin
                with a key. The first one in the file is used.
        """
        if self.document is None:
            return ConfigError(message)
        match = re.match(r"(?:unknown key )?'?(\w+)(?:\.(\w+))?", message)
        keys = [key for key in match.groups() if key] if match else []
        for path in (("config", *keys), keys, *(key.split(".") for key in otherwise)):
            # Only the first key of the section must exist; the env may have the rest.
            depth = 2 if path and path[0] == "config" else 1
            if path and (*self.path, *path[:depth]) in self.document.places:
                return self.document.error(message, *self.path, *path)
        return self.document.error(message, *self.path)


def check_name(name: str) -> str:
    """Returns an experiment's name if it is a valid name of a folder.

    Raises:
        ConfigError: If it is too long, or could leave the storage folder, as ``../x``.
    """
    if len(name) > MAX_CHARACTERS:
        raise ConfigError(
            f"experiment name {shown(name)}: has {len(name)} characters. It becomes the"
            f" name of a folder: at most {MAX_CHARACTERS} characters are allowed."
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"experiment name {shown(name)}: only letters, digits, '_', '-' and '.' are"
            " allowed, and it must not start with '.' or '-'."
        )
    return name


def parse_experiment(
    name: str, section: Any, document: Document, catalog: Catalog, path: KeyPath
) -> ExperimentSpec:
    """Parses and checks one experiment.

    Args:
        name: Name of the experiment.
        section: Section of the experiment, unchecked.
        document: Document of the section.
        catalog: Catalog of algorithms and environments.
        path: Path of the section in the document.

    Returns:
        The experiment.

    Raises:
        ConfigError: If the section is wrong. The message has the first error's place.
    """
    try:
        check_name(name)
    except ConfigError as error:
        raise document.error(str(error), *path) from error
    section = _check_section(name, section, document, path)
    algorithm = _algorithm(name, section, document, catalog, path)
    env = section.get("env")
    in_config = (section.get("config") or {}).get("env")
    env_path = (*path, "env") if env is not None else (*path, "config", "env")
    env = env if env is not None else in_config
    if env is not None:
        with _Place(document, env_path):
            if not isinstance(env, str):
                raise ConfigError(f"env: must be the name of an env, not {env!r}.")
            catalog.check_env(env, algorithm)
    elif "dataset" not in (section.get("config") or {}):  # a dataset names its env
        raise document.error(
            f"{name}: 'env' is missing. Add the name of an environment.", *path
        )
    config = check_config(
        section.get("config"), algorithm, env, document, (*path, "config"), catalog
    )
    config.pop("env", None)
    spec = ExperimentSpec(name, algorithm, config, env)
    spec.document, spec.path = document, path
    metrics = catalog.metrics(algorithm)
    spec.stop = check_stop(section.get("stop"), document, (*path, "stop"), metrics)
    spec.checkpoint = parse_checkpoint(section, document, path, metrics)
    _add_search(spec, section, document, path, catalog)
    for key in (
        "num_samples",
        "time_budget_s",
        "resources_per_trial",
        "storage_path",
        "max_failures",
        "restore",
        "max_concurrent_trials",
    ):
        if section.get(key) is not None:
            setattr(spec, key, section[key])
    return spec


class _Place:
    """Adds the place in the document to a ``ConfigError`` raised inside."""

    def __init__(self, document: Document, path: KeyPath) -> None:
        self.document = document
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, ConfigError):
            raise self.document.error(str(error), *self.path) from error


def _check_section(
    name: str, section: Any, document: Document, path: KeyPath
) -> dict[str, Any]:
    if not isinstance(section, Mapping):
        if name in INHERITANCE_FIELDS:
            raise document.error(
                f"{name}: is a key of an experiment. Write it in the experiment, or"
                " under 'shared:' for all experiments of the file.",
                *path,
            )
        raise document.error(
            f"{name}: must be a mapping with run, env, stop and config, not"
            f" {shown(section)}.",
            *path,
        )
    checked = {}
    for key, value in section.items():
        place = (*path, str(key))
        if key in REMOVED:
            raise document.error(f"'{key}' no longer exists: {REMOVED[key]}", *place)
        if key not in EXPERIMENT_FIELDS:
            hint = suggest(str(key), [*EXPERIMENT_FIELDS, *INHERITANCE_FIELDS])
            raise document.error(
                f"unknown key '{key}' of experiment {name}.{hint}"
                " (The algorithm's own keys go under 'config'.)",
                *place,
            )
        checked[key] = check_key(
            str(key), value, EXPERIMENT_FIELDS[key], document, place
        )
        if key != "config":  # an env of one's own may have infinite arguments
            _refuse_nonfinite(str(key), value, document, place)
    for name, amount in (checked.get("resources_per_trial") or {}).items():
        place = (*path, "resources_per_trial", str(name))
        check_key(f"resources_per_trial.{name}", amount, RESOURCE, document, place)
    return checked


def _refuse_nonfinite(
    name: str, value: Any, document: Document, place: KeyPath
) -> None:
    """Raises a ConfigError if a value is or holds NaN or infinity."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_nonfinite(f"{name}.{key}", item, document, (*place, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_nonfinite(f"{name}[{index}]", item, document, (*place, index))
    elif isinstance(value, float) and not math.isfinite(value):
        raise document.error(f"{name}: must be a finite number, not {value}.", *place)


def _algorithm(
    name: str,
    section: Mapping[str, Any],
    document: Document,
    catalog: Catalog,
    path: KeyPath,
) -> str:
    given = [key for key in ("run", "algorithm") if section.get(key) is not None]
    if len(given) != 1:
        what = "and 'algorithm' mean the same. Give only one"
        if not given:
            what = "is missing. Add it"
        raise document.error(f"{name}: 'run' (the algorithm) {what}.", *path)
    with _Place(document, (*path, given[0])):
        catalog.check_algorithm(section[given[0]])
    return str(section[given[0]])


def check_stop(
    stop: Any, document: Document, path: KeyPath, metrics: tuple[str, ...]
) -> dict[str, float]:
    """Checks a ``stop`` section; see :func:`parse_experiment`."""
    checked: dict[str, float] = {}
    for key, value in _flat(stop or {}).items():
        with _Place(document, (*path, *key)):
            metric = "/".join(key)
            check_metric(metric, metrics)
            checked[metric] = check_value(f"stop: {metric}", value, STOP_VALUE)
    return checked


def _flat(nested: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Flattens ``{a: {b: 1}}`` to ``{(a, b): 1}``; files may nest results."""
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update({(str(key), *rest): v for rest, v in _flat(value).items()})
        else:
            flat[(str(key),)] = value
    return flat


def parse_checkpoint(
    section: Mapping[str, Any],
    document: Document,
    path: KeyPath,
    metrics: tuple[str, ...],
) -> dict[str, Any]:
    given: dict[str, tuple[Any, KeyPath]] = {
        new: (section[old], (*path, old))
        for old, new in OLD_CHECKPOINT_KEYS.items()
        if old in section
    }
    for key, value in (section.get("checkpoint_config") or {}).items():
        place = (*path, "checkpoint_config", str(key))
        if key not in CHECKPOINT_FIELDS:
            raise document.error(
                f"unknown key '{key}' of checkpoint_config."
                + suggest(str(key), CHECKPOINT_FIELDS),
                *place,
            )
        given[key] = (value, place)
    checked = {}
    for key, (value, place) in given.items():
        value = check_key(key, value, CHECKPOINT_FIELDS[key], document, place)
        if key == "checkpoint_score_attribute" and value is not None:
            if value.startswith("min-"):
                value, checked["checkpoint_score_order"] = value[4:], "min"
            with _Place(document, place):
                check_metric(value, metrics)
        checked[key] = value
    return checked


def _add_search(
    spec: ExperimentSpec,
    section: Mapping[str, Any],
    document: Document,
    path: KeyPath,
    catalog: Catalog,
) -> None:
    metrics = catalog.metrics(spec.algorithm)
    for kind in ("scheduler", "search_alg"):
        name, arguments = section.get(kind), section.get(f"{kind}_config")
        if name is None:
            if arguments is not None:
                with _Place(document, (*path, f"{kind}_config")):
                    raise ConfigError(
                        f"{kind}_config: '{kind}' is missing. Add it, or leave"
                        f" {kind}_config out."
                    )
            continue
        place = (*path, f"{kind}_config" if arguments else kind)
        with _Place(document, place):
            if kind == "search_alg":
                spec.searcher = parse_searcher(name, arguments)
                if "metric" in spec.searcher.arguments:
                    check_metric(spec.searcher.arguments["metric"], metrics)
                continue
            unused = catalog.unused_keys(spec.algorithm)
            fields = catalog.algorithm_fields(spec.algorithm, spec.config)
            fields = {key: fields[key] for key in fields if key not in unused}
            spec.scheduler = parse_scheduler(name, arguments, fields)
            check_start(spec.scheduler.mutated, spec.scheduler.bounds, spec.config)
            for key in ("metric", "time_attr"):
                if key in spec.scheduler.arguments:
                    check_metric(spec.scheduler.arguments[key], metrics)
    if spec.searcher is None:
        return
    check_searcher(spec.searcher, spec.config, document, path)
    in_population = spec.scheduler is not None and spec.scheduler.population
    if in_population and spec.searcher.name != RANDOM:
        raise document.error(
            f"search_alg: {section['scheduler']} changes the values itself and cannot"
            " be combined with a searcher. Leave search_alg out.",
            *(*path, "search_alg"),
        )
