"""What a part of a composition is: it owns its keys, refuses, and computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rllib_risk.config.options import read_options


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

    @classmethod
    def keywords(cls, options: Any) -> dict[str, Any]:
        """What the class is called with beside what all parts of its slot take.

        Args:
            options: An instance of :attr:`Options`.
        """
        return {"options": options}
