"""What a part of a composition is, and how a configuration chooses one.

A *slot* is a key such as ``td_weighting``. Its value names a *part*: one of the
package's, or one of the user's own as ``pkg.module:Class``. A part owns its keys (its
``Options``), says what it refuses, and computes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from rllib_risk.config.options import fields_of, read_options
from rllib_risk.config.schema import Field
from rllib_risk.parts.imports import import_part


@dataclass(frozen=True)
class NoOptions:
    """The options of a part that has none."""


class Part:
    """One part of a composition.

    A part of your own is a subclass of its slot's class with an ``Options`` of its own,
    and the methods of that class.

    Attributes:
        Options: A frozen dataclass of :func:`~rllib_risk.config.options.option` fields:
            the keys that belong to this part.
        options: Their values in this run.
    """

    Options: ClassVar[type] = NoOptions
    options: Any

    def __init__(self, options: Any = None) -> None:
        """Initializes the part. Other classes of parts take more before the options.

        Args:
            options: An instance of :attr:`Options`; None: the defaults.
        """
        super().__init__()
        self.options = type(self).Options() if options is None else options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """Why this part cannot be used in a configuration; by default it always can.

        Args:
            config: The configuration, with all its keys as attributes.

        Yields:
            A message for each reason: the key, what is wrong, and what to set.
        """
        yield from ()

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Any:
        """This part's options in a configuration.

        Args:
            values: The configuration's keys and values.

        Returns:
            An instance of :attr:`Options`.
        """
        return read_options(cls.Options, values)


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
            return import_part(name, _load(self.base), self.key)
        return _load(path)

    def builtin_fields(self) -> dict[str, Field]:
        """The keys of the package's own parts of this slot."""
        fields: dict[str, Field] = {}
        for name in self.builtin:
            for key, field in fields_of(self.part(name).Options).items():
                # Parts that share a key inherit it, so that it is stated once.
                if fields.setdefault(key, field) != field:
                    raise TypeError(f"{self.key}: {key} is declared in two ways.")
        return fields

    def owners(self, key: str) -> tuple[str, ...]:
        """Names of the package's own parts that a key belongs to.

        Args:
            key: A key of :meth:`builtin_fields`.
        """
        return tuple(n for n in self.builtin if key in fields_of(self.part(n).Options))


def _load(path: str) -> type[Any]:
    module, _, name = path.partition(":")
    part: type[Any] = getattr(importlib.import_module(module), name)
    return part


class Composition:
    """The slots of a kind of algorithm, and what a configuration makes of them."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        """Initializes the composition.

        Args:
            slots: Its slots.
        """
        self.slots = {slot.key: slot for slot in slots}

    def fields(self) -> dict[str, Field]:
        """The slots' keys and those of the package's own parts."""
        fields: dict[str, Field] = {}
        for slot in self.slots.values():
            for key, field in {slot.key: slot.field, **slot.builtin_fields()}.items():
                if fields.setdefault(key, field) != field:
                    raise TypeError(f"{key} is declared in two ways.")
        return fields

    def own_fields(self, values: Mapping[str, Iterable[str]]) -> dict[str, Field]:
        """The keys of parts of the user's own.

        Args:
            values: Names of parts, by the key of their slot.

        Returns:
            Key -> declaration, without keys that the package declares itself.

        Raises:
            ValueError: If such a part cannot be imported or its options are none.
        """
        fields: dict[str, Field] = {}
        for slot in self.slots.values():
            for name in values.get(slot.key, ()):
                if name not in slot.builtin and ":" in name:
                    try:
                        fields |= fields_of(slot.part(name).Options)
                    except TypeError as error:
                        raise ValueError(f"{slot.key}: {error}") from error
        mine = self.fields()
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
        for part in self.chosen(config).values():
            yield from part.refusals(config)

    def unused(self, config: Any) -> dict[str, str]:
        """Keys of parts that are not in use.

        Args:
            config: A configuration with the slots' keys as attributes.

        Returns:
            Key -> which part it belongs to, and what is there instead.
        """
        chosen = self.chosen(config)
        used = {key for part in chosen.values() for key in fields_of(part.Options)}
        found: dict[str, list[str]] = {}
        for slot in self.slots.values():
            present = getattr(config, slot.key)
            for key in slot.builtin_fields().keys() - used:
                owners = _spelled(slot.owners(key))
                found.setdefault(key, []).append(
                    f"{slot.key}: {owners} (here it is {present!r})"
                )
        return {key: ", or to ".join(owners) for key, owners in found.items()}


def _spelled(names: tuple[str, ...]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
