"""Parses grids of shifted environments (``rllib evaluate --shift grid.yaml``).

A file lists the axes of the shift and the values of each axis. The cells of the grid
are all combinations::

    episodes: 32                # per cell, with the same seeds in every cell
    env_config: {bins: 21}      # changes of the checkpoint's env_config, in all cells
    nominal: {city: tucson, season: in}
    metric: normalised_return
    grid:
      city: [tucson, tampa]     # an axis named after a key of env_config: its values
      season:                   # any other axis: named sets of keys
        in: {day_range: [0, 200]}
        out: {day_range: [200, 365]}

A key with dots is a path: ``kwargs.wind`` is the key ``wind`` inside ``kwargs``, whose
other keys stay. Any other key of a cell replaces the whole value.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_risk.config.checks import check_key
from rllib_risk.config.schema import ConfigError, Field, suggest
from rllib_risk.config.yaml_reader import Document, KeyPath

RETURN = "return"
NO_NOMINAL = "none"
# Far more cells than are useful; a mistyped range would give even more.
MAX_CELLS = 10_000

SHIFT_FIELDS: dict[str, Field] = {
    "grid": Field(
        None, "Axes: name to a list of values, or to named sets of keys.", dict
    ),
    "episodes": Field(32, "Number of episodes per cell.", int, low=1, unit="episodes"),
    "seed": Field(0, "Seed of the evaluation, the same in every cell.", int, low=0),
    "env_config": Field({}, "Keys of env_config that all cells share.", dict),
    "nominal": Field(
        None,
        "Cell that is like the training, as axis to value; an axis that is left out has"
        " its first value. 'none': no such cell.",
        (dict, str),
    ),
    "metric": Field(
        RETURN,
        "Number to compare, which the environment reports at the end of an episode;"
        " higher is better.",
        str,
    ),
}


@dataclass(frozen=True)
class Axis:
    """One axis of a grid.

    Attributes:
        name: Name of the axis in the file.
        labels: Names of its values, in order.
        settings: Keys of ``env_config`` that each value sets.
    """

    name: str
    labels: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Cell:
    """One environment of a grid.

    Attributes:
        labels: Name of the value on each axis.
        settings: Keys of ``env_config`` that differ from the checkpoint's.
    """

    labels: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ShiftGrid:
    """A grid, checked as far as possible without the environment.

    Attributes:
        name: Name of the file, without its extension.
        axes: The axes, at least one.
        cells: All combinations of values; the last axis varies fastest.
        nominal: Index of the cell that is like the training; None if there is none.
        episodes: Number of episodes per cell.
        seed: Seed of the evaluation.
        metric: Number to compare; :data:`RETURN`: the return of the episode.
        document: The file, for messages.
    """

    name: str
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    nominal: int | None
    episodes: int
    seed: int
    metric: str
    document: Document

    def cell_name(self, index: int) -> str:
        """Returns a name such as ``city=tampa, season=out``."""
        names = (axis.name for axis in self.axes)
        pairs = zip(names, self.cells[index].labels, strict=True)
        return ", ".join(f"{name}={label}" for name, label in pairs)

    def error(self, index: int, message: str) -> ConfigError:
        """Returns a ``ConfigError`` about a cell, with the line that caused it.

        Args:
            index: Index of the cell.
            message: Description of the error. If it names a key of the file, the line
                is that of the key.
        """
        text = f"cell {self.cell_name(index)}: {message}"
        return self.document.error(text, *self._place(index, message))

    def _place(self, index: int, message: str) -> KeyPath:
        words = set(re.findall(r"\w+", message))
        for axis, label in zip(self.axes, self.cells[index].labels, strict=True):
            at = axis.labels.index(label)
            for key in axis.settings[at]:
                if words & set(key.split(".")):
                    listed = isinstance(self.document.data["grid"][axis.name], list)
                    place: KeyPath = ("grid", axis.name)
                    return (*place, at) if listed else (*place, label, key)
        for key in self.document.data.get("env_config", {}):
            if words & set(str(key).split(".")):
                return ("env_config", str(key))
        return ("grid",)


def is_shift_grid(data: Any) -> bool:
    """Returns whether a document is a grid, for ``rllib evaluate --shift``.

    Args:
        data: The document's values.
    """
    if not isinstance(data, Mapping) or "grid" not in data:
        return False
    # In a training file, an experiment may be named "grid".
    section = data["grid"]
    return not (isinstance(section, Mapping) and {"run", "algorithm"} & set(section))


def parse_shift_grid(document: Document, name: str) -> ShiftGrid:
    """Parses and checks a grid.

    Args:
        document: The file, unchecked.
        name: Name of the grid.

    Returns:
        The grid.

    Raises:
        ConfigError: If the file is wrong. The message has the place of the first error.
    """
    data = _check_keys(document)
    axes = tuple(
        _parse_axis(str(axis), values, document)
        for axis, values in data["grid"].items()
    )
    if not axes:
        raise document.error("grid: is empty. Name at least one axis.", "grid")
    _check_apart(axes, document)
    number = math.prod(len(axis.labels) for axis in axes)
    if number > MAX_CELLS:
        raise document.error(
            f"grid: has {number} cells, but at most {MAX_CELLS} are allowed. Use fewer"
            " values.",
            "grid",
        )
    shared = {str(key): value for key, value in data["env_config"].items()}
    cells = []
    for picked in itertools.product(*(range(len(axis.labels)) for axis in axes)):
        chosen = list(zip(axes, picked, strict=True))
        settings = dict(shared)
        for axis, at in chosen:
            settings.update(axis.settings[at])
        cells.append(Cell(tuple(axis.labels[at] for axis, at in chosen), settings))
    return ShiftGrid(
        name=name,
        axes=axes,
        cells=tuple(cells),
        nominal=_nominal(data["nominal"], axes, tuple(cells), document),
        episodes=data["episodes"],
        seed=data["seed"],
        metric=data["metric"],
        document=document,
    )


def apply_settings(
    env_config: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a copy of an ``env_config`` with the keys of a cell.

    Args:
        env_config: The original ``env_config``, which is not changed.
        settings: Values by key, or by path with dots.

    Returns:
        The ``env_config`` of the cell.

    Raises:
        ConfigError: If a value on a path is not a mapping.
    """
    result: dict[str, Any] = copy.deepcopy(dict(env_config))
    for path, value in settings.items():
        *outer, last = path.split(".")
        inside = result
        for key in outer:
            inside = inside.setdefault(key, {})
            if not isinstance(inside, dict):
                raise ConfigError(
                    f"{path}: '{key}' is {inside!r}, which has no keys. Correct the"
                    " path."
                )
        inside[last] = copy.deepcopy(value)
    return result


