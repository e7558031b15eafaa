"""The Kafka headers of each topic as shapes; values are UTF-8 text. What writes and reads them is `events.envelope`.

A header with a default may be absent.
"""

from typing import Annotated, Literal

from pydantic import Field

from events.envelope import Type
from events.session import Shape
from events.times import Utc

Count = Annotated[str, Field(pattern=r"^[0-9]+$")]


class CloudEvent(Shape):
    """CloudEvents 1.0 in Kafka's binary content mode: attribute `x` is the header `ce_x`."""

    ce_specversion: Literal["1.0"] = "1.0"
    ce_id: str = Field(description="Unique among all events; the same on a repeat, so that a repeat is recognisable.")
    ce_source: str = Field(pattern=r"^/pbx/.+", description="`/pbx/` and the name of the PBX.")
    ce_time: Utc


class SessionEventHeaders(CloudEvent):
    """Headers of a session event and of feed progress; `ce_time` is the received time of the event's last cause."""

    ce_type: str = Field(
        description="The same as `type` in the value: tells the schema of the value. Skip what you do not know."
    )
    content_type: Literal["application/json"] = Field(default="application/json", serialization_alias="content-type")


class WebhookHeaders(CloudEvent):
    """Headers of a webhook; `ce_time` is when ingest received it."""

    ce_type: Literal[Type.WEBHOOK_RECEIVED] = Type.WEBHOOK_RECEIVED
    content_type: str = Field(
        default="", serialization_alias="content-type", description="As the sender called its body, if it did."
    )
    ingest: str = Field(description="The ingest instance that accepted it.")
    ingest_sequence: Count = Field(description="Counts what that instance accepted.")


class TickHeaders(CloudEvent):
    """Headers of a clock tick: what its ingest instance received before `ce_time` is in the log. Its value is empty."""

    ce_type: Literal[Type.CLOCK_TICK] = Type.CLOCK_TICK
    ingest: str = Field(description="The ingest instance that ticks.")


class PollHeaders(CloudEvent):
    """Headers of what the poller, as a witness, writes beside the webhooks; `ce_time` is when the PBX's answer came."""

    ce_type: Literal[Type.CALLS_LISTED, Type.CALLS_RECORDED]
    content_type: Literal["application/json"] = Field(default="application/json", serialization_alias="content-type")


class DeadLetterHeaders(Shape):
    """Headers of a dead letter beside the record's own, which may be anything: they can be why it is here."""

    dead_letter_reason: str = Field(description="A sentence without content of the record.")
    dead_letter_origin: str = Field(description="The topic it lay on; `ingest` for what the door refused.")
    dead_letter_partition: Count = Field(default="", description="Where it lay; absent for `ingest`.")
    dead_letter_offset: Count = Field(default="", description="Where it lay; absent for `ingest`.")
