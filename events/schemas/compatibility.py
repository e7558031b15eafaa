"""Whether one version of a schema can stand for another, both ways. Pure; for the part of JSON Schema that we publish.

``problems(writer, reader)``: would each message that a writer of the one schema can write be valid under the other?
A writer writes the fields that its schema declares and no others; a reader takes whatever it does not know. Full
compatibility is both ways. A keyword that is not known here is refused: what cannot be judged is not compatible.
Meaning is beyond it: a field whose unit changes passes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Mapping[str, Any]
Part = Schema | bool
"""JSON Schema allows `true` (anything) where a schema may stand."""

ANNOTATIONS: Final = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "x-extensible-enum"}
LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
KNOWN: Final = {
    *("$ref", "anyOf", "type", "const", "enum", "format", "pattern", *LOWER, *UPPER),
    *("properties", "required", "additionalProperties", "items"),
}
TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


class UnknownKeywordError(ValueError):
    """A schema says something that this cannot judge; teach it, or say it otherwise."""


def breaks(earlier: Mapping[str, Schema], later: Mapping[str, Schema]) -> list[str]:
    """Every way in which the `later` set of schemas is not fully compatible with the `earlier` one; none is good.

    A schema that is new breaks nothing: consumers skip types that they do not know.
    """
    found = [f"{name}: is not published any more" for name in earlier if name not in later]
    for name in sorted(set(earlier) & set(later)):
        old, new = earlier[name], later[name]
        found += [f"{name}: an earlier message is not valid now: {one}" for one in problems(old, new)]
        found += [f"{name}: a message of now breaks an earlier reader: {one}" for one in problems(new, old)]
    return found


def problems(writer: Schema, reader: Schema) -> list[str]:
    """Where a message valid under `writer` may be invalid under `reader`."""
    return list(_Comparison(writer, reader).compare(writer, reader, "$"))


@dataclass(frozen=True, slots=True)
class _Comparison:
    writer_root: Schema
    reader_root: Schema

    def compare(self, writing: Part, reading: Part, path: str) -> Iterator[str]:
        """Step into both at the same place."""
        writer, reader = _resolved(writing, self.writer_root), _resolved(reading, self.reader_root)
        if not reader.keys() - ANNOTATIONS:
            return  # takes anything
        if "anyOf" in writer:
            for branch in writer["anyOf"]:
                yield from self.compare(branch, reader, path)
        elif "anyOf" in reader:
            tried = [list(self.compare(writer, branch, path)) for branch in reader["anyOf"]]
            if all(tried):
                yield min(tried, key=len)[0] if len(tried) == 1 else f"{path}: {_told(writer)} fits no alternative"
        else:
            yield from self._plain(writer, reader, path)

    def _plain(self, writer: Schema, reader: Schema, path: str) -> Iterator[str]:
        values = _values(writer)
        if values is not None:
            yield from (f"{path}: the value {one!r} is new" for one in values if not _takes(reader, one))
            return
        if _values(reader) is not None:
            yield f"{path}: values beyond {_values(reader)} became possible"
        if not _types(writer) <= _types(reader):
            yield f"{path}: {_told(writer)} where {_told(reader)} was"
            return
        for keyword in ("format", "pattern"):
            if keyword in reader and reader[keyword] != writer.get(keyword):
                yield f"{path}: {keyword} {reader[keyword]!r} does not hold"
        for keyword in (*LOWER, *UPPER):
            if keyword in reader and not _within(writer.get(keyword), reader[keyword], keyword):
                yield f"{path}: {keyword} {reader[keyword]} does not hold"
        yield from self._fields(writer, reader, path)
        if "items" in reader:
            yield from self.compare(writer.get("items", True), reader["items"], f"{path}[]")

    def _fields(self, writer: Schema, reader: Schema, path: str) -> Iterator[str]:
        written, read = writer.get("properties", {}), reader.get("properties", {})
        always = writer.get("required", [])
        yield from (f"{path}.{name}: may be missing" for name in reader.get("required", []) if name not in always)
        others = writer.get("additionalProperties", False)
        for name, schema in read.items():
            given = written.get(name, others)
            if given is not False:
                yield from self.compare(given, schema, f"{path}.{name}")
        rest = reader.get("additionalProperties", True)
        strangers = {name: schema for name, schema in written.items() if name not in read}
        if others is not False:
            strangers["*"] = others
        for name, schema in strangers.items():
            if rest is False:
                yield f"{path}.{name}: is not allowed"
            else:
                yield from self.compare(schema, rest, f"{path}.{name}")


def _resolved(part: Part, root: Schema) -> Schema:
    if isinstance(part, bool):
        if part:
            return {}
        raise UnknownKeywordError("a schema that takes nothing")
    schema = part
    while "$ref" in schema:
        if not schema["$ref"].startswith("#/$defs/"):
            raise UnknownKeywordError(f"$ref {schema['$ref']}")
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    unknown = schema.keys() - KNOWN - ANNOTATIONS
    if unknown or ("anyOf" in schema and schema.keys() - ANNOTATIONS != {"anyOf"}):
        raise UnknownKeywordError(f"cannot judge {sorted(unknown) or sorted(schema)}")
    return schema


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _types(schema: Schema) -> set[str]:
    said = schema.get("type", ["null", "boolean", "number", "string", "array", "object"])
    types = {said} if isinstance(said, str) else set(said)
    return types | {"integer"} if "number" in types else types


def _takes(reader: Schema, value: Any) -> bool:
    values = _values(reader)
    if values is not None and value not in values:
        return False
    pattern = reader.get("pattern")
    return TYPES.get(type(value)) in _types(reader) and (pattern is None or re.search(pattern, value) is not None)


def _within(written: Any, read: Any, keyword: str) -> bool:
    if written is None:
        return False
    return bool(written >= read if keyword in LOWER else written <= read)


def _told(schema: Schema) -> str:
    return "anything" if "type" not in schema else " or ".join(sorted(_types(schema)))
