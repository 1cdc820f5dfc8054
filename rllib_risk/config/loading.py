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
from rllib_risk.config.yaml_reader import MOST_LEVELS, Document, read_yaml

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
        name: A path, looked up in the working directory first and then inside the
            package; or the name of a tuned example.

    Returns:
        The file.

    Raises:
        ConfigError: If there is no such file, with the closest example's name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    return find_example(name, f"no such file, neither in {Path.cwd()} nor")


def find_example(name: str, missing: str = "not") -> Path:
    """Finds a tuned example.

    Args:
        name: Such as ``rmix/macn-4x7`` or ``tuned_examples/rmix/macn-4x7.yaml``.
        missing: How the message for an unknown name begins.

    Returns:
        The file.

    Raises:
        ConfigError: If there is no such example, with the closest one's name.
    """
    # Only names of listed examples are looked up in the package, so that a path with
    # `..` cannot reach other files of it.
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
        modules: What stands under ``imports``.
        document: Where that is.
        *path: What has the key ``imports``.

    Returns:
        The names of the modules.

    Raises:
        ConfigError: With the place of the first one that cannot be imported.
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
    """Reads a YAML file with experiments, as it is written.

    Args:
        path: The file.

    Returns:
        A mapping of names to experiments, not yet checked.

    Raises:
        ConfigError: If it cannot be read, or is another kind of file.
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
                f"experiment name: YAML reads this word as {str(name).lower()}, as it"
                " does on, off, yes and no; put it in quotes.",
                str(name),
            )
    return document


def resolve_document(document: Document) -> Document:
    """Returns the experiments of a training file with all that they take over.

    Args:
        document: The file as it was read.

    Returns:
        The experiments alone, without ``shared:`` and ``extends:``; every value keeps
        its place.

    Raises:
        ConfigError: With the place, if it is another kind of file, or something is
            wrong with what is taken over.
    """
    return resolve(_check_kind(document), find_example, read_training_file)


def parse_document(document: Document, catalog: Catalog) -> list[ExperimentSpec]:
    """Checks all experiments of a training file.

    Args:
        document: The file as it was read, or as :func:`resolve_document` left it.
        catalog: What algorithms and envs exist.

    Returns:
        The experiments, checked.

    Raises:
        ConfigError: With file, line and a suggestion, for the first wrong thing.
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
    # An experiment may have any name, this one included.
    section = data["algorithms"]
    return not (isinstance(section, Mapping) and {"run", "algorithm"} & set(section))


def load_python(path: Path) -> ExperimentSpec:
    """Loads a Python training file by running it.

    Args:
        path: A ``.py`` file with ``config`` (an ``AlgorithmConfig``) and, if wanted,
            ``stop``.

    Returns:
        Its experiment.

    Raises:
        ConfigError: If it fails, or has no such configuration.
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
    except Exception as error:  # a user's file may fail in any way
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
    """Returns what an ``AlgorithmConfig`` sets differently from its algorithm.

    The defaults are left out: results show what was chosen, and some of RLlib's keys
    may be left alone but not given.
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
        option: The option's name, which messages use as the place.

    Returns:
        Its values.

    Raises:
        ConfigError: If it is not a JSON object or gives a key twice.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{option}: '{key}' is given twice.")
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
            f"{option}: more than {MOST_LEVELS} levels inside each other."
        )
    return Document(data, option)


def _is_deep(data: Any) -> bool:
    level = [data]
    for _ in range(MOST_LEVELS):
        parts = [item.values() if isinstance(item, dict) else item for item in level]
        level = [x for part in parts for x in part if isinstance(x, (dict, list))]
    return bool(level)
