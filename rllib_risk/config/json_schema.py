"""Builds the JSON Schema of training files for editors (``rllib example schema``).

The schema comes from the same declarations as the checks of the strict loader. It
accepts every file that the loader accepts, and refuses mistyped keys and values out of
range. Only the loader checks that keys are compatible and that files exist. The dialect
is draft 2020-12 (https://json-schema.org/draft/2020-12/schema).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rllib_risk.config.checks import Catalog
from rllib_risk.config.experiment_keys import (
    CHECKPOINT_FIELDS,
    EXPERIMENT_FIELDS,
    EXTENDS,
    INHERITANCE_FIELDS,
)
from rllib_risk.config.json_values import (
    IMPORT_PATH,
    Schema,
    any_case,
    default_of,
    field_schema,
    list_samplers,
    mapping_schema,
    number_schema,
    or_lists,
    range_samplers,
    reference,
    value_schema,
    with_key,
)
from rllib_risk.config.metrics import RLLIB_METRICS, TEAM_METRICS, TUNE_METRICS
from rllib_risk.config.schedulers import SCHEDULERS
from rllib_risk.config.schema import Field
from rllib_risk.config.search_space import LISTS
from rllib_risk.config.searchers import SEARCHERS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMES = ("run", "algorithm")
_EXPERIMENT_NAME = r"^(?!shared$)[A-Za-z0-9_][A-Za-z0-9_.\-]*$"


def training_schema(
    catalog: Catalog, algorithms: Sequence[str], envs: Sequence[str]
) -> Schema:
    """Returns the JSON Schema of training files.

    Args:
        catalog: Catalog of algorithms and environments.
        algorithms: Names of the algorithms whose keys the schema describes. An
            experiment with another algorithm may have any key in its ``config``.
        envs: Names of the environments whose ``env_config`` the schema describes.
    """
    return _Writer(catalog).file(algorithms, envs)


class _Writer:
    """Collects the definitions that a schema refers to."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._definitions: dict[str, Schema] = {"own_part": _own_part()}
        # Name of each definition by its content: most keys differ between algorithms
        # only in their defaults.
        self._known: dict[str, dict[str, str]] = {}

    def file(self, algorithms: Sequence[str], envs: Sequence[str]) -> Schema:
        for name in algorithms:
            self._add_config(f".{name}", *self._keys(name))
        self._add_config("", *self._any_keys())
        self._definitions["stop"] = _stop()
        for env in envs:
            fields = self._catalog.env_fields(env)
            if fields is not None:
                self._definitions[f"env_config.{env}"] = self._inner(env, fields)
        for name, unnamed, closed in (
            ("experiment", True, True),
            # A file with a user's own algorithm may share keys of that algorithm.
            ("foreign_experiment", False, True),
            # Where `shared` names a user's own part, experiments may have its keys.
            ("open_experiment", False, False),
        ):
            self._definitions[name] = self._experiment(algorithms, unnamed, closed)
        known = {"enum": [*algorithms]}
        shares_own = with_key("shared", with_key("config", reference("own")))
        return {
            "$schema": DIALECT,
            "title": "Training file of rllib_risk",
            "description": "Experiments by name; all of them inherit `shared`.",
            "type": "object",
            "minProperties": 1,
            "if": shares_own,
            "then": _experiments("open_experiment"),
            "else": {
                "if": {
                    "additionalProperties": {"properties": dict.fromkeys(_NAMES, known)}
                },
                "then": _experiments("experiment"),
                "else": _experiments("foreign_experiment"),
            },
            "patternProperties": {
                r"^\.[A-Za-z0-9_]": {"description": "Values for YAML anchors."},
                "^[A-Za-z0-9_]": True,
            },
            "additionalProperties": False,
            "$defs": self._definitions,
        }

    def _experiment(
        self, algorithms: Sequence[str], unnamed: bool, closed: bool
    ) -> Schema:
        """Returns the schema of an experiment.

        Args:
            algorithms: Names of the algorithms whose keys are known.
            unnamed: Whether the keys are known if no algorithm is named.
            closed: Whether other keys are refused.
        """
        properties = {
            key: field_schema(field) for key, field in _experiment_fields().items()
        }
        for name in _NAMES:
            properties[name]["examples"] = [*algorithms]
        properties["stop"] |= {"type": ["object", "null"], **reference("stop")}
        properties["checkpoint_config"] |= mapping_schema(CHECKPOINT_FIELDS)
        properties["scheduler"] |= any_case(SCHEDULERS)
        properties["search_alg"] |= any_case(SEARCHERS)
        rules = [
            {
                "if": {"anyOf": [_is(key, name) for key in _NAMES]},
                "then": _config_of(f".{name}", closed),
            }
            for name in algorithms
        ]
        if unnamed:
            named = {"anyOf": [{"required": [name]} for name in _NAMES]}
            rules.append({"if": {"not": named}, "then": _config_of("", closed)})
        rules += [
            {
                "if": _is("env", definition.removeprefix("env_config.")),
                "then": {
                    "properties": {
                        "config": {"properties": {"env_config": reference(definition)}}
                    }
                },
            }
            for definition in self._definitions
            if definition.startswith("env_config.")
        ]
        return {
            "type": ["object", "null"],
            "properties": properties,
            "additionalProperties": False,
            "allOf": rules,
        }

    def _add_config(self, name: str, keys: Schema, own: Sequence[str]) -> None:
        """Defines the schemas of a ``config``, open and closed to other keys.

        Args:
            name: Name of the algorithm after a dot; empty if it is named elsewhere.
            keys: Schema of each key.
            own: Keys that may name a user's own part, which may declare further keys.
        """
        whole = f"config{name}"
        self._definitions[f"keys{name}"] = {
            "type": ["object", "null"],
            "properties": keys,
        }
        names_own = [with_key(key, reference("own_part")) for key in own]
        self._definitions[f"own{name}"] = {"anyOf": names_own or [{"not": {}}]}
        known: Schema = dict.fromkeys(keys, True)
        known["evaluation_config"] = or_lists(reference(whole))
        self._definitions[whole] = {
            "allOf": [reference(f"keys{name}")],
            "if": {"not": {"anyOf": [{"type": "null"}, reference(f"own{name}")]}},
            "then": {
                "properties": known,
                # RLlib's private keys are accepted but not suggested.
                "patternProperties": {"^_": True},
                "additionalProperties": False,
            },
        }

    def _keys(self, algorithm: str) -> tuple[Schema, list[str]]:
        """Returns the schema of an algorithm's keys, and those that name parts."""
        unused = self._catalog.unused_keys(algorithm)
        fields = self._catalog.algorithm_fields(algorithm)
        keys = {}
        for key, field in fields.items():
            if key in unused or key.startswith("_"):
                continue
            inner = self._catalog.subkeys(algorithm, key)
            if key == "evaluation_config":
                # It also has the keys of own parts that the training names.
                schema: Schema = or_lists(reference(f"keys.{algorithm}"))
            elif inner is not None:
                schema = self._inner(key, inner)
            else:
                schema = self._key(key, field)
            keys[key] = schema | default_of(field)
        return keys, [key for key in keys if fields[key].import_path]

    def _any_keys(self) -> tuple[Schema, list[str]]:
        """Returns the keys of a ``config`` whose algorithm is named elsewhere."""
        found: dict[str, list[Schema]] = {}
        own: dict[str, None] = {}
        for name, definition in self._definitions.items():
            if name.startswith("keys."):
                for key, schema in definition["properties"].items():
                    plain = {k: v for k, v in schema.items() if k != "default"}
                    if key == "evaluation_config":
                        plain = or_lists(reference("keys"))
                    if plain not in found.setdefault(key, []):
                        found[key].append(plain)
            elif name.startswith("own."):
                for rule in definition["anyOf"]:
                    own |= dict.fromkeys(rule.get("required", []))
        keys = {
            key: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
            for key, schemas in found.items()
        }
        return keys, [*own]

    def _key(self, key: str, field: Field) -> Schema:
        """Returns a reference to the schema of a key, search spaces included."""
        schema = field_schema(field)
        schema.pop("default", None)
        names = self._known.setdefault(key, {})
        text = json.dumps([schema, [kind.__name__ for kind in field.types]])
        if text not in names:
            names[text] = f"key.{key}-{len(names) + 1}" if names else f"key.{key}"
            itself = reference(names[text])
            value = value_schema(field)
            # A key that accepts any mapping also accepts a search space.
            if value and dict not in field.types:
                space = self._search_space(field, itself)
                # The description is next to the value, where editors look for it.
                schema = {"if": {"type": "object"}, "then": space, "else": schema}
            self._definitions[names[text]] = schema
        return reference(names[text])

    def _search_space(self, field: Field, own: Schema) -> Schema:
        """Returns the schema of a search space: a list of values, or a sampler."""
        return {
            "description": "A search space, as {grid_search: [...]}.",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": list_samplers(own) | self._samplers(field),
            "additionalProperties": False,
        }

    def _samplers(self, field: Field) -> Schema:
        """Returns references to the samplers of a range; many keys share them."""
        found = {}
        for name, schema in range_samplers(field).items():
            names = self._known.setdefault(f"sampler {name}", {})
            text = json.dumps(schema)
            if text not in names:
                names[text] = f"{name}-{len(names) + 1}"
                self._definitions[names[text]] = schema
            found[name] = reference(names[text])
        return found

    def _inner(self, owner: str, fields: Mapping[str, Field]) -> Schema:
        """Returns the schema of a mapping with known keys, such as ``env_config``."""
        properties = {
            key: self._key(f"{owner}.{key}", field) | default_of(field)
            for key, field in fields.items()
        }
        return or_lists(
            {
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
            }
        )


