"""Finds and loads training files: YAML experiments and Python configurations."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from rllib_risk.config.checks import Catalog
from rllib_risk.config.experiments import ExperimentSpec, check_name, parse_experiment
from rllib_risk.config.extends import resolve
from rllib_risk.config.imports import import_module
from rllib_risk.config.schema import ConfigError, shown, suggest
from rllib_risk.config.shift_grid import is_shift_grid
from rllib_risk.config.yaml_reader import MAX_LEVELS, Document, read_yaml

EXAMPLES = "tuned_examples"


def examples_root() -> Path:
    """Returns the folder of the tuned examples inside the package."""
    return Path(str(resources.files("rllib_risk"))) / EXAMPLES


def list_examples() -> list[str]:
    """Returns the names of all tuned examples, such as ``rmix/macn-4x7``."""
    root = examples_root()
    files = root.rglob("*.yaml")
    return sorted(f.relative_to(root).with_suffix("").as_posix() for f in files)


def find_file(name: str) -> Path:
    """Finds a training file.

    Args:
        name: A path in the working directory or in the package, in this order; or the
            name of a tuned example.

    Returns:
        The file.

    Raises:
        ConfigError: If the file does not exist. The message suggests the closest
            example.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    return find_example(name, f"no such file, neither in {Path.cwd()} nor")


def find_example(name: str, missing: str = "not") -> Path:
    """Finds a tuned example.

    Args:
        name: Name such as ``rmix/macn-4x7``, or path such as
            ``tuned_examples/rmix/macn-4x7.yaml``.
        missing: Beginning of the message for an unknown name.

    Returns:
        The file.

    Raises:
        ConfigError: If there is no such example. The message suggests the closest one.
    """
    # Only listed examples are looked up in the package, so that a path with `..` cannot
    # reach its other files.
    inside = name.removeprefix("./").removeprefix(f"{EXAMPLES}/").removesuffix(".yaml")
    examples = list_examples()
    if inside in examples:
        return examples_root() / f"{inside}.yaml"
    raise ConfigError(
        f"{name}: {missing} among the tuned examples ('rllib example list')."
        + suggest(inside, examples)
    )


def import_modules(modules: Any) -> tuple[str, ...]:
    """Imports the modules of ``imports:``, which register envs and models.

    Raises:
        ConfigError: If the value is not a list of names or an import fails.
    """
    names = [modules] if isinstance(modules, str) else modules or []
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"imports: must be a list of module names, not {modules!r}.")
    for name in names:
        import_module(name, "imports")
    return tuple(names)


def import_listed(modules: Any, document: Document, *path: str) -> tuple[str, ...]:
    """Imports the modules of an experiment or a comparison.

    Args:
        modules: Value of ``imports``: a name, a list of names, or None.
        document: Document of the value.
        *path: Path of the section that has the key ``imports``.

    Returns:
        The names of the modules.

    Raises:
        ConfigError: If a module cannot be imported. The message has its place.
    """
    place = (*path, "imports")
    names = modules if isinstance(modules, list) else [modules] if modules else []
    for index, name in enumerate(names):
        try:
            import_modules([name])
        except ConfigError as error:
            raise document.error(str(error), *place, index) from error
    return tuple(names)


