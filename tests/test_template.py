"""The files for the 3CX side: well-formed, no secret in them, culture-proof; what a PBX makes of them is read right."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from events.pbx import Pbx
from events.reading import read
from events.session import Direction, Outcome
from events.settings import ConfigurationError
from events.webhook import End, Start
from ingest.settings import IngestSettings
from ingest.template import REPORTED, SECRET_HEADER, crm_template, endpoint, json_body
from processors.settings import ProcessorsSettings
from tests.printing import Culture, cultures_of_cldr

DEPLOY = Path(__file__).parent.parent / "deploy" / "3cx"
URL = "https://callstream.example.com"
CULTURES = cultures_of_cldr(Path(__file__).parent / "corpus" / "cultures.json")[::8]  # all of them: test_dates.py
BEGAN = datetime(2026, 11, 25, 14, 30, 0, tzinfo=UTC)
ENDED = BEGAN + timedelta(minutes=4, seconds=40)
RECEIVED = ENDED + timedelta(seconds=1.8)
# Chosen so that no date can be taken for another one.
ZURICH = Pbx(timezone="Europe/Zurich")

Values = Mapping[str, str | None]


def parsed(xml: str) -> ET.Element:
    """Raises ET.ParseError for what is not well-formed."""
    return ET.fromstring(xml)  # noqa: S314 - it is our own


def millis(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))


def call(kind: str, **more: str | None) -> dict[str, str | None]:
    """The variables of an ended call; null is what .NET prints as nothing."""
    answered = kind in {"Inbound", "Outbound"}
    return {
        "CallType": kind,
        "CallDirection": "Outbound" if kind in {"Outbound", "Notanswered"} else "Inbound",
        "Number": "+41225551234",
        "Agent": "201",
        "AgentEmail": "agent@company.com",
        "Duration": "00:04:32" if answered else "00:00:00",
        "RecordingUrl": "https://pbx.company.com/recordings/12345.wav" if answered else None,
        "CallStartTimeUTCMillis": millis(BEGAN),
        "CallEndTimeUTCMillis": millis(ENDED),
        "Secret": "s",
    } | more


def resolved(text: str, values: Values) -> str:
    """As 3CX's engine: `[Name]` becomes its value; a variable that the PBX does not know stays as it is."""

    def value(match: re.Match[str]) -> str:
        return (values[match[1]] or "") if match[1] in values else match[0]

    return re.sub(r"\[(\w+)\]", value, text)


def posted(values: Values) -> bytes:
    """The body that the CRM template makes of a call."""
    request = parsed(crm_template(URL)).find(".//Request")
    assert request is not None
    sent = request.findall("PostValues/Value")
    return json.dumps({one.attrib["Key"]: resolved(one.text or "", values) for one in sent}).encode()


def test_the_files_in_the_repository_are_the_ones_that_the_command_writes() -> None:
    assert (DEPLOY / "callstream-crm.xml").read_text("utf-8") == crm_template(URL)
    assert (DEPLOY / "callstream-body.json").read_text("utf-8") == json_body()


