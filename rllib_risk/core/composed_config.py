"""The keys of a configuration: those of its algorithm, its parts and its preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.config.options import fields_of
from rllib_risk.config.schema import ConfigError, Field, check_value
from rllib_risk.config.search_space import Domain
from rllib_risk.core import tune_internals
from rllib_risk.core.config_values import same_value
from rllib_risk.core.rllib_settings import key_of
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.parts.base import Composition
from rllib_risk.parts.slots import TEAM_PARTS

# A note in the dict of a trial: own parts of the whole search space, by their slot.
OWN_PARTS = "__own_parts__"


class ComposedConfig(AlgorithmConfig):
    """Which keys an algorithm has, and what they are where a file does not say.

    Attributes:
        declared: The keys of this package that the algorithm has.
        composition: The slots that it has.
        overrides: Defaults that differ from those of :attr:`declared`, or of RLlib's
            keys.
        presets: Named sets of values; ``preset`` in a configuration picks one, and
            keys beside it win over it.
        preset: The one that was picked.
        unused_keys: What happens to keys of parts that are not in use.
    """

    declared: ClassVar[dict[str, Field]] = TEAM_FIELDS
    composition: ClassVar[Composition] = TEAM_PARTS
    overrides: ClassVar[dict[str, Any]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    preset: str | None
    unused_keys: str

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """The keys this package adds, with this algorithm's defaults."""
        fields = {
            key: dataclasses.replace(
                field, default=cls.overrides.get(key, field.default)
            )
            for key, field in cls.declared.items()
        }
        if cls.presets:
            names = tuple(cls.presets)
            doc = f"A named set of values: {', '.join(names)}."
            fields["preset"] = Field(
                None, doc, str, choices=names, optional=True, fixed=True
            )
        return fields

    @classmethod
    def own_fields(cls, values: Mapping[str, Any]) -> dict[str, Field]:
        """The keys that parts of the user's own declare.

        Args:
            values: Keys and values of a configuration, in which such parts are named
                by import path.

        Returns:
            Key -> declaration; nothing where there are no such parts.

        Raises:
            ConfigError: If a part cannot be imported, or declares a key that there is.
        """
        slots = cls.composition.slots
        named = {key: _texts(values[key]) for key in slots if key in values}
        others = {**dict.fromkeys((*_rllib_keys(), "preset")), **cls.declared}
        try:
            return cls.composition.own_fields(named, others)
        except ValueError as error:
            raise ConfigError(f"{error}") from error

    @classmethod
    def note_of_own_parts(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """What every trial must know of own parts that only some trials have.

        Args:
            values: Keys and values of a configuration, with search spaces.

        Returns:
            :data:`OWN_PARTS` and the import paths by the key of their slot; nothing if
            no search space names such a part.
        """
        spaces = {k: v for k, v in values.items() if not isinstance(v, str)}
        named = {
            key: [text for text in _texts(spaces[key]) if ":" in text]
            for key in cls.composition.slots
            if key in spaces
        }
        named = {key: paths for key, paths in named.items() if paths}
        return {OWN_PARTS: named} if named else {}

    def _leave_out_others(
        self, values: dict[str, Any], parts: Mapping[str, list[str]]
    ) -> None:
        """Drops, or refuses, keys of own parts that other trials of a sweep have."""
        if not parts:
            return
        mine = self.own_fields(vars(self) | values)
        ignored = values.get("unused_keys", self.unused_keys) == "ignore"
        for slot, paths in parts.items():
            present = values.get(slot, getattr(self, slot))
            for path in paths:
                theirs = self.own_fields({slot: path})
                for key in theirs.keys() & values.keys() - mine.keys():
                    if not ignored and values[key] != theirs[key].default:
                        owner = f"{slot}: {path} (here it is {present!r})"
                        raise ConfigError(_belongs(key, owner))
                    del values[key]

    def _check_default(self, key: str, field: Field) -> None:
        """Says whose default it is that an own part's declaration refuses."""
        try:
            check_value(key, field.default, field)
        except ConfigError as error:
            for slot, part in self.composition.chosen(self).items():
                if key in fields_of(part.Options):
                    raise ConfigError(
                        f"{slot}: {getattr(self, slot)!r} declares the option {key!r}"
                        f" with a default that it refuses itself. {error} Mend"
                        f" {part.__name__}.Options, or set {key}."
                    ) from error

    def _usual(self, key: str) -> tuple[Any, Any]:
        """The values that a key may have where no part reads it.

        The first is what algorithm and preset give it, the second its declared default.
        """
        preset = self.presets[self.preset] if self.preset is not None else {}
        default = self.declared[key].default
        return preset.get(key, self.overrides.get(key, default)), default

    def forget_unused(self) -> None:
        """Resets keys that belong to parts that are not in use.

        Versions before 0.2 accepted them, and recorded all keys in checkpoints.
        """
        for key in self.composition.unused(self):
            setattr(self, key, self._usual(key)[0])

    def _check_parts(self) -> None:
        """Refuses keys of parts that are not in use, and what the parts refuse."""
        # First, since it may be what other keys do not go together with.
        objective = self.composition.slots["objective"].part(self.objective)
        if objective.of_values and "target" not in self.composition.slots:
            raise ConfigError(
                f"objective: {self.objective!r} is for algorithms that learn action"
                " values by a Bellman target; set objective: mean or static."
            )
        for message in objective.refusals(self):
            raise ConfigError(message)
        if self.unused_keys == "ignore":
            self.forget_unused()
        for key, owner in self.composition.unused(self).items():
            value = getattr(self, key)
            if not any(same_value(value, usual) for usual in self._usual(key)):
                raise ConfigError(_belongs(key, owner))
        for message in self.composition.refusals(self):
            raise ConfigError(message)

    def risk(self) -> str:
        """Which risk the team controls, in one line; see ``docs/risk.md``."""
        objective = self.composition.slots["objective"].part(self.objective)
        return objective.risk(self)

    def all_fields(self) -> dict[str, Field]:
        """The keys of this configuration: the package's, and those of its own parts."""
        return self.fields() | self.own_fields(vars(self))

    def _declare_own(self, given: Mapping[str, Any]) -> dict[str, Field]:
        """Sets the defaults of own parts that are about to be chosen."""
        own = self.own_fields(vars(self) | dict(given))
        for key, field in own.items():
            if not hasattr(self, key):
                setattr(self, key, field.default)
        return own

    def _apply_preset(self, given: Mapping[str, Any]) -> None:
        name = given.get("preset")
        # A config that was already resolved (Tune hands one on) must not be reset.
        if name is None or name == self.preset:
            return
        field = self.fields().get("preset")
        if field is None:
            raise ConfigError(f"preset: {type(self).__name__} has no presets.")
        check_value("preset", name, field)
        for key, value in self.presets[name].items():
            setattr(self, key, value)


def _belongs(key: str, owner: str) -> str:
    return (
        f"{key}: belongs to {owner}. Leave it out, or choose that part. In a sweep over"
        " parts set unused_keys: ignore."
    )


@cache
def _rllib_keys() -> tuple[str, ...]:
    """The keys of every algorithm of RLlib's."""
    return tuple(key_of(name) for name in vars(AlgorithmConfig()))


def _texts(value: Any) -> list[str]:
    """All texts that a value, or a search space in its place, may be."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Domain):
        value = list(value.candidates)
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, (list, tuple)):
        value = tune_internals.listed_values(value) or ()
    return [text for part in value for text in _texts(part)]
