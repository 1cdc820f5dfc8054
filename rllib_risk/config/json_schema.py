"""Builds the JSON Schema of training files for editors (``rllib example schema``).

The schema comes from the same declarations as the checks of the strict loader. It
accepts every file that the loader accepts, and refuses mistyped keys and values out of
range. Only the loader checks that keys are compatible and that files exist. The dialect
is draft 2020-12 (https://json-schema.org/draft/2020-12/schema).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rllib_risk.config.checks import Catalog
from rllib_risk.config.experiment_keys import (
    CHECKPOINT_FIELDS,
    EXPERIMENT_FIELDS,
    INHERITANCE_FIELDS,
)
from rllib_risk.config.metrics import RLLIB_METRICS, TEAM_METRICS, TUNE_METRICS
from rllib_risk.config.schedulers import SCHEDULERS
from rllib_risk.config.schema import MAX_NUMBER, MAX_WHOLE, Field
from rllib_risk.config.search_space import LISTS, SAMPLERS
from rllib_risk.config.searchers import SEARCHERS

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_JSON_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    tuple: "array",
    dict: "object",
}
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
        self._definitions: dict[str, Schema] = {}
        # Name of each definition by its content: most keys differ between algorithms
        # only in their defaults.
        self._known: dict[str, dict[str, str]] = {}
        # Keys of each `config` that may name a user's own class.
        self._own: dict[str, list[str]] = {}

    def file(self, algorithms: Sequence[str], envs: Sequence[str]) -> Schema:
        for name in algorithms:
            self._definitions[f"config.{name}"] = self._config(name)
        self._definitions["config"] = self._any_config()
        self._definitions["stop"] = _stop()
        for env in envs:
            fields = self._catalog.env_fields(env)
            if fields is not None:
                self._definitions[f"env_config.{env}"] = self._inner(env, fields)
        for strict in (True, False):
            name = "experiment" if strict else "any_experiment"
            experiment = self._experiment(algorithms, strict)
            self._definitions[name] = experiment
        known = {"enum": [*algorithms]}
        return {
            "$schema": DIALECT,
            "title": "Training file of rllib_risk",
            "description": "Experiments by name; all of them inherit `shared`.",
            "type": "object",
            "minProperties": 1,
            # A file with a user's own algorithm may share keys of that algorithm.
            "if": {
                "additionalProperties": {"properties": dict.fromkeys(_NAMES, known)}
            },
            "then": _experiments("experiment"),
            "else": _experiments("any_experiment"),
            "patternProperties": {
                r"^\.[A-Za-z0-9_]": {"description": "Values for YAML anchors."},
                "^[A-Za-z0-9_]": True,
            },
            "additionalProperties": False,
            "$defs": self._definitions,
        }

    def _experiment(self, algorithms: Sequence[str], strict: bool) -> Schema:
        properties = {key: _field(field) for key, field in _experiment_fields().items()}
        for name in _NAMES:
            properties[name]["examples"] = [*algorithms]
        properties["stop"] |= {"type": ["object", "null"], **_ref("stop")}
        properties["checkpoint_config"] |= _mapping(CHECKPOINT_FIELDS)
        properties["scheduler"] |= _any_case(SCHEDULERS)
        properties["search_alg"] |= _any_case(SEARCHERS)
        named = {"anyOf": [{"required": [name]} for name in _NAMES]}
        rules = [
            {
                "if": {"anyOf": [_is(key, name) for key in _NAMES]},
                "then": {"properties": {"config": _ref(f"config.{name}")}},
            }
            for name in algorithms
        ]
        if strict:
            any_config = {"properties": {"config": _ref("config")}}
            rules.append({"if": {"not": named}, "then": any_config})
        rules += [
            {
                "if": _is("env", definition.removeprefix("env_config.")),
                "then": {
                    "properties": {
                        "config": {"properties": {"env_config": _ref(definition)}}
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

    def _config(self, algorithm: str) -> Schema:
        """Returns the schema for the ``config`` of an algorithm."""
        unused = self._catalog.unused_keys(algorithm)
        fields = self._catalog.algorithm_fields(algorithm)
        properties = {}
        for key, field in fields.items():
            if key in unused or key.startswith("_"):
                continue
            inner = self._catalog.subkeys(algorithm, key)
            if key == "evaluation_config":
                schema: Schema = _or_lists(_ref(f"config.{algorithm}"))
            elif inner is not None:
                schema = self._inner(key, inner)
            else:
                schema = self._key(key, field)
            properties[key] = schema | _default(field)
        own = [key for key in properties if fields[key].import_path]
        self._own[f"config.{algorithm}"] = own
        return _section(properties, own)

    def _any_config(self) -> Schema:
        """Returns the schema for a ``config`` whose algorithm is named elsewhere."""
        found: dict[str, list[Schema]] = {}
        own: dict[str, None] = {}
        for name, definition in self._definitions.items():
            if not name.startswith("config."):
                continue
            for key, schema in definition["properties"].items():
                plain = {k: v for k, v in schema.items() if k != "default"}
                if key == "evaluation_config":
                    plain = _or_lists(_ref("config"))
                if plain not in found.setdefault(key, []):
                    found[key].append(plain)
            own |= dict.fromkeys(self._own[name])
        return _section(
            {
                key: schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
                for key, schemas in found.items()
            },
            own,
        )

    def _key(self, key: str, field: Field) -> Schema:
        """Returns a reference to the schema of a key, search spaces included."""
        schema = _field(field)
        schema.pop("default", None)
        names = self._known.setdefault(key, {})
        text = json.dumps([schema, [kind.__name__ for kind in field.types]])
        if text not in names:
            names[text] = f"key.{key}-{len(names) + 1}" if names else f"key.{key}"
            reference = _ref(names[text])
            value = _value(field)
            # A key that accepts any mapping also accepts a search space.
            if value and dict not in field.types:
                space = self._search_space(field, reference)
                # The description is next to the value, where editors look for it.
                schema = {"if": {"type": "object"}, "then": space, "else": schema}
            self._definitions[names[text]] = schema
        return _ref(names[text])

    def _search_space(self, field: Field, own: Schema) -> Schema:
        """Returns the schema of a search space: a list of values, or a sampler."""
        return {
            "description": "A search space, as {grid_search: [...]}.",
            "minProperties": 1,
            "maxProperties": 1,
            "properties": _lists(own) | self._samplers(field),
            "additionalProperties": False,
        }

    def _samplers(self, field: Field) -> Schema:
        """Returns references to the samplers of a range; many keys share them."""
        found = {}
        for name, schema in _samplers(field).items():
            names = self._known.setdefault(f"sampler {name}", {})
            text = json.dumps(schema)
            if text not in names:
                names[text] = f"{name}-{len(names) + 1}"
                self._definitions[names[text]] = schema
            found[name] = _ref(names[text])
        return found

    def _inner(self, owner: str, fields: Mapping[str, Field]) -> Schema:
        """Returns the schema of a mapping with known keys, such as ``env_config``."""
        properties = {
            key: self._key(f"{owner}.{key}", field) | _default(field)
            for key, field in fields.items()
        }
        return _or_lists(
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
        "properties": {"shared": _ref(definition)},
        "patternProperties": {_EXPERIMENT_NAME: _ref(definition)},
    }


def _ref(definition: str) -> Schema:
    return {"$ref": f"#/$defs/{definition}"}


def _section(properties: Schema, own: Iterable[str]) -> Schema:
    """Returns the schema of a ``config``.

    Args:
        properties: Schema of each key.
        own: Keys that may name a user's own class, which may declare further keys.
    """
    named = {"type": "string", "pattern": ":"}
    is_own = [{"properties": {key: named}, "required": [key]} for key in own]
    return {
        "type": ["object", "null"],
        "properties": properties,
        "if": {"not": {"anyOf": [{"type": "null"}, *is_own]}},
        "then": {
            "properties": dict.fromkeys(properties, True),
            # RLlib's private keys are accepted but not suggested.
            "patternProperties": {"^_": True},
            "additionalProperties": False,
        },
    }


def _is(key: str, value: str) -> Schema:
    return {"properties": {key: {"const": value}}, "required": [key]}


def _mapping(fields: Mapping[str, Field]) -> Schema:
    return {
        "type": "object",
        "properties": {key: _field(field) for key, field in fields.items()},
        "additionalProperties": False,
    }


def _stop() -> Schema:
    names = dict.fromkeys((*TEAM_METRICS, *RLLIB_METRICS, *TUNE_METRICS))
    number = _number("number", Field(None, "", float))
    return {
        "properties": dict.fromkeys(names, number),
        "additionalProperties": {"anyOf": [number, {"type": "object"}]},
    }


def _any_case(names: Iterable[str]) -> Schema:
    """Returns the schema of a name in upper or lower case."""
    words = [
        "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in name)
        for name in names
    ]
    return {"pattern": f"^({'|'.join(words)})$", "examples": [*names]}


def _field(field: Field) -> Schema:
    """Returns the schema of a key, with its description."""
    unit = f" Unit: {field.unit}." if field.unit else ""
    meaning: Schema = {"description": f"{field.doc}{unit}"} if field.doc else {}
    return meaning | _default(field) | _value(field)


def _default(field: Field) -> Schema:
    try:
        json.dumps(field.default, allow_nan=False)
    except (TypeError, ValueError):
        return {}  # a class, for example
    return {"default": field.default}


def _value(field: Field) -> Schema:
    """Returns the schema of a single value; empty if anything is allowed."""
    if object in field.types:
        return {}
    names = [*dict.fromkeys(_JSON_TYPES[kind] for kind in field.types)]
    if "number" in names and "integer" in names:
        names.remove("integer")
    schema: Schema = {}
    for kind in {"number", "integer"}.intersection(names):
        schema = _number(kind, field)  # JSON Schema applies bounds to numbers only
    if field.choices is not None and names == ["string"]:
        schema = {"enum": [*field.choices, *([None] if field.optional else [])]}
        if field.import_path:
            own = {"type": "string", "pattern": ":"}
            schema = {"anyOf": [schema, own]}
        return schema
    if field.optional:
        names.append("null")
    return schema | {"type": names[0] if len(names) == 1 else names}


def _number(kind: str, field: Field) -> Schema:
    most = MAX_NUMBER if kind == "number" else MAX_WHOLE
    schema: Schema = {"type": kind}
    schema["exclusiveMinimum" if field.low_open else "minimum"] = (
        -most if field.low is None else field.low
    )
    schema["maximum"] = most if field.high is None else min(field.high, most)
    return schema


def _lists(own: Schema) -> Schema:
    return {kind: {"type": "array", "minItems": 1, "items": own} for kind in LISTS}


def _or_lists(schema: Schema) -> Schema:
    """Returns the schema of a mapping, or of a list of mappings to choose from."""
    choice = {
        "minProperties": 1,
        "maxProperties": 1,
        "properties": _lists(schema),
        "additionalProperties": False,
    }
    listed = {"anyOf": [{"required": [kind]} for kind in LISTS]}
    return {"if": listed, "then": choice, "else": schema}


def _samplers(field: Field) -> Schema:
    found = {}
    for name, (arguments, whole) in SAMPLERS.items():
        accepted = {float, int} if whole else {float}
        if not accepted.intersection(field.types):
            continue
        kind = "integer" if whole else "number"
        number = _number(kind, field)
        items = [number, number, {"type": kind, "exclusiveMinimum": 0}]
        if arguments[0] == "mean":
            items[1] = {"type": kind}
        elif whole and not name.startswith("q"):
            items[1] = {"type": kind}  # the upper end is exclusive
        count = len(arguments)
        found[name] = {
            "type": "array",
            "description": f"[{', '.join(arguments)}]",
            "prefixItems": items[:count],
            "minItems": count,
            "maxItems": count,
        }
    return found