def test_the_command_writes_both_files_for_a_named_pbx_and_says_where_they_post_to(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ingest", "template", "--url", URL, "--pbx", "geneva", "--to", str(tmp_path / "new")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert f"{URL}/webhook/3cx/geneva/call-event" in told
    crm = parsed((tmp_path / "new" / "callstream-crm-geneva.xml").read_text("utf-8"))
    assert crm.attrib["Name"] == "Callstream geneva"
    assert json.loads((tmp_path / "new" / "callstream-body-geneva.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("url", "pbx"),
    [
        ("calls.example.com", None),
        ("ftp://a", None),
        ("https://u:p@a", None),
        ("https://a?b", None),
        (URL, "Not A Name"),
    ],
)
def test_an_address_that_3cx_could_not_post_to_is_refused_with_what_to_write(url: str, pbx: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"write it like|secret|small letters"):
        endpoint(url, pbx)


def test_the_secret_is_a_parameter_that_3cx_hides_and_goes_into_the_header() -> None:
    crm = parsed(crm_template(URL))
    (secret,) = [one.attrib for one in crm.findall("Parameters/Parameter") if one.attrib["Name"] == "Secret"]
    assert (secret["Type"], secret["Default"]) == ("Password", "")
    (header,) = crm.findall(".//Headers/Value")
    assert (header.attrib["Key"], header.text) == (SECRET_HEADER, "[Secret]")


def test_no_time_is_printed_by_a_culture_and_no_method_is_called_on_what_may_be_null() -> None:
    text = crm_template(URL)
    assert not re.search(r"\[\[|\.ToString|IIf|Established", text)
    assert {name for name in REPORTED if "Time" in name} == {"CallStartTimeUTCMillis", "CallEndTimeUTCMillis"}


@pytest.mark.parametrize(
    ("kind", "direction", "outcome"),
    [
        ("Inbound", Direction.INBOUND, Outcome.ANSWERED),
        ("Outbound", Direction.OUTBOUND, Outcome.ANSWERED),
        ("Missed", Direction.INBOUND, Outcome.MISSED),
        ("Notanswered", Direction.OUTBOUND, Outcome.NOT_ANSWERED),
    ],
)
def test_every_type_of_call_in_the_crm_template_is_an_end_with_all_that_was_said(
    kind: str, direction: Direction, outcome: Outcome
) -> None:
    told = read(posted(call(kind)), "application/json", RECEIVED, ZURICH)
    assert isinstance(told, End)
    assert (told.direction, told.outcome, told.extension) == (direction, outcome, "201")
    assert (told.started_at, told.ended_at) == (BEGAN, ENDED)
    assert told.duration_s == (272 if outcome is Outcome.ANSWERED else 0)
    external = told.caller if direction is Direction.INBOUND else told.callee
    assert external.e164 == "+41225551234"


COSTS = {
    "CallType": {"outcome"},
    "Number": {"caller"},
    "Agent": {"extension"},
    "AgentEmail": {"email"},
    "Duration": {"duration_s", "outcome"},  # a duration above zero is what says that it was answered
    "RecordingUrl": {"recording_url"},
    "CallStartTimeUTCMillis": {"started_at"},
    "CallEndTimeUTCMillis": {"ended_at"},
}


@pytest.mark.parametrize("name", REPORTED)
def test_a_variable_that_is_null_or_unknown_to_the_pbx_costs_what_it_said_and_nothing_else(name: str) -> None:
    whole = read(posted(call("Inbound")), "application/json", RECEIVED, ZURICH)
    assert isinstance(whole, End)
    without = {key: value for key, value in call("Inbound").items() if key != name}
    for values in (without, without | {name: None}):
        told = read(posted(values), "application/json", RECEIVED, ZURICH)
        assert isinstance(told, End)
        lost = {field for field, value in whole._asdict().items() if told._asdict()[field] != value}
        assert lost <= COSTS.get(name, set())


def body_of(values: Values) -> bytes:
    return resolved(json_body(), values).encode()


def of_the_seed(printed: Callable[[datetime], str], *, ended: bool) -> dict[str, str | None]:
    """What a PBX fills into the seed's body at the start of a call, or at its end."""
    common = {"CallerNumber": "+41225551234", "CalledNumber": "+41225555678", "AgentNumber": "201", "AgentEmail": None}
    common |= {"CallDirection": "Inbound", "CallID": None}
    if not ended:
        nothing = dict.fromkeys(("Duration", "RecordingURL", "CallEndTimeUTC"))
        return common | nothing | {"CallStartTimeUTC": printed(BEGAN)}
    return common | {
        "CallID": "12345",
        "Duration": "00:04:32",
        "RecordingURL": None,
        "CallStartTimeUTC": printed(BEGAN),
        "CallEndTimeUTC": printed(ENDED),
    }


@pytest.mark.parametrize("zone", ["UTC", "Europe/Zurich"])
def test_the_seeds_body_is_read_right_in_every_culture_that_net_prints_in(zone: str) -> None:
    assert len(CULTURES) > 20
    for culture in CULTURES:

        def printed(at: datetime, culture: Culture = culture) -> str:
            return culture.print(at.astimezone(ZoneInfo(zone)))

        start = read(body_of(of_the_seed(printed, ended=False)), "application/json", BEGAN, Pbx(timezone=zone))
        assert isinstance(start, Start), culture
        assert start.started_at == culture.cut(BEGAN), culture
        end = read(body_of(of_the_seed(printed, ended=True)), "application/json", RECEIVED, Pbx(timezone=zone))
        assert isinstance(end, End), culture
        assert (end.started_at, end.ended_at, end.duration_s) == (culture.cut(BEGAN), culture.cut(ENDED), 272), culture


@pytest.mark.parametrize("guide", ["3cx.md", "3cx.fr.md"])
def test_both_guides_give_the_same_commands_the_real_header_and_settings_that_there_are(guide: str) -> None:
    docs = DEPLOY.parent.parent / "docs"
    text = (docs / guide).read_text("utf-8")
    assert SECRET_HEADER in text
    known = {name.upper() for one in (IngestSettings, ProcessorsSettings) for name in one.model_fields} | {"PBX_CONFIG"}
    assert set(re.findall(r"`((?:INGEST|PBX)_[A-Z_]+)`", text)) <= known
    blocks = [re.sub(r" *#.*", "", block) for block in re.findall(r"```.*?```", text, re.DOTALL)]
    english = (docs / "3cx.md").read_text("utf-8")
    assert blocks == [re.sub(r" *#.*", "", block) for block in re.findall(r"```.*?```", english, re.DOTALL)]
    assert text.count("\n| ") == english.count("\n| ")
