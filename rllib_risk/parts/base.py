"""How a configuration chooses the parts of a composition.

A *slot* is a key such as ``td_weighting``. Its value names a *part*: one of the
package's, or one of the user's own as ``pkg.module:Class``. A part owns its keys (its
``Options``), says what it refuses, and computes.
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

# How messages name a class that declares no options and so inherits those of its base.
_OWN = "your own class without Options"


@dataclass(frozen=True)
class Choice:
    """The part that a configuration has in a slot.

    Attributes:
        key: The slot's key.
        name: The part's name, or its import path.
        part: Its class.
        options: Its options in this configuration.
    """

    key: str
    name: str
    part: type[Any]
    options: Any

    @property
    def is_own(self) -> bool:
        """Whether the part is one of the user's own."""
        return ":" in self.name

    def make(self, **arguments: Any) -> Any:
        """An instance of the part.

        Args:
            **arguments: What parts of this slot take first, in this order; the names
                are for the message.

        Returns:
            The part.

        Raises:
            ValueError: If a part of the user's own does not take these arguments.
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
        """Refuses a part of the user's own that gives a shape that would broadcast.

        Args:
            result: What it made of zeros.
            *shapes: What it may have.
            of: The method that made it.

        Raises:
            ValueError: If it has none of these shapes.
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
    """A place in a composition.

    Attributes:
        key: The configuration key that chooses the part.
        doc: What the key does.
        base: Class of all parts that fit, as ``pkg.module:Class``.
        builtin: Name -> class of the package's own parts, as ``pkg.module:Class``.
        default: Name of the part that is used where the user chooses none.
        fixed: True if a run cannot go on with another part.
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
        """The class of a part.

        Args:
            name: A name of :attr:`builtin`, or an import path.

        Returns:
            The class.

        Raises:
            ValueError: If there is no such part, with the reason.
        """
        path = self.builtin.get(name)
        if path is None:
            return import_path(name, self.key, _load(self.base))
        return _load(path)

    def choose(self, values: Mapping[str, Any]) -> Choice:
        """The part that a configuration names, with its options.

        Args:
            values: Keys and values of a configuration; defaults count for the rest.

        Returns:
            The choice.

        Raises:
            ValueError: If there is no such part, with the reason.
        """
        name = values.get(self.key, self.default)
        part = self.part(name)
        return Choice(self.key, name, part, part.read(values))

    @cached_property
    def _known(self) -> dict[str, type[Any]]:
        """The package's own parts, and what one of the user's own begins with."""
        parts = {name: self.part(name) for name in self.builtin}
        return {**parts, _OWN: _load(self.base)}

    @cached_property
    def keys(self) -> dict[str, Field]:
        """The keys of the package's own parts of this slot."""
        fields: dict[str, Field] = {}
        for part in self._known.values():
            for key, field in fields_of(part.Options).items():
                # Parts that share a key inherit it, so that it is stated once.
                if fields.setdefault(key, field) != field:
                    raise TypeError(f"{self.key}: {key} is declared in two ways.")
        return fields

    def owners(self, key: str) -> tuple[str, ...]:
        """Names of the parts that a key belongs to.

        Args:
            key: One of :attr:`keys`.
        """
        known = self._known.items()
        owners = tuple(n for n, part in known if key in fields_of(part.Options))
        # The base class may share its options with a part of the package.
        return tuple(n for n in owners if n != _OWN) or owners


def _load(path: str) -> type[Any]:
    module, _, name = path.partition(":")
    part: type[Any] = getattr(importlib.import_module(module), name)
    return part


class Composition:
    """The slots of a kind of algorithm, and what a configuration makes of them."""

    def __init__(self, slots: Iterable[Slot], common: Iterable[str] = ()) -> None:
        """Initializes the composition.

        Args:
            slots: Its slots.
            common: Parts that are always there, as ``pkg.module:Class``.
        """
        self.slots = {slot.key: slot for slot in slots}
        self._common = tuple(common)

    @cached_property
    def common(self) -> tuple[type[Part], ...]:
        """The classes of the parts that are always there."""
        return tuple(_load(path) for path in self._common)

    def fields(self) -> dict[str, Field]:
        """The slots' keys, and those of all parts of the package's own."""
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
                    raise TypeError(f"{key} is declared in two ways.")
        return fields

    def choose(self, values: Mapping[str, Any]) -> dict[str, Choice]:
        """The part in each slot; see :meth:`Slot.choose`.

        Args:
            values: Keys and values of a configuration; defaults count for the rest.
        """
        return {key: slot.choose(values) for key, slot in self.slots.items()}

    def make(self, slot: str, values: Mapping[str, Any], **arguments: Any) -> Any:
        """An instance of the part in one slot.

        Args:
            slot: The slot's key.
            values: Keys and values of a configuration; defaults count for the rest.
            **arguments: See :meth:`Choice.make`.
        """
        return self.slots[slot].choose(values).make(**arguments)

    def own_fields(
        self, values: Mapping[str, Iterable[str]], others: Mapping[str, Field | None]
    ) -> dict[str, Field]:
        """The keys of parts of the user's own.

        Args:
            values: Names of parts, by the key of their slot.
            others: Keys beside those of this composition; None where one is not
                declared by this package.

        Returns:
            Key -> declaration, without keys that the package declares itself.

        Raises:
            ValueError: If such a part cannot be imported, its options are none, or one
                has the name of another key.
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
                            f"{slot.key}: {name!r} declares {key!r}, which is the name"
                            " of another key already. Give the option another name, or"
                            " inherit the Options that have it."
                        )
                fields |= declared
        return {key: field for key, field in fields.items() if key not in mine}

    def chosen(self, config: Any) -> dict[str, type[Part]]:
        """The class of the part in each slot.

        Args:
            config: A configuration with the slots' keys as attributes.
        """
        return {k: slot.part(getattr(config, k)) for k, slot in self.slots.items()}

    def refusals(self, config: Any) -> Iterator[str]:
        """Why the chosen parts do not go together.

        Args:
            config: A configuration with all keys as attributes.

        Yields:
            Messages for users.
        """
        for part in (*self.chosen(config).values(), *self.common):
            yield from part.refusals(config)

    def unused(self, config: Any) -> dict[str, str]:
        """Keys of parts that are not in use.

        Args:
            config: A configuration with the slots' keys as attributes.

        Returns:
            Key -> which part it belongs to, and what is there instead.
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
