"""Resolves ``shared:`` and ``extends:`` of training files; see ``inheritance.py``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from rllib_risk.config.experiment_keys import EXTENDS
from rllib_risk.config.inheritance import (
    SHARED,
    Section,
    document_of,
    drop,
    merge,
    sections_of,
    take_over,
    without_anchors,
)
from rllib_risk.config.schema import ConfigError, shown, suggest
from rllib_risk.config.yaml_reader import Document

_FILE = re.compile(r"(?P<file>.+?\.ya?ml)(?::(?P<name>.+))?")


def resolve(
    document: Document,
    find: Callable[[str], Path],
    read: Callable[[Path], Document],
) -> Document:
    """Returns the experiments of a training file with all inherited values.

    Args:
        document: The file, unchecked; its data are a mapping.
        find: Function that finds a tuned example by name, for an extended file that is
            not next to this one.
        read: Function that reads an extended training file.

    Returns:
        The experiments, without ``shared:`` and ``extends:``.

    Raises:
        ConfigError: If an extended file cannot be read or lacks the experiment, or
            experiments extend each other in a circle.
    """
    return _Resolver(find, read).resolve(document)


class _Resolver:
    """Resolves the experiments of a file and of the files that it extends."""

    def __init__(
        self, find: Callable[[str], Path], read: Callable[[Path], Document]
    ) -> None:
        self._find = find
        self._read = read
        self._documents: dict[Path, Document] = {}
        self._sections: dict[Path, dict[str, Section]] = {}
        self._done: dict[tuple[Path, str], Section] = {}
        self._open: list[tuple[Path, str]] = []  # experiments in progress

    def resolve(self, document: Document) -> Document:
        """See :func:`resolve`."""
        sections = {name: self._experiment(document, name) for name in _names(document)}
        return document_of(sections, document.source)

    def _experiment(self, document: Document, name: str) -> Section:
        node = (_file_of(document), name)
        if node not in self._done:
            self._open.append(node)
            self._done[node] = self._taken_over(document, name)
            self._open.pop()
        return self._done[node]

    def _taken_over(self, document: Document, name: str) -> Section:
        file = _file_of(document)
        if file not in self._sections:
            self._sections[file] = sections_of(document)
        sections = self._sections[file]
        own, shared = sections[name], sections.get(SHARED, Section({}))
        if shared.data is None:
            shared = Section({})
        if not isinstance(shared.data, Mapping):
            raise document.error(
                "shared: must be a mapping with what the experiments have in common,"
                f" not {shown(shared.data)}.",
                SHARED,
            )
        if own.data is None and shared.data:
            own = replace(own, data={})  # "name:" without a value
        if not isinstance(own.data, Mapping):
            return own  # parse_experiment refuses it
        parts = ((SHARED, shared), (name, own))
        # The most distant values come first, and nearer values replace them.
        section = Section({})
        for where, part in parts:
            if part.data.get(EXTENDS) is not None:
                other = self._extended(document, where, name, part.data[EXTENDS])
                section = merge(section, other)
        for where, part in parts:

            def error(message: str, *path: str | int, at: str = where) -> ConfigError:
                return document.error(message, at, *path)

            section = take_over(section, drop(part, [(EXTENDS,)]), error)
        places = {**section.places, (): own.places.get((), document.source)}
        return replace(section, places=places)

    def _extended(
        self, document: Document, where: str, name: str, target: object
    ) -> Section:
        """Returns the experiment of another file that ``extends`` names."""

        def error(message: str) -> ConfigError:
            return document.error(f"extends: {message}", where, EXTENDS)

        match = _FILE.fullmatch(target) if isinstance(target, str) else None
        if match is None:
            raise error(
                "must name a .yaml file, as FILE or FILE:EXPERIMENT, not"
                f" {shown(target)}."
            )
        file = match["file"]
        other = self._document(file, document, error)
        names = _names(other)
        wanted = match["name"] or (names[0] if len(names) == 1 else name)
        if wanted not in names:
            if match["name"]:
                raise error(
                    f"{file} has no experiment '{wanted}'.{suggest(wanted, names)} It"
                    f" has: {', '.join(names)}."
                )
            raise error(
                f"{file} has several experiments, but none named '{name}'. Write one"
                f" of: {', '.join(f'{file}:{known}' for known in names)}."
            )
        node = (_file_of(other), wanted)
        if node in self._open:
            circle = [*self._open[self._open.index(node) :], node]
            chain = " -> ".join(f"{path.name}:{of}" for path, of in circle)
            raise error(f"the experiments extend each other in a circle: {chain}.")
        section = self._experiment(other, wanted)
        if not isinstance(section.data, Mapping):
            raise error(f"{wanted} in {file} is not a mapping.")
        return section

    def _document(
        self, name: str, document: Document, error: Callable[[str], ConfigError]
    ) -> Document:
        file = Path(document.source).parent / Path(name).expanduser()
        if not file.is_file():
            try:
                file = self._find(name)
            except ConfigError as cause:
                raise error(
                    f"there is no file {file}, and no tuned example {name}."
                ) from cause
        key = file.resolve()
        if key == _file_of(document):
            return document
        if key not in self._documents:
            self._documents[key] = self._read(file)
        return self._documents[key]


def _names(document: Document) -> list[str]:
    """Returns the names of the experiments of a file."""
    names = [str(name) for name in without_anchors(document).data]
    names = [name for name in names if name != SHARED]
    if not names:
        raise document.error(
            "has no experiment. 'shared' and keys that begin with '.' only hold values"
            " for experiments. Add an experiment."
        )
    return names


def _file_of(document: Document) -> Path:
    return Path(document.source).resolve()