def read_training_file(path: Path) -> Document:
    """Reads a YAML file with experiments, without checking them.

    Args:
        path: The file.

    Returns:
        A mapping of names to unchecked experiments.

    Raises:
        ConfigError: If the file cannot be read or is of another kind.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: must be a .yaml or a .py file.")
    return _check_kind(read_yaml(path))


def _check_kind(document: Document) -> Document:
    if is_comparison(document.data):
        raise document.error(
            "this is a comparison, not a training file. Run it with:"
            f" rllib compare {document.source}"
        )
    if is_shift_grid(document.data):
        raise document.error(
            "this is a grid for an evaluation, not a training file. Play it with:"
            f" rllib evaluate CHECKPOINT --shift {document.source}"
        )
    if not isinstance(document.data, Mapping) or not document.data:
        raise document.error(
            "must map experiment names to experiments, as in"
            " 'my-experiment: {run: RMIX, env: macn}'."
        )
    for name in document.data:
        if isinstance(name, bool):
            raise document.error(
                f"experiment name: YAML reads this word as {str(name).lower()} (also"
                " on, off, yes and no). Put it in quotes.",
                str(name),
            )
    return document


def resolve_document(document: Document) -> Document:
    """Returns the experiments of a training file with all inherited values.

    Args:
        document: The file, unchecked.

    Returns:
        The experiments, without ``shared:`` and ``extends:``. Every value keeps its
        place.

    Raises:
        ConfigError: If the file is of another kind, or the inheritance is wrong. The
            message has the place.
    """
    return resolve(_check_kind(document), find_example, read_training_file)


def parse_document(document: Document, catalog: Catalog) -> list[ExperimentSpec]:
    """Checks all experiments of a training file.

    Args:
        document: The file from :func:`read_training_file` or :func:`resolve_document`.
        catalog: Catalog of algorithms and environments.

    Returns:
        The checked experiments.

    Raises:
        ConfigError: If the file is wrong. The message has file and line of the first
            error.
    """
    document = resolve_document(document)
    specs = []
    for name, section in document.data.items():
        imports: tuple[str, ...] = ()
        if isinstance(section, Mapping):
            imports = import_listed(section.get("imports"), document, str(name))
        spec = parse_experiment(str(name), section, document, catalog, (str(name),))
        spec.imports = imports
        specs.append(spec)
    return specs


def is_comparison(data: Any) -> bool:
    """Returns whether a document is a comparison, for ``rllib compare``.

    Args:
        data: The document's values.
    """
    if not isinstance(data, Mapping) or "algorithms" not in data:
        return False
    # In a training file, an experiment may be named "algorithms".
    section = data["algorithms"]
    return not (isinstance(section, Mapping) and {"run", "algorithm"} & set(section))


def load_python(path: Path) -> ExperimentSpec:
    """Loads a Python training file by running it.

    Args:
        path: A ``.py`` file that sets ``config`` (an ``AlgorithmConfig``) and may set
            ``stop``.

    Returns:
        The experiment.

    Raises:
        ConfigError: If the file fails or does not set ``config``.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file.")
    name = f"_rllib_risk_user_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"{path}: cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:  # a user's file may raise anything
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    config = getattr(module, "config", None)
    if config is None or getattr(config, "algo_class", None) is None:
        raise ConfigError(
            f"{path}: must set 'config' to an AlgorithmConfig, as in"
            " 'config = RMIXConfig().environment(\"macn\")'."
        )
    stop = getattr(module, "stop", None) or {}
    if not isinstance(stop, dict):
        raise ConfigError(f"{path}: 'stop' must be a dict, not {stop!r}.")
    return ExperimentSpec(
        name=check_name(path.stem),
        algorithm=config.algo_class,
        config=_changed_keys(config),
        stop=stop,
        config_object=config,
        document=Document(None, str(path)),
    )


def _changed_keys(config: Any) -> dict[str, Any]:
    """Returns the values of an ``AlgorithmConfig`` that differ from the defaults.

    Defaults are left out, so that results show only what the user chose. RLlib also
    refuses some keys even if they are set to their defaults.
    """
    defaults = config.algo_class.get_default_config().to_dict()
    changed = {}
    for key, value in config.to_dict().items():
        try:
            same = key in defaults and bool(value == defaults[key])
        except (TypeError, ValueError):  # arrays, for example
            same = False
        if not same:
            changed[key] = value
    return changed


def parse_json(text: str, option: str) -> Document:
    """Parses the JSON of a command line option.

    Args:
        text: A JSON object.
        option: Name of the option, which messages use as the place.

    Returns:
        The values.

    Raises:
        ConfigError: If the text is not a JSON object or has a duplicate key.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{option}: '{key}' is given twice. Leave one out.")
            seen[key] = value
        return seen

    try:
        data = json.loads(text, object_pairs_hook=no_duplicates)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{option}: not valid JSON: {error}. Write it as"
            f" {option} '{{\"key\": value}}'."
        ) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{option}: must be a JSON object, not {shown(data)}.")
    if _is_deep(data):
        raise ConfigError(
            f"{option}: has more than {MAX_LEVELS} nested levels. Use fewer."
        )
    return Document(data, option)


def _is_deep(data: Any) -> bool:
    level = [data]
    for _ in range(MAX_LEVELS):
        parts = [item.values() if isinstance(item, dict) else item for item in level]
        level = [x for part in parts for x in part if isinstance(x, (dict, list))]
    return bool(level)
