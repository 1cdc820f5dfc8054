"""Checks an algorithm's configuration, key by key, against its declarations."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rllib_risk.config.key_names import RENAMED, TEAM_NAMES
from rllib_risk.config.schema import ConfigError, Field, check_value, suggest
from rllib_risk.config.search_space import (
    LISTS,
    Domain,
    is_domain,
    is_domain_with_list,
    misspelt_sampler,
    parse_domain,
)
from rllib_risk.config.yaml_reader import Document, KeyPath


class Catalog(Protocol):
    """Algorithms and environments that exist, and their keys.

    The loader asks a catalog, so that it does not import the algorithms itself.
    """

    def check_algorithm(self, name: str) -> None:
        """Raises ``ConfigError`` with a suggestion if there is no such algorithm."""

    def check_env(self, env: str, algorithm: str) -> None:
        """Raises ``ConfigError`` if there is no such env for this algorithm."""

    def algorithm_fields(
        self, name: str, config: Mapping[str, Any] | None = None
    ) -> Mapping[str, Field]:
        """Returns all keys that the algorithm accepts.

        With a ``config``, they include the keys of the user's own parts that the config
        names. ``ConfigError`` is raised if such a part cannot be imported.
        """

    def unused_keys(self, name: str) -> Mapping[str, str]:
        """Returns keys of RLlib without effect here, and what to do instead."""

    def env_fields(self, env: str) -> Mapping[str, Field] | None:
        """Returns all ``env_config`` keys of an env; None if they are unknown."""

    def subkeys(self, algorithm: str, key: str) -> Mapping[str, Field] | None:
        """Returns the keys inside a key such as ``model``; None if any are allowed."""

    def metrics(self, algorithm: str) -> tuple[str, ...]:
        """Returns the names of the results that the algorithm reports."""


def check_config(
    config: Any,
    algorithm: str,
    env: str | None,
    document: Document,
    path: KeyPath,
    catalog: Catalog,
    overridden: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Checks the ``config`` section of an experiment.

    Args:
        config: The section, unchecked.
        algorithm: Name of the algorithm.
        env: Name of the env; None if there is none.
        document: Document of the section, for messages.
        path: Path of the section in the document.
        catalog: Catalog of algorithms and environments.
        overridden: Section that this one overrides, as ``evaluation_config`` does. It
            may name the user's own parts.

    Returns:
        The section with numbers converted and search spaces parsed.

    Raises:
        ConfigError: If a key is wrong. The message has its place and a suggestion.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise document.error(f"config: must be a mapping, not {config!r}.", *path)
    named = {**(overridden or {}), **config}
    fields = _fields(algorithm, named, document, path, catalog)
    unused = catalog.unused_keys(algorithm)
    # Suggestions must not name a key that is itself refused.
    usable = [field for field in fields if field not in unused]
    checked: dict[str, Any] = {}
    for key, value in config.items():
        place = (*path, str(key))
        if key not in fields:
            own = fields.keys() - catalog.algorithm_fields(algorithm).keys()
            message = unknown_key(str(key), usable, algorithm, sorted(own))
            if key in unused:
                message = f"{key}: has no effect in {algorithm}; {unused[key]}."
            raise document.error(message, *place)
        reader = _Reader(str(key), fields[key], document)
        inner: Mapping[str, Field] | None = None
        if key == "evaluation_config":
            # It overrides the training's configuration, so it has the same keys.
            reader.inside = functools.partial(
                _check_evaluation, algorithm, env, document, catalog, config
            )
        elif key == "env_config":
            inner = catalog.env_fields(env) if env else None
        else:
            inner = catalog.subkeys(algorithm, str(key))
        if inner is not None:
            reader.inside = functools.partial(check_inner, str(key), inner, document)
        checked[key] = reader.read(value, place)
    return checked


def _fields(
    algorithm: str,
    config: Mapping[str, Any],
    document: Document,
    path: KeyPath,
    catalog: Catalog,
) -> Mapping[str, Field]:
    try:
        return catalog.algorithm_fields(algorithm, config)
    except ConfigError as error:
        key = str(error).partition(":")[0]
        raise document.error(str(error), *path, key) from error


def _check_evaluation(
    algorithm: str,
    env: str | None,
    document: Document,
    catalog: Catalog,
    training: Mapping[str, Any],
    value: Mapping[str, Any],
    path: KeyPath,
) -> dict[str, Any]:
    other_env = value.get("env", env)
    return check_config(value, algorithm, other_env, document, path, catalog, training)


def unknown_key(
    key: str, known: Collection[str], owner: str, own: Collection[str] = ()
) -> str:
    """Returns the message for a key that does not exist.

    Args:
        key: The key.
        known: Keys that are allowed.
        owner: Owner of the keys, such as the name of an algorithm.
        own: Keys among them that the user's own parts declare.

    Returns:
        A sentence that suggests the right key, if one is known.
    """
    for names, verb in ((TEAM_NAMES, "called"), (RENAMED, "now")):
        new = names.get(key, "")
        # A new name may include what to write inside it: `model: {...}`.
        if new.partition(":")[0] in known:
            return f"unknown key '{key}' of {owner}: it is {verb} '{new}'."
    hint = suggest(key, known)
    if own and not hint:
        hint = f" Your own parts declare {', '.join(own)}."
    return f"unknown key '{key}' of {owner}.{hint}"


def check_key(
    key: str, value: Any, field: Field, document: Document, place: KeyPath
) -> Any:
    """Checks one value that cannot be a search space; see :func:`check_config`."""
    try:
        return _check_scalar(key, value, field)
    except ConfigError as error:
        raise document.error(str(error), *place) from error


@dataclass
class _Reader:
    """Reads the value of one key, with the search spaces in it.

    Attributes:
        key: Name of the key, for messages.
        field: Declaration of the key; None inside a user's own mapping.
        document: Document of the value.
        inside: Function that checks a mapping with known keys; None: any keys.
    """

    key: str
    field: Field | None
    document: Document
    inside: Callable[[Mapping[str, Any], KeyPath], dict[str, Any]] | None = None

    def read(self, value: Any, place: KeyPath) -> Any:
        """Returns the value with numbers converted and search spaces parsed."""
        takes_mappings = self.field is None or {dict, object} & {*self.field.types}
        if is_domain_with_list(value) if takes_mappings else is_domain(value):
            ((kind, args),) = value.items()
            if kind in LISTS and isinstance(args, list) and args:
                options = enumerate(args)
                return Domain(
                    kind,
                    tuple(self.read(o, (*place, kind, index)) for index, o in options),
                )
            with self._at(place):
                return parse_domain(self.key, value, self.field, self._check)
        if isinstance(value, Mapping) and self.inside is not None:
            return self.inside(value, place)
        with self._at(place):
            value = self._check(value)
        return self._read_inside(value, place)

    def _check(self, value: Any) -> Any:
        if self.field is None:
            return value
        try:
            return _check_scalar(self.key, value, self.field)
        except ConfigError as error:
            raise ConfigError(f"{error}{misspelt_sampler(value)}") from error

    def _read_inside(self, value: Any, place: KeyPath) -> Any:
        """Reads the search spaces inside a mapping or list of the user's own."""
        if isinstance(value, Mapping):
            with self._at(place):
                self._refuse_code(value)
            return {
                name: self._part(f".{name}").read(item, (*place, str(name)))
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [
                self._part(f"[{index}]").read(item, (*place, index))
                for index, item in enumerate(value)
            ]
        return value

    def _part(self, name: str) -> _Reader:
        return _Reader(f"{self.key}{name}", None, self.document)

    def _refuse_code(self, value: Mapping[str, Any]) -> None:
        if list(value) == ["eval"]:
            raise ConfigError(
                f"{self.key}: a mapping whose only key is 'eval' is not allowed: Tune"
                " would run its text as Python code. Use another name."
            )

    @contextlib.contextmanager
    def _at(self, place: KeyPath) -> Iterator[None]:
        """Adds the place to the message of an error raised inside."""
        try:
            yield
        except ConfigError as error:
            raise self.document.error(str(error), *place) from error


def _check_scalar(key: str, value: Any, field: Field) -> Any:
    # Users often write large whole numbers as 1e6, which YAML reads as a float.
    whole = isinstance(value, float) and value.is_integer()
    if whole and int in field.types and float not in field.types:
        value = int(value)
    return check_value(key, value, field)


def check_inner(
    key: str,
    fields: Mapping[str, Field],
    document: Document,
    value: Mapping[str, Any],
    path: KeyPath,
) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, item in value.items():
        place = (*path, str(name))
        if name not in fields:
            message = unknown_key(str(name), fields, key)
            if "kwargs" in fields:
                message += f" Arguments of the env itself go into {key}.kwargs."
            raise document.error(message, *place)
        checked[name] = _Reader(f"{key}.{name}", fields[name], document).read(
            item, place
        )
    return checked
