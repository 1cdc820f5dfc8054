"""Base class of the parts of a composition; a part declares and checks its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rllib_risk.config.options import fields_of, read_options, with_fields_of


@dataclass(frozen=True)
class NoOptions:
    """Options class of a part without options.

    A subclass has options that a part has only if it declares none.
    """


class Part:
    """Base class of a part of a composition.

    To write your own part, subclass the class of its slot, define ``Options``, and
    implement the methods of that class.

    Attributes:
        Options: A frozen dataclass of :func:`~rllib_risk.config.options.option` fields,
            which are the keys of this part. The options of its base classes are added.
        options: Values of the options in this run.
    """

    Options: ClassVar[type] = NoOptions
    options: Any

    def __init__(self, options: Any = None) -> None:
        """Initializes the part. Some classes take further arguments before this one.

        Args:
            options: An instance of :attr:`Options`; None: the defaults.
        """
        super().__init__()
        self.options = type(self).Options() if options is None else options

    def __init_subclass__(cls, *, inherit_options: bool = True, **kwargs: Any) -> None:
        """Adds the options of the base classes, because their methods read them.

        Args:
            inherit_options: Whether to add them. A class that replaces all methods that
                read them does without.
            **kwargs: Arguments of other base classes.
        """
        super().__init_subclass__(**kwargs)
        for base in cls.__bases__ if inherit_options else ():
            if issubclass(base, Part) and not issubclass(base.Options, NoOptions):
                options = with_fields_of(cls.Options, base.Options)
                # A class that lacks none keeps looking up those of its base class.
                if options is not cls.Options:
                    cls.Options = options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """Yields the reasons why a configuration cannot use this part; default: none.

        Args:
            config: The configuration, with all its keys as attributes.

        Yields:
            A message for each reason: the key, what is wrong, and what to set.
        """
        yield from ()

    @classmethod
    def has_key(cls, key: str) -> bool:
        """Whether a key belongs to this part.

        Args:
            key: A configuration key.
        """
        return key in fields_of(cls.Options)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Any:
        """Reads this part's options from a configuration.

        Args:
            values: The configuration's keys and values.

        Returns:
            An instance of :attr:`Options`.
        """
        return read_options(cls.Options, values)

    @classmethod
    def keywords(cls, options: Any) -> dict[str, Any]:
        """Returns the keyword arguments of the class that its slot does not provide.

        Args:
            options: An instance of :attr:`Options`.
        """
        return {"options": options}
