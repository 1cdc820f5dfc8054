"""Keys of a configuration: those of its algorithm, its parts and its preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.config.schema import ConfigError, Field, check_value
from rllib_risk.config.search_space import Domain
from rllib_risk.core import tune_internals
from rllib_risk.core.config_values import same_value
from rllib_risk.core.rllib_settings import key_of
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.parts import numpy_actor
from rllib_risk.parts.base import Composition
from rllib_risk.parts.slots import TEAM_PARTS

# Key in the dict of a trial: custom parts of the whole search space, by their slot.
OWN_PARTS = "__own_parts__"


class ComposedConfig(AlgorithmConfig):
    """The keys of an algorithm and their defaults.

    Attributes:
        declared: Keys of this package that the algorithm has.
        composition: Slots of the algorithm.
        overrides: Defaults that differ from those of :attr:`declared`, or from those of
            RLlib's keys.
        presets: Named sets of values. The key ``preset`` chooses one. Other keys of the
            same configuration override its values.
        preset: Name of the chosen preset.
        unused_keys: How keys of parts that are not in use are treated.
    """

    declared: ClassVar[dict[str, Field]] = TEAM_FIELDS
    composition: ClassVar[Composition] = TEAM_PARTS
    overrides: ClassVar[dict[str, Any]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    preset: str | None
    unused_keys: str

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """Returns the keys of this package, with this algorithm's defaults."""
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
        """Returns the keys that custom parts declare.

        Args:
            values: Keys and values of a configuration, which names custom parts by
                import path.

        Returns:
            Key -> declaration; empty if there are no custom parts.

        Raises:
            ConfigError: If a part cannot be imported, or declares a key that already
                exists.
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
        """Returns the custom parts of a sweep, for the dict of every trial.

        A trial reads them to recognise keys of custom parts that other trials use.

        Args:
            values: Keys and values of a configuration, with search spaces.

        Returns:
            :data:`OWN_PARTS` -> slot -> import paths; empty if no search space names a
            custom part.
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
        """Drops or refuses keys of custom parts that other trials of a sweep use."""
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
        """Raises a ConfigError that names a custom part with an invalid default."""
        try:
            check_value(key, field.default, field)
        except ConfigError as error:
            for slot, part in self.composition.chosen(self).items():
                if part.has_key(key):
                    raise ConfigError(
                        f"{slot}: {getattr(self, slot)!r} declares the option {key!r}"
                        f" with a default that it refuses itself. {error} Mend"
                        f" {part.__name__}.Options, or set {key}."
                    ) from error

    def _usual(self, key: str) -> tuple[Any, Any]:
        """Returns the values that a key may have if no part reads it.

        These are the default of the algorithm with its preset, and the declared
        default.
        """
        preset = self.presets[self.preset] if self.preset is not None else {}
        default = self.declared[key].default
        return preset.get(key, self.overrides.get(key, default)), default

    def default_of(self, key: str) -> Any:
        """Returns the default of a key, in this algorithm and preset.

        Args:
            key: A key of this package.
        """
        return self._usual(key)[0]

    def forget_unused(self) -> None:
        """Resets the keys of parts that are not in use.

        Versions before 0.2 accepted such keys, and recorded all keys in checkpoints.
        """
        for key in self.composition.unused(self):
            setattr(self, key, self.default_of(key))

    def _check_parts(self) -> None:
        """Refuses keys of unused parts, and combinations that the parts refuse."""
        # The objective comes first, because it can be the cause of other conflicts.
        objective = self.composition.part("objective", self)
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
        """Describes in one line which risk the team controls; see ``docs/risk.md``."""
        objective = self.composition.part("objective", self)
        return objective.risk(self)

    def remarks(self) -> list[str]:
        """Returns remarks about the configuration for the user, one line each."""
        return list(numpy_actor.remarks(self))

    def all_fields(self) -> dict[str, Field]:
        """Returns the keys of this package and of the configuration's custom parts."""
        return self.fields() | self.own_fields(vars(self))

    def _declare_own(self, given: Mapping[str, Any]) -> dict[str, Field]:
        """Sets the defaults of custom parts that are about to be chosen."""
        own = self.own_fields(vars(self) | dict(given))
        for key, field in own.items():
            if not hasattr(self, key):
                setattr(self, key, field.default)
        return own

    def _apply_preset(self, given: Mapping[str, Any]) -> None:
        name = given.get("preset")
        # Tune passes on resolved configurations, whose keys must not be reset.
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
    """Returns the keys that all of RLlib's algorithms share."""
    return tuple(key_of(name) for name in vars(AlgorithmConfig()))


def _texts(value: Any) -> list[str]:
    """Returns all strings that a value or a search space can take."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Domain):
        value = list(value.candidates)
    if isinstance(value, Mapping):
        value = list(value.values())
    elif not isinstance(value, (list, tuple)):
        value = tune_internals.listed_values(value) or ()
    return [text for part in value for text in _texts(part)]
