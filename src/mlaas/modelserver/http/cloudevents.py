"""CloudEvents 1.0 around V1 requests, in the binary and the structured content mode of the HTTP binding; an event is answered
with an event of the type that KServe uses."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import orjson

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.modelserver.http.message import Reply, json_reply

_TYPE = "io.kserve.inference.response"
_STRUCTURED = b"application/cloudevents+json"
_REQUIRED = ("id", "source", "specversion", "type")


class Event:
    """An event that was received: its attributes, and the V1 body it carries."""

    def __init__(self, attributes: dict[str, str], data: bytes, structured: bool) -> None:
        missing = [name for name in _REQUIRED if not attributes.get(name)]
        if missing:
            raise Invalid(
                f"The CloudEvent has no '{missing[0]}'.", hint="Required are id, source, specversion and type."
            )
        if attributes["specversion"] not in ("1.0", "0.3"):
            raise Invalid(f"CloudEvents {attributes['specversion'][:20]} is not read; 1.0 is.")
        self.attributes = attributes
        self.data = data
        self.structured = structured

    def reply(self, document: dict[str, Any], model: str) -> Reply:
        """The answer: an event with the request's id (its source is another one, so the two together are unique)."""
        attributes = {
            "specversion": "1.0",
            "id": self.attributes["id"],
            "source": f"io.kserve.inference.{model}",
            "type": _TYPE,
            "time": datetime.now(UTC).isoformat(),
        }
        if self.structured:
            found = json_reply({**attributes, "datacontenttype": "application/json", "data": document})
            found.content_type = _STRUCTURED
            return found
        headers = tuple((b"ce-" + name.encode(), _header(value)) for name, value in attributes.items())
        return json_reply(document, headers=headers)


def received(headers: dict[bytes, bytes], body: bytes | bytearray) -> Event | None:
    """The event that a request is; None where it is none. Raises Malformed or Invalid for one that is broken."""
    if headers.get(b"content-type", b"").lower().startswith(_STRUCTURED):
        return _structured(body)
    if b"ce-specversion" not in headers and b"ce-id" not in headers:
        return None
    attributes = {
        name[3:].decode("latin-1"): value.decode("utf-8", "replace")
        for name, value in headers.items()
        if name.startswith(b"ce-")
    }
    return Event(attributes, bytes(body), structured=False)


def _structured(body: bytes | bytearray) -> Event:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The CloudEvent is no valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise Invalid("The CloudEvent is not an object.")
    if "data_base64" in document:
        try:
            data = base64.b64decode(str(document.pop("data_base64")), validate=True)
        except (binascii.Error, ValueError):
            raise Invalid("The CloudEvent's data_base64 is no base64.") from None
    else:
        data = orjson.dumps(document.pop("data", None))
    return Event({name: str(value) for name, value in document.items()}, data, structured=True)


def _header(value: str) -> bytes:
    """Percent-encoded where a header cannot hold it (CloudEvents HTTP binding, 3.1.3.2)."""
    return "".join(
        char if 0x20 < ord(char) < 0x7F and char not in '"%' else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in value
    ).encode()