def _check_keys(document: Document) -> dict[str, Any]:
    """Checks the top-level keys of the file and adds defaults."""
    data = document.data
    if not is_shift_grid(data):
        raise document.error(
            "'grid' is missing. Add the axes of the shift, as in"
            " 'grid: {cliff_reward: [-100, -50]}'."
        )
    checked = {key: field.default for key, field in SHIFT_FIELDS.items()}
    for key, value in data.items():
        if key not in SHIFT_FIELDS:
            raise document.error(
                f"unknown key '{key}' of a grid.{suggest(str(key), SHIFT_FIELDS)}"
                " (Keys of the environment go under 'env_config' or 'grid'.)",
                str(key),
            )
        field = SHIFT_FIELDS[key]
        checked[key] = check_key(str(key), value, field, document, (str(key),))
    return checked


def _parse_axis(name: str, values: Any, document: Document) -> Axis:
    place: KeyPath = ("grid", name)
    if not isinstance(values, (list, Mapping)) or not values:
        raise document.error(
            f"{name}: must be a list of values, or a mapping of names to keys of"
            f" env_config, not {values!r}.",
            *place,
        )
    if isinstance(values, Mapping):
        for label, keys in values.items():
            if isinstance(label, bool) or label is None:
                raise document.error(
                    f"{name}: YAML reads this name as {label!r}. Put it in quotes.",
                    *place,
                )
            if not isinstance(keys, Mapping):
                raise document.error(
                    f"{name}.{label}: must be keys of env_config, as in"
                    f" '{label}: {{key: value}}', not {keys!r}.",
                    *(*place, str(label)),
                )
        settings = tuple(
            {str(key): value for key, value in keys.items()} for keys in values.values()
        )
        return Axis(name, tuple(str(label) for label in values), settings)
    labels: list[str] = []
    for index, value in enumerate(values):
        if isinstance(value, Mapping):
            raise document.error(
                f"{name}: a set of keys needs a name. Write '{name}: {{NAME: ...}}'.",
                *(*place, index),
            )
        label = value if isinstance(value, str) else json.dumps(value, default=str)
        if label in labels:
            raise document.error(
                f"{name}: {label} is given twice. Leave one out.", *(*place, index)
            )
        labels.append(label)
    return Axis(name, tuple(labels), tuple({name: value} for value in values))


def _check_apart(axes: tuple[Axis, ...], document: Document) -> None:
    """Refuses two axes that set the same key: one would overwrite the other."""
    owner: dict[str, str] = {}
    for axis in axes:
        for key in sorted({key for keys in axis.settings for key in keys}):
            for other in owner:
                nested = (key.startswith(f"{other}."), other.startswith(f"{key}."))
                if key == other or any(nested):
                    raise document.error(
                        f"{axis.name}: sets '{key}', which the axis"
                        f" '{owner[other]}' also sets. Leave it out of one axis.",
                        *("grid", axis.name),
                    )
        owner.update((key, axis.name) for keys in axis.settings for key in keys)


def _nominal(
    nominal: Any, axes: tuple[Axis, ...], cells: tuple[Cell, ...], document: Document
) -> int | None:
    """Returns the index of the nominal cell; None if there is none."""
    if isinstance(nominal, str):
        if nominal == NO_NOMINAL:
            return None
        raise document.error(
            f"nominal: must be a mapping of axis to value, or 'none', not {nominal!r}.",
            "nominal",
        )
    given = {str(key): value for key, value in (nominal or {}).items()}
    for key in given:
        names = [axis.name for axis in axes]
        if key not in names:
            raise document.error(
                f"nominal: the grid has no axis '{key}'.{suggest(key, names)}",
                *("nominal", key),
            )
    labels = []
    for axis in axes:
        value = given.get(axis.name, axis.labels[0])
        label = value if isinstance(value, str) else json.dumps(value, default=str)
        # -100 and -100.0 are two spellings of one value.
        same = [
            own
            for own, settings in zip(axis.labels, axis.settings, strict=True)
            if own == label or settings == {axis.name: value}
        ]
        if not same:
            raise document.error(
                f"nominal: {axis.name} has no value {label}. Its values:"
                f" {', '.join(axis.labels)}.",
                *("nominal", axis.name),
            )
        labels.append(same[0])
    return next(i for i, cell in enumerate(cells) if cell.labels == tuple(labels))
