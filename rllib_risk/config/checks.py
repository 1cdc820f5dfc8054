"""Checks an algorithm's configuration, key by key, against its declarations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from rllib_risk.config.key_names import RENAMED, TEAM_NAMES
from rllib_risk.config.schema import ConfigError, Field, check_value, suggest
from rllib_risk.config.search_space import is_domain, misspelt_sampler, parse_domain
from rllib_risk.config.yaml_reader import Document, KeyPath


class Catalog(Protocol):
    """What exists: the loader asks it, so that it needs no algorithm itself."""

    def check_algorithm(self, name: str) -> None:
        """Raises ``ConfigError`` with a suggestion if there is no such algorithm."""

    def check_env(self, env: str, algorithm: str) -> None:
        """Raises ``ConfigError`` if there is no such env for this algorithm."""

    def algorithm_fields(self, name: str) -> Mapping[str, Field]:
        """Returns all keys that the algorithm accepts."""

    def unused_keys(self, name: str) -> Mapping[str, str]:
        """Returns keys that exist but do nothing here, and what to do instead."""

    def env_fields(self, env: str) -> Mapping[str, Field] | None:
        """Returns all ``env_config`` keys of an env; None if they are not known."""

    def subkeys(self, algorithm: str, key: str) -> Mapping[str, Field] | None:
        """Returns the keys inside a key such as ``model``; None if it is free."""

    def metrics(self, algorithm: str) -> tuple[str, ...]:
        """Returns the names of the results that the algorithm reports."""


def check_config(
    config: Any,
    algorithm: str,
    env: str | None,
    document: Document,
    path: KeyPath,
    catalog: Catalog,
) -> dict[str, Any]:
    """Checks the ``config`` section of an experiment.

    Args:
        config: The section as it was read.
        algorithm: Name of the algorithm.
        env: Name of the env, if given.
        document: Where it comes from, for messages.
        path: Where the section is in the document.
        catalog: What exists.

    Returns:
        The section with numbers converted and search spaces read.

    Raises:
        ConfigError: With place and suggestion, for the first wrong key.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise document.error(f"config: must be a mapping, not {config!r}.", *path)
    fields = catalog.algorithm_fields(algorithm)
    unused = catalog.unused_keys(algorithm)
    # A suggestion must not lead to a key that is refused in turn.
    usable = [field for field in fields if field not in unused]
    checked: dict[str, Any] = {}
    for key, value in config.items():
        place = (*path, str(key))
        if key not in fields:
            message = unknown_key(str(key), usable, algorithm)
            if key in unused:
                message = f"{key}: has no effect in {algorithm}; {unused[key]}."
            raise document.error(message, *place)
        if key == "evaluation_config" and isinstance(value, Mapping):
            # What is different while evaluating: the same keys once more.
            other_env = value.get("env", env)
            checked[key] = check_config(
                value, algorithm, other_env, document, place, catalog
            )
            continue
        inner: Mapping[str, Field] | None = None
        if key == "env_config":
            inner = catalog.env_fields(env) if env else None
        else:
            inner = catalog.subkeys(algorithm, str(key))
        if isinstance(value, Mapping) and inner is not None and not is_domain(value):
            checked[key] = check_inner(str(key), value, inner, document, place)
        elif key == "env_config" and isinstance(value, Mapping):
            checked[key] = _free_mapping(str(key), value, document, place)
        else:
            checked[key] = check_key(str(key), value, fields[key], document, place)
    return checked


def unknown_key(key: str, known: Collection[str], owner: str) -> str:
    """Returns the message for a key that does not exist.

    Args:
        key: The key.
        known: Keys that may be given.
        owner: Whose keys they are, such as the name of an algorithm.

    Returns:
        A sentence that names the right key, if one is known.
    """
    for names, verb in ((TEAM_NAMES, "called"), (RENAMED, "now")):
        new = names.get(key, "")
        # A new name may go on with what to write inside it: `model: {...}`.
        if new.partition(":")[0] in known:
            return f"unknown key '{key}' of {owner}: it is {verb} '{new}'."
    return f"unknown key '{key}' of {owner}.{suggest(key, known)}"


def check_key(
    key: str, value: Any, field: Field, document: Document, place: KeyPath
) -> Any:
    """Checks one value or search space; see :func:`check_config`."""
    try:
        if is_domain(value):
            return parse_domain(
                key, value, field, lambda item: _check_scalar(key, item, field)
            )
        return _check_scalar(key, value, field)
    except ConfigError as error:
        raise document.error(f"{error}{misspelt_sampler(value)}", *place) from error


def _check_scalar(key: str, value: Any, field: Field) -> Any:
    # Large whole numbers are often written 1e6, which YAML reads as a float.
    whole = isinstance(value, float) and value.is_integer()
    if whole and int in field.types and float not in field.types:
        value = int(value)
    return check_value(key, value, field)


def check_inner(
    key: str,
    value: Mapping[str, Any],
    fields: Mapping[str, Field],
    document: Document,
    path: KeyPath,
) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, item in value.items():
        place = (*path, str(name))
        if name not in fields:
            raise document.error(unknown_key(str(name), fields, key), *place)
        checked[name] = check_key(f"{key}.{name}", item, fields[name], document, place)
    return checked


def _free_mapping(
    key: str, value: Mapping[str, Any], document: Document, path: KeyPath
) -> dict[str, Any]:
    """Reads the search spaces of a mapping whose keys are the user's own."""
    read: dict[str, Any] = {}
    for name, item in value.items():
        place = (*path, str(name))
        if is_domain(item):
            try:
                read[name] = parse_domain(f"{key}.{name}", item, None, lambda x: x)
            except ConfigError as error:
                raise document.error(str(error), *place) from error
        elif isinstance(item, Mapping):
            read[name] = _free_mapping(f"{key}.{name}", item, document, place)
        else:
            read[name] = item
    return read
