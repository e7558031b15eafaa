"""The files for the 3CX side: the CRM template (XML) for import, and the JSON body of an HTTP template.

Rules, each from something that went wrong in a public template (3cx.md, sections 1 and 2): times only as milliseconds
since 1970 in UTC, because every other one is printed in the PBX's culture; no method is called on a variable, because
that fails where the variable is null, as a missed call's answering time is; numbers as they are, uncut.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from events.pbx import PbxName
from events.settings import ConfigurationError

VERSION: Final = "1"
NUMBER_DIGITS_MAX: Final = "32"
CONCURRENT_REQUESTS_MAX: Final = "16"
SECRET_HEADER: Final = "X-Webhook-Secret"  # noqa: S105 - a name

REPORTED: Final = (
    *("CallType", "CallDirection", "Number", "Agent", "AgentEmail", "Duration", "RecordingUrl"),
    *("CallStartTimeUTCMillis", "CallEndTimeUTCMillis"),
)
"""The variables of a call that has ended; each is sent under its own name."""

BODY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "callId": "[CallID]",
        "caller": "[CallerNumber]",
        "callee": "[CalledNumber]",
        "agentExt": "[AgentNumber]",
        "agentMail": "[AgentEmail]",
        "direction": "[CallDirection]",
        "duration": "[Duration]",
        "wav": "[RecordingURL]",
        "endUtc": "[CallEndTimeUTC]",
        "startTime": "[CallStartTimeUTC]",
    }
)
"""Key to variable, as the seed has them."""

_PBX: Final = TypeAdapter(PbxName)


def endpoint(url: str, pbx: str | None) -> str:
    """The URL that webhooks are posted to; raises ConfigurationError for what 3CX could not post to."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError(
            f"--url: {url!r} is no address of this service; write it like https://calls.example.com"
        )
    if parts.username or parts.password:
        raise ConfigurationError("--url: a user or password in it would be shown to everybody; use the secret instead")
    try:
        of_pbx = "" if pbx is None else f"/{_PBX.validate_python(pbx)}"
    except ValidationError:
        what_to_do = "small letters, digits, dot, dash and underscore, as in PBX_CONFIG"
        raise ConfigurationError(f"--pbx: {pbx!r} is no name of a PBX; {what_to_do}") from None
    return f"{url.rstrip('/')}/webhook/3cx{of_pbx}/call-event"


def crm_template(url: str, pbx: str | None = None) -> str:
    """The CRM template for import into 3CX, as XML; 3CX's own form asks for the secret, which is not in the file."""
    where = endpoint(url, pbx)
    name = "Callstream" if pbx is None else f"Callstream {pbx}"
    crm = ET.Element("Crm", Country="US", Name=name, Version=VERSION)
    ET.SubElement(crm, "Number", Prefix="AsIs", MaxLength=NUMBER_DIGITS_MAX)
    ET.SubElement(crm, "Connection", MaxConcurrentRequests=CONCURRENT_REQUESTS_MAX)
    _parameters(ET.SubElement(crm, "Parameters"))
    ET.SubElement(crm, "Authentication", Type="No")
    scenario = ET.SubElement(ET.SubElement(crm, "Scenarios"), "Scenario", Id="ReportCall", Type="REST")
    request = ET.SubElement(
        scenario,
        "Request",
        Url=where,
        SkipIf="[ReportCallEnabled]!=True",
        MessagePasses="0",
        RequestContentType="application/json",
        RequestEncoding="Json",
        RequestType="Post",
        ResponseType="Json",
    )
    _value(ET.SubElement(request, "Headers"), SECRET_HEADER, "Secret")
    sent = ET.SubElement(request, "PostValues")
    for variable in REPORTED:
        _value(sent, variable, variable)
    ET.indent(crm)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(crm, encoding="unicode")}\n'


def _parameters(parameters: ET.Element) -> None:
    common = {"Parent": "General Configuration", "Editor": "String"}
    secret = {"Name": "Secret", "Type": "Password", "Title": "Secret:", "Default": ""}
    enabled = {"Name": "ReportCallEnabled", "Type": "Boolean", "Title": "Report calls:", "Default": "True"}
    for one in (secret, enabled):
        ET.SubElement(parameters, "Parameter", one | common)


def _value(parent: ET.Element, key: str, variable: str) -> None:
    ET.SubElement(parent, "Value", Key=key, Passes="1", Type="String").text = f"[{variable}]"


def json_body() -> str:
    """The body of an HTTP template, as the seed has it, for a PBX that offers one."""
    return json.dumps(dict(BODY), indent=2) + "\n"
