"""Reads YAML strictly and records the line of every key.

It differs from ``yaml.safe_load`` in four ways. ``1e-3`` is a number (YAML 1.1 reads
text). A duplicate key is an error (YAML silently keeps the last one). Every key keeps
its line, so that later checks can name it. A file that is too large, too deep, or
contains itself is refused, with the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rllib_risk.config.schema import ConfigError

KeyPath = tuple[str | int, ...]

_MERGE_TAG = "tag:yaml.org,2002:merge"
_FLOAT_TAG = "tag:yaml.org,2002:float"
# PyYAML reads about 20,000 values per second and recurses once per level.
_MAX_VALUES = 50_000
MAX_LEVELS = 100


class _Unbounded(yaml.MarkedYAMLError):
    """Error for a document that is too large, too deep, or contains itself."""


class _StrictLoader(yaml.SafeLoader):
    """A ``SafeLoader`` that reads ``1e-3`` as a number and limits size and depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = 0  # with keys; an alias counts all values it stands for
        self._level = 0
        self._open: list[str] = []  # anchors of the enclosing values
        self._sizes: dict[str, int] = {}  # number of values below each anchor

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Overrides PyYAML's method; counts values and levels."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        anchor: str | None = getattr(event, "anchor", None)
        is_alias = isinstance(event, yaml.AliasEvent)
        before = self._values
        self._values += self._sizes.get(str(anchor), 1) if is_alias else 1
        self._level += 1
        if is_alias and anchor in self._open:
            problem = f"'*{anchor}' is inside '&{anchor}', so it contains itself"
        elif self._values > _MAX_VALUES:
            problem = (
                f"more than {_MAX_VALUES:,} keys and values up to this line (an alias"
                " counts as all values that it stands for)"
            )
        elif self._level > MAX_LEVELS:
            problem = f"more than {MAX_LEVELS} nested levels"
        else:
            problem = ""
        if problem:
            raise _Unbounded(None, None, problem, event.start_mark)
        if anchor is None or is_alias:
            node = super().compose_node(parent, index)
        else:
            self._open.append(anchor)
            node = super().compose_node(parent, index)
            self._open.remove(anchor)
            self._sizes[anchor] = self._values - before
        self._level -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Overrides PyYAML's method; adds the place to errors in numbers and dates."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from error


_StrictLoader.add_implicit_resolver(
    _FLOAT_TAG,
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Document:
    """Values of a file or option, and the place where each was written.

    Attributes:
        data: The values: dicts, lists and scalars.
        source: Name of the source, such as a file name or ``--config``.
        places: ``file:line`` of each key path, or the option that set it; empty for an
            option.
        inherited: Key paths of inherited values; see
            :mod:`rllib_risk.config.inheritance`.
    """

    data: Any
    source: str
    places: Mapping[KeyPath, str] = field(default_factory=dict)
    inherited: frozenset[KeyPath] = frozenset()

    def where(self, *path: str | int) -> str:
        """Returns the place of the closest known key on the path."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.source

    def error(self, message: str, *path: str | int) -> ConfigError:
        """Returns a ``ConfigError`` that starts with the place of ``path``."""
        advice = self._how_to_leave_out(*path)
        return ConfigError(f"{self.where(*path)}: {message}{advice}")

    def _how_to_leave_out(self, *path: str | int) -> str:
        """Returns how to leave out an inherited key; empty if it is not inherited.

        Args:
            *path: Name of the experiment, then a key of it or of its ``config``.
        """
        if path not in self.inherited:
            return ""
        inside = path[2:] if path[1:2] == ("config",) and path[2:] else path[1:]
        name = ".".join(map(str, inside))
        return f" It is inherited; 'without: [{name}]' leaves it out."


def read_yaml(path: Path) -> Document:
    """Reads a YAML file.

    Args:
        path: The file.

    Returns:
        The values with their lines.

    Raises:
        ConfigError: If the file cannot be read, is not valid YAML, or has a duplicate
            key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Document:
    """Parses YAML text; see :func:`read_yaml`."""
    try:
        loader = _StrictLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{source}:{line}: not valid YAML: the character {error.character:#x} is"
            " not allowed. The file may be damaged."
        ) from error
    try:
        node = loader.get_single_node()
        places: dict[KeyPath, str] = {}
        _note_places(node, (), places, source)
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        problem = error.problem or error.context or "it cannot be read"
        kind = "" if isinstance(error, _Unbounded) else "not valid YAML: "
        raise ConfigError(f"{place}: {kind}{problem}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    finally:
        loader.dispose()
    return Document(data, source, places)


def _note_places(
    node: yaml.Node | None, path: KeyPath, places: dict[KeyPath, str], source: str
) -> None:
    """Adds the place of every key below ``node``; refuses duplicate keys."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*path, index)] = f"{source}:{item.start_mark.line + 1}"
            _note_places(item, (*path, index), places, source)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE_TAG:
                is_list = isinstance(value, yaml.SequenceNode)
                merged += value.value if is_list else [value]
                continue
            name = str(key.value)
            if name in seen:
                raise ConfigError(
                    f"{source}:{line}: '{name}' is given twice"
                    f" (first on line {seen[name]})."
                )
            seen[name] = line
            places[(*path, name)] = f"{source}:{line}"
            _note_places(value, (*path, name), places, source)
        _note_merged(merged, path, places, source, {*seen})


def _note_merged(
    nodes: list[yaml.Node],
    path: KeyPath,
    places: dict[KeyPath, str],
    source: str,
    taken: set[str],
) -> None:
    """Adds the places of keys that ``<<:`` merges, unless the key is already known.

    A key that is written out wins over a merged one. The first of several merged
    mappings wins over the later ones. Both hold for everything below the key.
    """
    depth = len(path)
    for node in nodes:
        below: dict[KeyPath, str] = {}
        _note_places(node, path, below, source)
        new = {str(key[depth]) for key in below} - taken
        places.update(
            (key, place) for key, place in below.items() if str(key[depth]) in new
        )
        taken |= new
