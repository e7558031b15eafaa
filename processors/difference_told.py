"""A difference as text for people, or as JSON for programs. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from processors.difference import Changed, Difference, PartitionBytes, Row, Why


def as_text(found: Difference, a: str, b: str, limit: int) -> str:
    """The verdict first, then at most `limit` rows of each kind; `a` and `b` are the sets' prefixes."""
    return "\n".join([*_summary(found, a, b), *_rows(found, a, b, limit), ""])


def _summary(found: Difference, a: str, b: str) -> Iterator[str]:
    verdict = "the sessions are equal" if found.same_sessions else "the sessions differ"
    yield f"{verdict}: A = {a} ({found.sessions_a:,} sessions), B = {b} ({found.sessions_b:,} sessions)"
    yield (
        f"equal {found.equal:,}, changed {len(found.changed):,},"
        f" only in A {len(found.only_a):,}, only in B {len(found.only_b):,}"
    )
    for (reason_a, reason_b), count in sorted(found.reasons.items(), key=lambda one: (-one[1], one[0])):
        yield f"  changed, last reason {reason_a} -> {reason_b}: {count:,}"
    if found.left_out is not None:
        yield "compared as far as both have come; left out: {:,} later call events of A, {:,} of B".format(
            *found.left_out
        )
    differing = [one for one in found.partitions if one.first is not None]
    if not differing:
        events = sum(one.events_a for one in found.partitions)
        yield f"the events are byte for byte the same in each of {len(found.partitions)} partitions ({events:,} events)"
        return
    yield f"the events are not byte for byte the same in {len(differing)} of {len(found.partitions)} partitions:"
    for one in differing:
        yield f"  {_parting(one)}"


def _parting(place: PartitionBytes) -> str:
    counts = f"partition {place.partition} (A {place.events_a:,} events, B {place.events_b:,})"
    first = place.first
    if first is None:
        return f"{counts}: the same"
    if first.offset_a is None or first.offset_b is None:
        ended, longer = ("A", "B") if first.offset_a is None else ("B", "A")
        offset = first.offset_b if first.offset_a is None else first.offset_a
        more = f"{longer} goes on at offset {offset}, {first.type_a or first.type_b}"
        return f"{counts}: the same until {ended} ends after {first.number:,}; {more}"
    return (
        f"{counts}: first at event {first.number:,}:"
        f" A offset {first.offset_a}, {first.type_a}; B offset {first.offset_b}, {first.type_b}"
    )


def _rows(found: Difference, a: str, b: str, limit: int) -> Iterator[str]:
    for one in found.changed[:limit]:
        yield f"\nchanged {_name(one)}"
        for field, (before, after) in one.fields.items():
            yield f"  {field}: {_value(before)} -> {_value(after)}"
        yield f"  A: {_because(one.why_a)}"
        yield f"  B: {_because(one.why_b)}"
    yield from _left_out(found.changed, limit)
    for prefix, side, rows in ((a, "A", found.only_a), (b, "B", found.only_b)):
        for row in rows[:limit]:
            yield f"\nonly in {side} ({prefix}): {_name(row)}, {row.status}"
            yield f"  {side}: {_because(row.why)}"
        yield from _left_out(rows, limit)


def _left_out(rows: Sequence[object], limit: int) -> Iterator[str]:
    if len(rows) > limit:
        yield f"\n({len(rows) - limit:,} more are not shown; --limit shows them)"


def _name(row: Row | Changed) -> str:
    return f"{row.session_id} (PBX {row.pbx}, agent {row.extension or 'unknown'})"


def _because(why: Why) -> str:
    causes = ", ".join(f"{partition}@{offset} {ce_id}" for partition, offset, ce_id in why.causes)
    return f"revision {why.revision}, {why.type}, reason {why.reason}, from {causes}"


def _value(value: object) -> str:
    return orjson.dumps(value).decode()


def as_json(found: Difference, a: str, b: str, limit: int) -> str:
    """One JSON object; counts are whole, lists hold at most `limit` rows."""
    told = {
        "a": a,
        "b": b,
        "same_sessions": found.same_sessions,
        "same_bytes": found.same_bytes,
        "sessions": {"a": found.sessions_a, "b": found.sessions_b, "equal": found.equal}
        | {"changed": len(found.changed), "only_a": len(found.only_a), "only_b": len(found.only_b)},
        "reasons": [{"a": a, "b": b, "count": count} for (a, b), count in sorted(found.reasons.items())],
        "left_out": None if found.left_out is None else dict(zip("ab", found.left_out, strict=True)),
        "partitions": [asdict(one) for one in found.partitions],
        "changed": [_changed_object(one) for one in found.changed[:limit]],
        "only_a": [_row_object(one) for one in found.only_a[:limit]],
        "only_b": [_row_object(one) for one in found.only_b[:limit]],
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _changed_object(one: Changed) -> Mapping[str, Any]:
    fields = {name: {"a": a, "b": b} for name, (a, b) in one.fields.items()}
    whys = {"why_a": _why_object(one.why_a), "why_b": _why_object(one.why_b)}
    return {"session_id": one.session_id, "pbx": one.pbx, "agent": one.extension, "fields": fields} | whys


def _row_object(row: Row) -> Mapping[str, Any]:
    told = {"session_id": row.session_id, "pbx": row.pbx, "agent": row.extension, "status": row.status}
    return told | {"why": _why_object(row.why)}


def _why_object(why: Why) -> Mapping[str, Any]:
    causes = [{"partition": partition, "offset": offset, "ce_id": ce_id} for partition, offset, ce_id in why.causes]
    return {"revision": why.revision, "type": why.type, "reason": why.reason, "causes": causes}
