"""What a configuration key is: its type, range, unit, default and meaning.

Every key that this package adds to RLlib's ``AlgorithmConfig`` is declared once, as a
:class:`Field`. The declaration gives the default, the checks of the strict YAML loader
and of ``AlgorithmConfig.validate()``, and the tables in ``docs/``. Nothing here imports
Ray or torch.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# The class below has a field named `type`, which hides the builtin inside it.
_Type = type

# Bounds of numbers whose declaration has none. No run counts further than the first,
# and networks and rewards are float32, which ends at the second.
MOST_WHOLE = 10**12
MOST_NUMBER = 3.4e38
# Bounds of several keys, far beyond what any run has.
MOST_RATE = 100.0
MOST_WIDTH = 2**14
MOST_EPISODES = 10**6
# RLlib adds to it for each env runner, and NumPy takes no seed beyond 2^32 - 1.
MOST_SEED = 2**31 - 1
# Longest text of a value in a message.
_LONGEST = 80


class ConfigError(ValueError):
    """A configuration that must not start: the message names the key and the fix."""


@dataclass(frozen=True)
class Field:
    """One configuration key.

    Attributes:
        default: The value used where the user gives none.
        doc: One sentence: what the key does.
        type: Accepted Python types. ``float`` accepts whole numbers as well; ``bool``
            is never accepted where a number is asked for.
        choices: The only values accepted, if given.
        low: Smallest accepted number.
        high: Largest accepted number; None: :data:`MOST_WHOLE` of a whole number and
            :data:`MOST_NUMBER` of any other.
        low_open: True if ``low`` itself is refused.
        optional: True if ``None`` is accepted.
        unit: The unit of the number, such as ``env steps``.
        import_path: True if a string ``pkg.module:name`` is accepted beside
            ``choices``.
        folder: True if the string is the path of a folder. It is made absolute when it
            is checked, since a trial does not run where it was started.
        fixed: True if a run cannot go on with another value, since networks,
            checkpoints or resources depend on it. PBT must not change such a key.
    """

    default: Any
    doc: str
    type: _Type | tuple[_Type, ...]
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    optional: bool = False
    unit: str = ""
    import_path: bool = False
    folder: bool = False
    fixed: bool = False

    @property
    def types(self) -> tuple[_Type, ...]:
        """The accepted types as a tuple."""
        return self.type if isinstance(self.type, tuple) else (self.type,)


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'?`` for the closest known word, or nothing."""
    word, names = str(word), [str(k) for k in known]
    exchanged = [name for name in names if sorted(name) == sorted(word)]
    # Of two letters one is half: `lx` for `lr`.
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
    below = field.low is not None and (
        value <= field.low if field.low_open else value < field.low
    )
    above = field.high is not None and value > field.high
    if below or above:
        low = "-inf" if field.low is None else field.low
        high = "inf" if field.high is None else field.high
        bracket = "(" if field.low_open or field.low is None else "["
        close = ")" if field.high is None else "]"
        raise ConfigError(
            f"{key}: must be in {bracket}{low}, {high}{close}{unit}, not"
            f" {shown(value)}."
        )
    most = MOST_WHOLE if int in field.types else math.inf
    most = MOST_NUMBER if float in field.types else most
    if abs(value) > most:
        limit = f"at most {most:g}" if value > 0 else f"at least {-most:g}"
        raise ConfigError(f"{key}: must be {limit}{unit}, not {shown(value)}.")


def shown(value: Any) -> str:
    """A value as a message shows it: in at most about 80 characters.

    Args:
        value: Any value of a configuration.
    """
    if isinstance(value, int) and abs(value) > MOST_WHOLE:
        try:
            return f"{float(value):g}"
        except OverflowError:
            return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    text = str(value) if isinstance(value, float) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
