"""Reads YAML strictly and remembers the line of every key.

Three things that a plain ``yaml.safe_load`` lets pass are handled here: numbers such
as ``1e-3`` are numbers (YAML 1.1 reads text), a key given twice is an error (YAML keeps
the last one silently), and every key keeps its line, so that a later check can say
where it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rllib_risk.config.schema import ConfigError

KeyPath = tuple[str | int, ...]

_MERGE_TAG = "tag:yaml.org,2002:merge"
_FLOAT_TAG = "tag:yaml.org,2002:float"
# A file of aliases to aliases can describe a tree far larger than itself.
_MAX_NODES = 100_000


class _StrictLoader(yaml.SafeLoader):
    """A ``SafeLoader`` that reads ``1e-3`` as a number."""


_StrictLoader.add_implicit_resolver(
    _FLOAT_TAG,
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Document:
    """Values and where they were written.

    Attributes:
        data: The values: dicts, lists and scalars.
        source: What the user calls the source, such as a file name or ``--config``.
        lines: Line (from 1) of each key path; empty for sources of one line.
    """

    data: Any
    source: str
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def where(self, *path: str | int) -> str:
        """Returns ``file:line`` of the closest known key on the path."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.source}:{self.lines[path[:end]]}"
        return self.source

    def error(self, message: str, *path: str | int) -> ConfigError:
        """Returns a ``ConfigError`` that starts with the place of ``path``."""
        return ConfigError(f"{self.where(*path)}: {message}")


def read_yaml(path: Path) -> Document:
    """Reads a YAML file.

    Args:
        path: The file.

    Returns:
        Its values with their lines.

    Raises:
        ConfigError: If the file cannot be read, is not YAML, or gives a key twice.
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
            " not allowed; the file may be damaged."
        ) from error
    try:
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        _note_lines(node, (), lines, source)
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        problem = error.problem or error.context or "not valid YAML"
        raise ConfigError(f"{place}: not valid YAML: {problem}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    finally:
        loader.dispose()
    return Document(data, source, lines)


def _note_lines(
    node: yaml.Node | None, path: KeyPath, lines: dict[KeyPath, int], source: str
) -> None:
    """Fills ``lines`` for all keys below ``node`` and refuses duplicates."""
    if len(lines) > _MAX_NODES:
        raise ConfigError(f"{source}: more than {_MAX_NODES} keys (through aliases).")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _note_lines(item, (*path, index), lines, source)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE_TAG:
                _note_merged(value, path, lines, source)
                continue
            name = str(key.value)
            if name in seen:
                raise ConfigError(
                    f"{source}:{line}: '{name}' is given twice"
                    f" (first on line {seen[name]})."
                )
            seen[name] = line
            lines[(*path, name)] = line
            _note_lines(value, (*path, name), lines, source)


def _note_merged(
    node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str
) -> None:
    """Notes the keys that ``<<:`` brings in; keys written out win over them."""
    merged: dict[KeyPath, int] = {}
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for part in parts:
        _note_lines(part, path, merged, source)
    for key, line in merged.items():
        lines.setdefault(key, line)
