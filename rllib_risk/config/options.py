"""Options of a part: a dataclass whose fields declare the part's keys.

The annotation of a field is the type of the key. Its :func:`option` gives default,
meaning, range and unit. Everything else comes from this declaration: the checks of YAML
and ``training()``, the tables of the docs, ``--help``, the JSON schema, and the values
that the part itself reads::

    @dataclass(frozen=True)
    class Options:
        expectile: float = option(0.8, "Weight of positive errors.", low=0.0, high=1.0)
        inner: Literal["relu", "elu"] = option("relu", "Nonlinearity.")
        limit: float | None = option(None, "Greatest weight; null: none.")

Nothing here imports Ray or torch.
"""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import (
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from rllib_risk.config.schema import Field

_FIELD = "rllib_risk"
_Options = TypeVar("_Options")


def option(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
    unit: str = "",
    folder: bool = False,
    fixed: bool = False,
) -> Any:
    """Declares a field of an options class.

    Args:
        default: Value if the user gives none.
        doc: One sentence: what the key does.
        low: Smallest accepted number.
        high: Largest accepted number.
        low_open: True if ``low`` itself is refused.
        high_open: True if ``high`` itself is refused.
        unit: Unit of the number.
        folder: True if the text is the path of a folder.
        fixed: True if the value cannot change during a run.

    Returns:
        A dataclass field.
    """
    described = {
        "doc": doc,
        "low": low,
        "high": high,
        "low_open": low_open,
        "high_open": high_open,
        "unit": unit,
        "folder": folder,
        "fixed": fixed,
    }
    if isinstance(default, (dict, list)):
        return dataclasses.field(
            default_factory=lambda: type(default)(default), metadata={_FIELD: described}
        )
    return dataclasses.field(default=default, metadata={_FIELD: described})


@cache
def fields_of(options: type) -> dict[str, Field]:
    """Returns the keys that an options class declares.

    Args:
        options: A dataclass; fields of its base classes count too.

    Returns:
        Declarations by key. The result is cached, and declarations of a field that two
        classes inherit are equal.

    Raises:
        TypeError: If a field is not an :func:`option`, or its annotation has a type
            other than int, float, bool, str, list, dict, None and ``Literal`` texts.
    """
    if not dataclasses.is_dataclass(options):
        raise TypeError(f"{_name(options)} must be a dataclass.")
    hints = get_type_hints(options)
    return {
        field.name: _declaration(field, hints[field.name], options)
        for field in dataclasses.fields(options)
    }


def read_options(options: type[_Options], values: Mapping[str, Any]) -> _Options:
    """Reads the options of a part from a whole configuration.

    Args:
        options: The options class.
        values: A configuration; other keys in it are ignored.

    Returns:
        An instance of the class.
    """
    keys = fields_of(cast("Any", options))
    return options(**{key: values[key] for key in keys if key in values})


def with_fields_of(options: Any, base: Any) -> Any:
    """Adds the fields of another options class that an options class lacks.

    Args:
        options: An options class.
        base: The other options class.

    Returns:
        A subclass of ``options`` with these fields; ``options`` if it lacks none, or is
        no dataclass, which :func:`fields_of` refuses.
    """
    settings = getattr(options, "__dataclass_params__", None)
    if settings is None:
        return options
    own = {field.name for field in dataclasses.fields(options)}
    lacking = [field for field in dataclasses.fields(base) if field.name not in own]
    if not lacking:
        return options
    hints = get_type_hints(base)
    # A dataclass changes the field objects that it is given.
    added = [(field.name, hints[field.name], copy.copy(field)) for field in lacking]
    merged = dataclasses.make_dataclass(
        options.__name__, added, bases=(options,), frozen=settings.frozen
    )
    merged.__module__, merged.__qualname__ = options.__module__, options.__qualname__
    return merged


def _declaration(field: dataclasses.Field[Any], hint: Any, options: type) -> Field:
    described = field.metadata.get(_FIELD)
    if described is None:
        raise TypeError(
            f"{_name(options)}.{field.name} must be given as option(default, doc)."
        )
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    kinds: list[type] = []
    choices: list[str] = []
    optional = False
    for part in _alternatives(hint):
        if part is types.NoneType:
            optional = True
        elif get_origin(part) is Literal:
            choices += get_args(part)
        else:
            kinds.append(get_origin(part) or part)
    if choices:
        kinds.append(str)
    known = {int, float, bool, str, list, dict}
    if not kinds or not known.issuperset(kinds):
        raise TypeError(
            f"{_name(options)}.{field.name}: {hint} is not a supported type. Use int,"
            " float, bool, str, list, dict, None and Literal."
        )
    return Field(
        default,
        type=kinds[0] if len(kinds) == 1 else tuple(kinds),
        choices=tuple(choices) or None,
        optional=optional,
        **described,
    )


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return get_args(hint)
    return (hint,)


def _name(options: type) -> str:
    return f"{options.__module__}.{options.__qualname__}"
