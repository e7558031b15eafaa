"""What a consumer of call sessions has to bear, one rule for each kind of fault in the stream."""

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Rule(StrEnum):
    """The name of a rule, as it is given to ``--rule`` and printed in the verdict."""

    COMPLETE = "complete"
    HIGHEST_REVISION = "highest_revision"
    LATE_CORRECTIONS = "late_corrections"
    REPEATS = "repeats"
    REVISION_GAPS = "revision_gaps"
    COMMITTED_ONLY = "committed_only"
    VALUES = "values"
    PROGRESS = "progress"
    UNKNOWN_FIELDS = "unknown_fields"
    UNKNOWN_TYPES = "unknown_types"


SAYS: Final = MappingProxyType(
    {
        Rule.COMPLETE: "every session is there, once, though the events of many come mixed",
        Rule.HIGHEST_REVISION: "an older revision that comes after a newer one changes nothing",
        Rule.LATE_CORRECTIONS: "a correction counts however late it comes",
        Rule.REPEATS: "an event that comes twice counts once",
        Rule.REVISION_GAPS: "a revision counts though the ones before it never came",
        Rule.COMMITTED_ONLY: "what an aborted transaction wrote is not seen (isolation.level=read_committed)",
        Rule.VALUES: "every direction and outcome counts, and null wherever nothing is known",
        Rule.PROGRESS: "threecx.feed.progress is no session, and its key may be null",
        Rule.UNKNOWN_FIELDS: "fields, headers and values of reason and end_reason that are not known are ignored",
        Rule.UNKNOWN_TYPES: "events of types that are not known are skipped, whatever they hold",
    }
)
