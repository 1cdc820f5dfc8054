"""Slots and compositions: how a configuration chooses parts.

A *slot* is a key such as ``td_weighting``. Its value names a *part*: a built-in part,
or a custom part as ``pkg.module:Class``. A part declares its keys (its ``Options``),
checks them, and computes.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rllib_risk.config.imports import import_path
from rllib_risk.config.options import fields_of
from rllib_risk.config.part import NoOptions, Part
from rllib_risk.config.schema import Field

__all__ = ["Choice", "Composition", "NoOptions", "Part", "Slot"]

# Name in messages of a custom class that inherits the options of its base class.
_OWN = "your own class without Options"


@dataclass(frozen=True)
class Choice:
    """The part that a configuration chooses for a slot.

    Attributes:
        key: The slot's key.
        name: The part's name or import path.
        part: The part's class.
        options: The part's options in this configuration.
    """

    key: str
    name: str
    part: type[Any]
    options: Any

    @property
    def is_own(self) -> bool:
        """Whether the part is a custom part of the user."""
        return ":" in self.name

    def make(self, **arguments: Any) -> Any:
        """Creates an instance of the part.

        Args:
            **arguments: The slot's positional arguments, in this order. The names are
                used only in the error message.

        Returns:
            The part.

        Raises:
            ValueError: If a custom part does not take these arguments.
        """
        given, keywords = arguments.values(), self.part.keywords(self.options)
        if self.is_own:
            try:
                inspect.signature(self.part).bind(*given, **keywords)
            except TypeError as error:
                more = [f"{key}={value!r}" for key, value in keywords.items()]
                raise ValueError(
                    f"{self.key}: {self.name!r} is called with"
                    f" ({', '.join([*arguments, *more])}): {error}."
                ) from error
        return self.part(*given, **keywords)

    def check_shape(
        self, result: Any, *shapes: tuple[int, ...], of: str = "forward"
    ) -> None:
        """Checks the shape of a custom part's result; a wrong one could broadcast.

        Args:
            result: Result of the part for an input of zeros.
            *shapes: Allowed shapes.
            of: Name of the method that returned the result.

        Raises:
            ValueError: If the result has none of these shapes.
        """
        if tuple(getattr(result, "shape", ())) not in shapes:
            allowed = " or ".join(str(list(shape)) for shape in shapes)
            found = getattr(result, "shape", None)
            raise ValueError(
                f"{self.key}: {of} of {self.name!r} must return {allowed} when it is"
                " tried on zeros, and it returned"
                f" {type(result).__name__ if found is None else list(found)}."
            )


@dataclass(frozen=True)
class Slot:
    """A slot of a composition, which takes one part.

    Attributes:
        key: The configuration key that chooses the part.
        doc: Description of the key.
        base: Base class of all parts of the slot, as ``pkg.module:Class``.
        builtin: Name -> class of the built-in parts, as ``pkg.module:Class``.
        default: Name of the default part.
        fixed: Whether a run cannot continue with another part.
    """

    key: str
    doc: str
    base: str
    builtin: Mapping[str, str]
    default: str
    fixed: bool = True

    @cached_property
    def field(self) -> Field:
        """The declaration of the key."""
        return Field(
            self.default,
            self.doc,
            str,
            choices=tuple(self.builtin),
            import_path=True,
            fixed=self.fixed,
        )

    def part(self, name: str) -> type[Any]:
        """Imports the class of a part.

        Args:
            name: A name in :attr:`builtin`, or an import path.

        Returns:
            The class.

        Raises:
            ValueError: If there is no such part; the message says why.
        """
        path = self.builtin.get(name)
        if path is None:
            return import_path(name, self.key, _load(self.base))
        return _load(path)

    def choose(self, values: Mapping[str, Any]) -> Choice:
        """Returns the part that a configuration names, with its options.

        Args:
            values: Keys and values of a configuration. Missing keys have defaults.

        Returns:
            The choice.

        Raises:
            ValueError: If there is no such part; the message says why.
        """
        name = values.get(self.key, self.default)
        part = self.part(name)
        return Choice(self.key, name, part, part.read(values))

    @cached_property
    def _known(self) -> dict[str, type[Any]]:
        """The built-in parts and the base class of custom parts, by name."""
        parts = {name: self.part(name) for name in self.builtin}
        return {**parts, _OWN: _load(self.base)}

    @cached_property
    def keys(self) -> dict[str, Field]:
        """The keys of the built-in parts of this slot."""
        fields: dict[str, Field] = {}
        for part in self._known.values():
            for key, field in fields_of(part.Options).items():
                # Parts that share a key inherit it, so that it is declared once.
                if fields.setdefault(key, field) != field:
                    raise TypeError(
                        f"{self.key}: the parts declare {key} in two ways. Declare it"
                        " once and inherit it."
                    )
        return fields

    def owners(self, key: str) -> tuple[str, ...]:
        """Returns the names of the parts that a key belongs to.

        Args:
            key: A key in :attr:`keys`.
        """
        known = self._known.items()
        owners = tuple(n for n, part in known if part.has_key(key))
        # The base class may share its options with a built-in part.
        return tuple(n for n in owners if n != _OWN) or owners


def _load(path: str) -> type[Any]:
    module, _, name = path.partition(":")
    part: type[Any] = getattr(importlib.import_module(module), name)
    return part


class Composition:
    """The slots of a family of algorithms."""

    def __init__(self, slots: Iterable[Slot], common: Iterable[str] = ()) -> None:
        """Initializes the composition.

        Args:
            slots: The slots.
            common: Parts of every composition, as ``pkg.module:Class``.
        """
        self.slots = {slot.key: slot for slot in slots}
        self._common = tuple(common)

    @cached_property
    def common(self) -> tuple[type[Part], ...]:
        """Classes of the parts of every composition."""
        return tuple(_load(path) for path in self._common)

    def fields(self) -> dict[str, Field]:
        """Returns the keys of the slots and of all built-in parts."""
        return dict(self._fields)

    @cached_property
    def _fields(self) -> dict[str, Field]:
        groups: list[Mapping[str, Field]] = []
        for slot in self.slots.values():
            groups += [{slot.key: slot.field}, slot.keys]
        groups += [fields_of(part.Options) for part in self.common]
        fields: dict[str, Field] = {}
        for group in groups:
            for key, field in group.items():
                if fields.setdefault(key, field) != field:
                    raise TypeError(
                        f"The parts declare {key} in two ways. Declare it once and"
                        " inherit it."
                    )
        return fields

    def choose(self, values: Mapping[str, Any]) -> dict[str, Choice]:
        """Returns the part in each slot; see :meth:`Slot.choose`.

        Args:
            values: Keys and values of a configuration. Missing keys have defaults.
        """
        return {key: slot.choose(values) for key, slot in self.slots.items()}

    def make(self, slot: str, values: Mapping[str, Any], **arguments: Any) -> Any:
        """Creates an instance of the part in one slot.

        Args:
            slot: The slot's key.
            values: Keys and values of a configuration. Missing keys have defaults.
            **arguments: See :meth:`Choice.make`.
        """
        return self.slots[slot].choose(values).make(**arguments)

    def own_fields(
        self, values: Mapping[str, Iterable[str]], others: Mapping[str, Field | None]
    ) -> dict[str, Field]:
        """Returns the keys of custom parts.

        Args:
            values: Names of parts, by the key of their slot.
            others: Keys that do not belong to this composition. The value is None if
                this package does not declare the key.

        Returns:
            Key -> declaration, without the keys that the package declares itself.

        Raises:
            ValueError: If a custom part cannot be imported, its ``Options`` are
                invalid, or an option has the name of another key.
        """
        known: dict[str, Field | None] = {**others, **self._fields}
        mine = set(known)
        fields: dict[str, Field] = {}
        for slot in self.slots.values():
            for name in values.get(slot.key, ()):
                if name in slot.builtin or ":" not in name:
                    continue
                try:
                    declared = fields_of(slot.part(name).Options)
                except TypeError as error:
                    raise ValueError(f"{slot.key}: {error}") from error
                for key, field in declared.items():
                    if known.setdefault(key, field) != field:
                        raise ValueError(
                            f"{slot.key}: {name!r} declares {key!r}, but another key"
                            " already has this name. Give the option another name, or"
                            " inherit the Options that declare it."
                        )
                fields |= declared
        return {key: field for key, field in fields.items() if key not in mine}

    def part(self, slot: str, config: Any) -> type[Any]:
        """Returns the class of the part that a configuration chooses for a slot.

        Refusals and other decisions read attributes of this class. The name in the
        configuration does not decide, because it may be an import path.

        Args:
            slot: The slot's key.
            config: A configuration with the slots' keys as attributes.
        """
        return self.slots[slot].part(getattr(config, slot))

    def chosen(self, config: Any) -> dict[str, type[Part]]:
        """Returns the class of the part in each slot; see :meth:`part`.

        Args:
            config: A configuration with the slots' keys as attributes.
        """
        return {key: self.part(key, config) for key in self.slots}

    def refusals(self, config: Any) -> Iterator[str]:
        """Yields the reasons why the chosen parts cannot be combined.

        Args:
            config: A configuration with all keys as attributes.

        Yields:
            Messages for users.
        """
        for part in (*self.chosen(config).values(), *self.common):
            yield from part.refusals(config)

    def unused(self, config: Any) -> dict[str, str]:
        """Returns the keys of parts that the configuration does not use.

        Args:
            config: A configuration with the slots' keys as attributes.

        Returns:
            Key -> text that names the parts it belongs to and the parts in use.
        """
        chosen = self.chosen(config)
        parts = (*chosen.values(), *self.common)
        used = {key for part in parts for key in fields_of(part.Options)}
        found: dict[str, list[str]] = {}
        for slot in self.slots.values():
            present = getattr(config, slot.key)
            for key in slot.keys.keys() - used:
                owners = _spelled(slot.owners(key))
                found.setdefault(key, []).append(
                    f"{slot.key}: {owners} (here it is {present!r})"
                )
        return {key: ", or to ".join(owners) for key, owners in found.items()}


def _spelled(names: tuple[str, ...]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
