"""Merges the inherited values of an experiment: ``shared:`` and other files.

A training file may state common values of its experiments once, and may extend an
experiment of another file::

    shared:
      env: macn
      stop: {num_env_steps_sampled_lifetime: 100_000}
      config: {gamma: 0.97}
    static: {run: RMIX, config: {risk_mode: static}}
    longer:
      extends: rmix/macn-4x7.yaml
      config: {lr: 1.0e-4}

The nearest value wins: first the experiment's own values, then ``shared:`` of its file,
then the file that it extends. Mappings are merged key by key; lists and search spaces
are replaced as a whole. The algorithms of a comparison inherit its shared keys through
the same functions. The result is an ordinary document. Every value in it keeps its
place: the file and line where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rllib_risk.config.experiment_keys import OLD_CHECKPOINT_KEYS, WITHOUT
from rllib_risk.config.rllib_keys import ALIASES
from rllib_risk.config.schema import ConfigError, shown, suggest
from rllib_risk.config.search_space import is_domain_with_list
from rllib_risk.config.yaml_reader import Document, KeyPath

SHARED = "shared"
# Top-level keys of this form hold YAML anchors and nothing else, as in GitLab's CI.
_ANCHORS = re.compile(r"\.[A-Za-z0-9_][A-Za-z0-9_\-]*")

# Equivalent spellings. An experiment that uses one does not inherit the other.
_SPELLINGS: tuple[tuple[KeyPath, ...], ...] = (
    (("run",), ("algorithm",)),
    (("env",), ("config", "env")),
    *(((old,), ("checkpoint_config", new)) for old, new in OLD_CHECKPOINT_KEYS.items()),
    *((("config", old), ("config", new)) for old, new in ALIASES.items()),
)
# Sections for which an empty value means "not given".
_SECTIONS = ("config", "stop")
_IMPORTS = "imports"


@dataclass(frozen=True)
class Section:
    """An experiment, or a part of one, with the place of each value.

    Attributes:
        data: The values; a mapping in a correct file.
        places: Place of each key path; the empty path is the section itself.
        inherited: Key paths of inherited values.
    """

    data: Any
    places: Mapping[KeyPath, str] = field(default_factory=dict)
    inherited: frozenset[KeyPath] = frozenset()


def sections_of(document: Document) -> dict[str, Section]:
    """Splits a document into its top-level sections.

    Args:
        document: The document; its data are a mapping.

    Returns:
        Sections by name. Data that are not a mapping are kept for a later check.
    """
    places: dict[str, dict[KeyPath, str]] = {}
    for path, place in document.places.items():
        places.setdefault(str(path[0]), {})[path[1:]] = place
    inherited: dict[str, set[KeyPath]] = {}
    for path in document.inherited:
        inherited.setdefault(str(path[0]), set()).add(path[1:])
    return {
        name: Section(
            value, places.get(name, {}), frozenset(inherited.get(name, set()))
        )
        for name, value in ((str(key), item) for key, item in document.data.items())
    }


def document_of(sections: Mapping[str, Section], source: str) -> Document:
    """Combines sections into a document; the inverse of :func:`sections_of`."""
    return Document(
        {name: section.data for name, section in sections.items()},
        source,
        {
            (name, *path): place
            for name, section in sections.items()
            for path, place in section.places.items()
        },
        frozenset(
            (name, *path)
            for name, section in sections.items()
            for path in section.inherited
        ),
    )


def merge(base: Section, own: Section, depth: int | None = None) -> Section:
    """Merges two sections; the second one wins.

    Args:
        base: Section with the inherited values.
        own: Section that wins.
        depth: Number of levels of mappings to merge; None: all.

    Returns:
        A section with the values of both. If they spell the same key differently, such
        as ``run`` and ``algorithm``, the spelling of ``own`` is kept.
    """
    for spellings in _SPELLINGS:
        if any(_holds(own.data, path) for path in spellings):
            base = drop(base, (p for p in spellings if not _holds(own.data, p)))
    kept = dict(base.places)
    data = _merged(base.data, own.data, (), kept, depth)
    taken_over = frozenset(kept.keys() - own.places.keys() - {()})
    places = {**kept, **own.places}
    modules = _modules(base) | _modules(own)
    if _modules(base) and _modules(own):
        # Both lists are needed, since each section may use what its modules register.
        data[_IMPORTS] = [*modules]
        _forget(places, (_IMPORTS,))
        where = enumerate(modules.values())
        places |= {(_IMPORTS, index): place for index, place in where if place}
    return Section(data, places, taken_over | own.inherited)


def _modules(section: Section) -> dict[str, str]:
    """Returns the modules under ``imports`` with their places.

    A malformed value gives no modules; later checks refuse it.
    """
    value = section.data.get(_IMPORTS)
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        return {}
    otherwise = section.places.get((_IMPORTS,), "")
    return {
        name: section.places.get((_IMPORTS, index), otherwise)
        for index, name in enumerate(names)
    }


def _merged(
    base: Mapping[str, Any],
    own: Mapping[str, Any],
    path: KeyPath,
    places: dict[KeyPath, str],
    depth: int | None,
) -> dict[str, Any]:
    """Merges values and removes replaced values from ``places``."""
    result = dict(base)
    for key, value in own.items():
        here, old = (*path, str(key)), base.get(key)
        if value is None and not path and key in _SECTIONS and key in base:
            continue
        opens = depth is None or len(here) < depth
        if opens and isinstance(old, Mapping) and _is_open(old) and _is_open(value):
            result[key] = _merged(old, value, here, places, depth)
        else:
            result[key] = value
            if key in base:
                _forget(places, here)
    return result


def _is_open(value: Any) -> bool:
    """Returns whether a value is a mapping that can be merged key by key."""
    return isinstance(value, Mapping) and not is_domain_with_list(value)


def _forget(places: dict[KeyPath, str], path: KeyPath) -> None:
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]


def _holds(data: Any, path: KeyPath) -> bool:
    for key in path:
        if not isinstance(data, Mapping) or key not in data:
            return False
        data = data[key]
    return True


def drop(section: Section, paths: Iterable[KeyPath]) -> Section:
    """Returns a section without some of its values."""
    for path in paths:
        if _holds(section.data, path):
            places = dict(section.places)
            _forget(places, path)
            section = replace(
                section,
                data=_dropped(section.data, path),
                places=places,
                inherited=section.inherited & places.keys(),
            )
    return section


def _dropped(data: Mapping[str, Any], path: KeyPath) -> dict[str, Any]:
    key, *rest = path
    if not rest:
        return {name: value for name, value in data.items() if name != key}
    return {**data, str(key): _dropped(data[str(key)], tuple(rest))}


def take_over(
    base: Section,
    own: Section,
    error: Callable[..., ConfigError],
    *,
    of_comparison: bool = False,
) -> Section:
    """Merges shared values with own ones, except those that ``without`` names.

    Args:
        base: The shared values.
        own: An experiment, or an algorithm of a comparison, unchecked.
        error: Function that makes an error from a message and a path inside ``own``.
        of_comparison: True for an algorithm of a comparison. Then ``without`` can name
            only keys of ``config``, and each key is replaced as a whole.

    Returns:
        The merged section, without the key ``without``.

    Raises:
        ConfigError: If ``without`` names a value that is not inherited, or that ``own``
            replaces anyway.
    """
    names = own.data.get(WITHOUT)
    names = [] if names is None else names
    if not isinstance(names, list):
        raise error(f"without: must be a list, not {shown(names)}.", WITHOUT)
    starts: tuple[KeyPath, ...] = (("config",),) if of_comparison else (("config",), ())
    left_out = []
    for index, name in enumerate(names):
        paths = [(*start, *str(name).split(".")) for start in starts]
        path = next((path for path in paths if _holds(base.data, path)), None)
        if path is None:
            known = [*(base.data.get("config") or {})]
            known += [] if of_comparison else base.data
            hint = suggest(str(name), known)
            message = f"without: '{name}' is not inherited.{hint}"
            raise error(message, WITHOUT, index)
        # A mapping may be left out and given again: then it is replaced, not merged.
        merges = not of_comparison and _is_open(_value_at(base.data, path))
        if _holds(own.data, path) and not merges:
            message = (
                f"without: '{name}' also has a new value, which replaces the inherited"
                f" one anyway. Leave '{name}' out of 'without'."
            )
            raise error(message, WITHOUT, index)
        left_out.append(path)
    own = drop(own, [(WITHOUT,)])
    return merge(drop(base, left_out), own, 2 if of_comparison else None)


def _value_at(data: Any, path: KeyPath) -> Any:
    for key in path:
        data = data[key]
    return data


def without_anchors(document: Document) -> Document:
    """Returns a document without the top-level keys that hold YAML anchors."""
    if not isinstance(document.data, Mapping):
        return document
    data = {
        name: value
        for name, value in document.data.items()
        if not _ANCHORS.fullmatch(str(name))
    }
    return document if data == document.data else replace(document, data=data)