def _experiment_fields() -> dict[str, Field]:
    return EXPERIMENT_FIELDS | INHERITANCE_FIELDS


def _experiments(definition: str) -> Schema:
    return {
        "properties": {"shared": reference(definition)},
        "patternProperties": {_EXPERIMENT_NAME: reference(definition)},
    }


def _config_of(name: str, closed: bool) -> Schema:
    """Returns the schema of an experiment's ``config``.

    Args:
        name: Name of the algorithm after a dot; empty if it is named elsewhere.
        closed: Whether unknown keys are refused. An experiment that extends another
            file may have the keys of own parts that are named there.
    """
    as_open = {"properties": {"config": reference(f"keys{name}")}}
    if not closed:
        return as_open
    as_closed = {"properties": {"config": reference(f"config{name}")}}
    return {"if": {"required": [EXTENDS]}, "then": as_open, "else": as_closed}


def _own_part() -> Schema:
    """Returns a schema that only a user's own part, or a choice with one, fulfils."""
    some = {"type": "array", "contains": IMPORT_PATH}
    return {"anyOf": [IMPORT_PATH, *(with_key(kind, some) for kind in LISTS)]}


def _is(key: str, value: str) -> Schema:
    return {"properties": {key: {"const": value}}, "required": [key]}


def _stop() -> Schema:
    names = dict.fromkeys((*TEAM_METRICS, *RLLIB_METRICS, *TUNE_METRICS))
    number = number_schema("number", Field(None, "", float))
    return {
        "properties": dict.fromkeys(names, number),
        "additionalProperties": {"anyOf": [number, {"type": "object"}]},
    }
