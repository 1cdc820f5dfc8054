"""Declarations of configuration keys: type, range, unit, default and meaning.

Every key that this package adds to RLlib's ``AlgorithmConfig`` is declared once, as a
:class:`Field`. Defaults, the checks of the strict YAML loader and of
``AlgorithmConfig.validate()``, and the tables in ``docs/`` come from the declaration.
This module imports neither Ray nor torch.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# The field `type` of the class below hides the builtin of that name.
_Type = type

# Upper bounds for keys that declare none. No run counts beyond the first; the second is
# the largest float32, the type of networks and rewards.
MAX_WHOLE = 10**12
MAX_NUMBER = 3.4e38
# Upper bounds of several keys, far above all practical values.
MAX_RATE = 100.0
MAX_WIDTH = 2**14
MAX_EPISODES = 10**6
# RLlib increases the seed for each env runner, and NumPy accepts seeds up to 2^32 - 1.
MAX_SEED = 2**31 - 1
# Maximum length in characters of a value in a message.
_LONGEST = 80


class ConfigError(ValueError):
    """Error in a configuration. The message names the key and how to correct it."""


@dataclass(frozen=True)
class Field:
    """One configuration key.

    Attributes:
        default: Value if the user gives none.
        doc: One sentence: what the key does.
        type: Accepted Python types. ``float`` also accepts whole numbers; a ``bool`` is
            never accepted as a number.
        choices: The accepted values; None: all values of the type.
        low: Smallest accepted number.
        high: Largest accepted number; None: :data:`MAX_WHOLE` for a whole number and
            :data:`MAX_NUMBER` for any other.
        low_open: True if ``low`` itself is refused.
        high_open: True if ``high`` itself is refused.
        optional: True if ``None`` is accepted.
        unit: The unit of the number, such as ``env steps``.
        import_path: True if a string ``pkg.module:name`` is accepted in addition to
            ``choices``.
        folder: True if the string is the path of a folder. The check makes it absolute,
            because a trial may run in another working directory.
        fixed: True if the value cannot change during a run, because networks,
            checkpoints or resources depend on it. PBT must not change such a key.
    """

    default: Any
    doc: str
    type: _Type | tuple[_Type, ...]
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    optional: bool = False
    unit: str = ""
    import_path: bool = False
    folder: bool = False
    fixed: bool = False

    @property
    def types(self) -> tuple[_Type, ...]:
        """The accepted types as a tuple."""
        return self.type if isinstance(self.type, tuple) else (self.type,)

    @property
    def interval(self) -> str:
        """The accepted numbers as text, such as ``(0, 1]``."""
        low = "-inf" if self.low is None else f"{self.low:.10g}"
        high = "inf" if self.high is None else f"{self.high:.10g}"
        opening = "(" if self.low_open or self.low is None else "["
        closing = ")" if self.high_open or self.high is None else "]"
        return f"{opening}{low}, {high}{closing}"

    def within(self, value: float) -> bool:
        """Whether a number is within :attr:`interval`."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        ends = (self.low_open and value == low) or (self.high_open and value == high)
        return low <= value <= high and not ends


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'?`` for the closest known word, or an empty text."""
    word, names = str(word), [str(k) for k in known]
    exchanged = [name for name in names if sorted(name) == sorted(word)]
    # One wrong letter of two gives a similarity of 0.5, as for `lx` and `lr`.
    cutoff = 0.6 if len(word) > 2 else 0.5
    close = exchanged or difflib.get_close_matches(word, names, 1, cutoff)
    return f" Did you mean '{close[0]}'?" if close else ""


_SPELLED = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
}


def _type_names(field: Field) -> str:
    names = dict.fromkeys(_SPELLED.get(t.__name__, t.__name__) for t in field.types)
    if "a number" in names:
        names.pop("a whole number", None)
    return " or ".join(names) + (" or null" if field.optional else "")


def check_value(key: str, value: Any, field: Field) -> Any:
    """Checks one value against its declaration.

    Args:
        key: Name of the key, for the message.
        value: The value to check.
        field: The declaration.

    Returns:
        The value, with whole numbers turned into ``float`` where the key is a float,
        and paths made absolute.

    Raises:
        ConfigError: If the type, the range or the choice is wrong.
    """
    if value is None:
        if field.optional:
            return None
        raise ConfigError(f"{key}: must be {_type_names(field)}, not null.")
    types = field.types
    is_bool = isinstance(value, bool)
    number = isinstance(value, (int, float)) and not is_bool
    if number:
        _check_range(key, value, field)
    if number and float in types and not (isinstance(value, int) and int in types):
        value = float(value)
    elif (is_bool and bool not in types) or not isinstance(value, types):
        raise ConfigError(
            f"{key}: must be {_type_names(field)}, not {shown(value)}"
            f" ({type(value).__name__})."
        )
    if isinstance(value, str) and field.choices is not None:
        _check_choice(key, value, field, field.choices)
    return os.path.abspath(os.path.expanduser(value)) if field.folder else value


def _check_choice(key: str, value: str, field: Field, choices: tuple[Any, ...]) -> None:
    if value in choices or (field.import_path and ":" in value):
        return
    options = ", ".join(str(c) for c in choices)
    extra = " or an import path 'pkg.module:Name'" if field.import_path else ""
    raise ConfigError(
        f"{key}: must be one of {options}{extra}, not {shown(value)}."
        + suggest(value, (str(c) for c in choices))
    )


def _check_range(key: str, value: float, field: Field) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}: must be a finite number, not {value}.")
    unit = f" {field.unit}" if field.unit else ""
    if not field.within(value):
        raise ConfigError(
            f"{key}: must be in {field.interval}{unit}, not {shown(value)}."
        )
    most = MAX_WHOLE if int in field.types else math.inf
    most = MAX_NUMBER if float in field.types else most
    if abs(value) > most:
        limit = f"at most {most:g}" if value > 0 else f"at least {-most:g}"
        raise ConfigError(f"{key}: must be {limit}{unit}, not {shown(value)}.")


def shown(value: Any) -> str:
    """Formats a value for a message, in at most about 80 characters.

    Args:
        value: Any value of a configuration.
    """
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        try:
            return f"{float(value):g}"
        except OverflowError:
            return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    text = str(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
