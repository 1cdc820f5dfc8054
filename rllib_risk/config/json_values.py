"""Schemas of single keys, which the JSON Schema of training files consists of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rllib_risk.config.schema import MAX_NUMBER, MAX_WHOLE, Field
from rllib_risk.config.search_space import LISTS, SAMPLERS

Schema = dict[str, Any]

# The name of a user's own class, as pkg.module:Class.
IMPORT_PATH: Schema = {"type": "string", "pattern": ":"}
_JSON_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    tuple: "array",
    dict: "object",
}


def reference(definition: str) -> Schema:
    """Returns a reference to a definition of the file."""
    return {"$ref": f"#/$defs/{definition}"}


def with_key(key: str, schema: Schema) -> Schema:
    """Returns the schema of a mapping in which a key fulfils a schema."""
    return {"type": "object", "properties": {key: schema}, "required": [key]}


def mapping_schema(fields: Mapping[str, Field]) -> Schema:
    """Returns the schema of a mapping with known keys."""
    return {
        "type": "object",
        "properties": {key: field_schema(field) for key, field in fields.items()},
        "additionalProperties": False,
    }


def any_case(names: Iterable[str]) -> Schema:
    """Returns the schema of a name in upper or lower case."""
    words = [
        "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in name)
        for name in names
    ]
    return {"pattern": f"^({'|'.join(words)})$", "examples": [*names]}


def field_schema(field: Field) -> Schema:
    """Returns the schema of a key, with its description."""
    unit = f" Unit: {field.unit}." if field.unit else ""
    meaning: Schema = {"description": f"{field.doc}{unit}"} if field.doc else {}
    return meaning | default_of(field) | value_schema(field)


def default_of(field: Field) -> Schema:
    """Returns the default of a key; empty if JSON cannot express it."""
    try:
        json.dumps(field.default, allow_nan=False)
    except (TypeError, ValueError):
        return {}  # a class, for example
    return {"default": field.default}


def value_schema(field: Field) -> Schema:
    """Returns the schema of a single value; empty if anything is allowed."""
    if object in field.types:
        return {}
    names = [*dict.fromkeys(_JSON_TYPES[kind] for kind in field.types)]
    if "number" in names and "integer" in names:
        names.remove("integer")
    schema: Schema = {}
    for kind in {"number", "integer"}.intersection(names):
        schema = number_schema(kind, field)  # bounds apply to numbers only
    if field.choices is not None and names == ["string"]:
        schema = {"enum": [*field.choices, *([None] if field.optional else [])]}
        if field.import_path:
            schema = {"anyOf": [schema, IMPORT_PATH]}
        return schema
    if field.optional:
        names.append("null")
    return schema | {"type": names[0] if len(names) == 1 else names}


def number_schema(kind: str, field: Field) -> Schema:
    """Returns the schema of a number in the range of a key.

    Args:
        kind: "number" or "integer".
        field: Declaration of the key.
    """
    most = MAX_NUMBER if kind == "number" else MAX_WHOLE
    schema: Schema = {"type": kind}
    schema["exclusiveMinimum" if field.low_open else "minimum"] = (
        -most if field.low is None else field.low
    )
    schema["exclusiveMaximum" if field.high_open else "maximum"] = (
        most if field.high is None else min(field.high, most)
    )
    return schema


def list_samplers(own: Schema) -> Schema:
    """Returns the samplers that choose from a list, whose items fulfil a schema."""
    return {kind: {"type": "array", "minItems": 1, "items": own} for kind in LISTS}


def or_lists(schema: Schema) -> Schema:
    """Returns the schema of a mapping, or of a list of mappings to choose from."""
    choice = {
        "minProperties": 1,
        "maxProperties": 1,
        "properties": list_samplers(schema),
        "additionalProperties": False,
    }
    listed = {"anyOf": [{"required": [kind]} for kind in LISTS]}
    return {"if": listed, "then": choice, "else": schema}


def range_samplers(field: Field) -> Schema:
    """Returns the samplers that draw a number from a range."""
    found = {}
    for name, (arguments, whole) in SAMPLERS.items():
        accepted = {float, int} if whole else {float}
        if not accepted.intersection(field.types):
            continue
        kind = "integer" if whole else "number"
        number = number_schema(kind, field)
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
