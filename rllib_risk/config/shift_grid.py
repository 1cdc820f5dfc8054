"""Grids of shifted environments, for ``rllib evaluate CHECKPOINT --shift grid.yaml``.

A file names the axes of the shift and the values on each; the cells are all
combinations::

    episodes: 32                # per cell, with the same seeds in every cell
    env_config: {bins: 21}      # on top of the checkpoint's own, in all cells
    nominal: {city: tucson, season: in}
    metric: normalised_return
    grid:
      city: [tucson, tampa]     # an axis named like a key of env_config: its values
      season:                   # any other axis: named sets of keys
        in: {day_range: [0, 200]}
        out: {day_range: [200, 365]}

A key with dots is a path: ``kwargs.wind`` is the key ``wind`` inside ``kwargs``, whose
other keys stay. Everything else that a cell sets replaces what was there.
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
# More cells than anybody looks at; a range written by mistake makes far more.
MAX_CELLS = 10_000

SHIFT_FIELDS: dict[str, Field] = {
    "grid": Field(None, "Axis: list of values, or named sets of keys.", dict),
    "episodes": Field(32, "Episodes per cell.", int, low=1, unit="episodes"),
    "seed": Field(0, "Of the evaluation; the same in every cell.", int, low=0),
    "env_config": Field({}, "Keys of env_config that all cells share.", dict),
    "nominal": Field(
        None,
        "Axis: value of the cell that is like training; axes that are left out have"
        " their first value. 'none': no cell is.",
        (dict, str),
    ),
    "metric": Field(
        RETURN,
        "Number that the environment reports at the end of an episode; higher is"
        " better.",
        str,
    ),
}


@dataclass(frozen=True)
class Axis:
    """One axis of a grid.

    Attributes:
        name: As in the file.
        labels: Names of its values, in order.
        settings: For each value the keys of ``env_config`` that it sets.
    """

    name: str
    labels: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Cell:
    """One environment of a grid.

    Attributes:
        labels: The value on each axis, by name.
        settings: Keys of ``env_config`` that differ from the checkpoint's.
    """

    labels: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ShiftGrid:
    """A grid, checked as far as it can be without the environment.

    Attributes:
        name: Of the file, without its ending.
        axes: At least one.
        cells: All combinations; the last axis runs fastest.
        nominal: Index of the cell that is like training, if one is.
        episodes: Per cell.
        seed: Of the evaluation.
        metric: What is compared; :data:`RETURN`: the return of the episode.
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
        """Returns a ``ConfigError`` about a cell, at the line that is to blame.

        Args:
            index: Of the cell.
            message: What is wrong. If it names a key that the file sets, the line is
                that of the key.
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
    # An experiment may have any name, this one included.
    section = data["grid"]
    return not (isinstance(section, Mapping) and {"run", "algorithm"} & set(section))


def parse_shift_grid(document: Document, name: str) -> ShiftGrid:
    """Checks a grid.

    Args:
        document: The file as it was read.
        name: Of the grid.

    Returns:
        The grid.

    Raises:
        ConfigError: With place and suggestion, for the first thing that is wrong.
    """
    data = _check_keys(document)
    axes = tuple(
        _parse_axis(str(axis), values, document)
        for axis, values in data["grid"].items()
    )
    if not axes:
        raise document.error("grid: name at least one axis.", "grid")
    _check_apart(axes, document)
    number = math.prod(len(axis.labels) for axis in axes)
    if number > MAX_CELLS:
        raise document.error(
            f"grid: has {number} cells, and at most {MAX_CELLS} are allowed.", "grid"
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
    """Puts the keys of a cell into an ``env_config``.

    Args:
        env_config: What the cell starts from; left as it is.
        settings: Keys, or paths with dots, and their values.

    Returns:
        The ``env_config`` of the cell.

    Raises:
        ConfigError: If a path leads through something that is no mapping.
    """
    result: dict[str, Any] = copy.deepcopy(dict(env_config))
    for path, value in settings.items():
        *outer, last = path.split(".")
        inside = result
        for key in outer:
            inside = inside.setdefault(key, {})
            if not isinstance(inside, dict):
                raise ConfigError(f"{path}: '{key}' holds {inside!r}, not keys.")
        inside[last] = copy.deepcopy(value)
    return result


def _check_keys(document: Document) -> dict[str, Any]:
    """Checks the keys of the file itself and fills in defaults."""
    data = document.data
    if not is_shift_grid(data):
        raise document.error(
            "must have 'grid', the axes of the shift, as in"
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
                    f"{name}: YAML reads this name as {label!r}: put it in quotes.",
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
                f"{name}: give this set of keys a name: '{name}: {{NAME: ...}}'.",
                *(*place, index),
            )
        label = value if isinstance(value, str) else json.dumps(value, default=str)
        if label in labels:
            raise document.error(f"{name}: {label} is given twice.", *(*place, index))
        labels.append(label)
    return Axis(name, tuple(labels), tuple({name: value} for value in values))


def _check_apart(axes: tuple[Axis, ...], document: Document) -> None:
    """Refuses two axes that set the same key: one would undo the other."""
    owner: dict[str, str] = {}
    for axis in axes:
        for key in sorted({key for keys in axis.settings for key in keys}):
            for other in owner:
                nested = (key.startswith(f"{other}."), other.startswith(f"{key}."))
                if key == other or any(nested):
                    raise document.error(
                        f"{axis.name}: sets '{key}', which the axis"
                        f" '{owner[other]}' sets as well.",
                        *("grid", axis.name),
                    )
        owner.update((key, axis.name) for keys in axis.settings for key in keys)


def _nominal(
    nominal: Any, axes: tuple[Axis, ...], cells: tuple[Cell, ...], document: Document
) -> int | None:
    """Finds the nominal cell."""
    if isinstance(nominal, str):
        if nominal == NO_NOMINAL:
            return None
        raise document.error(
            f"nominal: must name a value of each axis, or be 'none', not {nominal!r}.",
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
        # -100 and -100.0 are one value, written in two ways
        same = [
            own
            for own, settings in zip(axis.labels, axis.settings, strict=True)
            if own == label or settings == {axis.name: value}
        ]
        if not same:
            raise document.error(
                f"nominal: {axis.name} has no value {label}; it has"
                f" {', '.join(axis.labels)}.",
                *("nominal", axis.name),
            )
        labels.append(same[0])
    return next(i for i, cell in enumerate(cells) if cell.labels == tuple(labels))
