# SPDX-License-Identifier: MIT
"""What fcprocctl says it prints as JSON: client/schema/fcprocctl.schema.json, and the shapes of its --help.

The schema as it is installed forbids no member, so that shapes can grow. Tests hold the output to a
strict variant of it as well: there what the schema does not name is an error, and a value that has
examples is one of them.
"""

import json
import re

import jsonschema

from fcproc import CHECKOUT

FILE = CHECKOUT / "client" / "schema" / "fcprocctl.schema.json"
PUBLISHED = json.loads(FILE.read_text())


def strict(schema):
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if schema.get("type") == "object":  # what an object refers to is a part of it, and has no type for itself
        made["unevaluatedProperties"] = False
    if isinstance(schema.get("examples"), list):
        made["enum"] = schema["examples"]
    return made


STRICT = strict(PUBLISHED)


def validate(value, name):
    """The value is what $defs/name says, as published and strictly."""
    for schema in (PUBLISHED, STRICT):
        jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"}).validate(value)


# --- a common form: a list of one, {name: Member}, a set of words, or None for what is not said ---


class Member:
    """of: what the member is; always: it is never missing; failure: it is there where "error" is."""

    def __init__(self, always, failure, of=None):
        self.always, self.failure, self.of = always, failure, of

    def __eq__(self, other):
        return self.__dict__ == other.__dict__

    def __repr__(self):
        return f"{'always' if self.always else 'at times'}{', before |' if self.failure else ''}{f', {self.of}' if self.of else ''}"


def shape_read(text):
    """The form of "[{api_sock | pid}]" and its like, as client/verbs.c explains them."""
    tokens = re.findall(r"[\w-]+(?:\|[\w-]+)*|\S", text.removeprefix("a line each: "))

    def value():
        token = tokens.pop(0)
        if token == "[":
            read = [value()]
            assert tokens.pop(0) == "]", text
            return read
        if token == "{":
            return members()
        return set(token.split("|")) if "|" in token else None

    def members():
        read, seen_bar = {}, False
        before = []
        while True:
            names, optional, of = [tokens.pop(0)], False, None
            while tokens[0] == "or":
                tokens.pop(0)
                names.append(tokens.pop(0))
            if tokens[0] == "?":
                tokens.pop(0)
                optional = True
            if tokens[0] == ":":
                tokens.pop(0)
                of = value()
            for name in names:
                read[name] = Member(not optional and len(names) == 1, False, of)
                before += [] if seen_bar else [name]
            end = tokens.pop(0)
            if end == "|":
                seen_bar = True
            elif end == "}":
                for name in before if seen_bar else []:
                    read[name].failure = True
                return read
            else:
                assert end == ",", text

    read = value()
    assert not tokens, text
    return read


def resolve(schema):
    """The schema with all that it refers to in it; what it says itself stays."""
    parts = [schema, *schema.get("allOf", [])]
    if not any("$ref" in part for part in parts):
        return schema
    made = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
    for part in parts:
        referred = resolve(PUBLISHED["$defs"][part["$ref"].rsplit("/", 1)[1]]) if "$ref" in part else {}
        for key, value in referred.items():
            if key == "properties":
                assert not set(made.get(key, {})) & set(value), "a member is there twice"
                made[key] = {**made.get(key, {}), **value}
            elif key == "required":
                made[key] = made.get(key, []) + value
            else:
                made.setdefault(key, value)
    return made


def schema_form(schema):
    """The same form of a schema."""
    schema = resolve(schema)
    if "anyOf" in schema:
        variants = [resolve(variant) for variant in schema["anyOf"]]
        failures = [variant for variant in variants if "error" in variant["properties"]]
        return object_form([v for v in variants if v not in failures], failures)
    if schema["type"] == "array":
        return [schema_form(schema["items"])]
    if schema["type"] == "object":
        return object_form([schema], [])
    return set(schema["examples"]) if "examples" in schema else None


def object_form(variants, failures):
    made = {}
    for variant in variants:
        for name, member in variant["properties"].items():
            always = all(name in v["required"] for v in variants)
            failure = any(name in v["properties"] for v in failures)
            of = schema_form(member)
            if name in made and isinstance(of, set):
                of |= made[name].of
            made[name] = Member(always, failure, of)
    for failure in failures:
        assert set(failure["properties"]) - {"error"} <= set(made) and "error" in failure["required"]
    return made


def without_words(form, said):
    """Words that only the schema has, as the shape leaves open what they are."""
    if isinstance(form, list):
        return [without_words(form[0], said[0] if isinstance(said, list) else None)]
    if isinstance(form, dict):
        said = said if isinstance(said, dict) else {}
        return {name: Member(m.always, m.failure, without_words(m.of, said[name].of if name in said else None))
                for name, m in form.items()}  # fmt: skip
    return form if said is not None else None
