"""The CloudEvents 1.0 envelope (github.com/cloudevents/spec, v1.0.2), in which all news of the platform travels.

Types here are `mlaas.<kind>.<what happened>`, for example `mlaas.task.succeeded`; the source is the platform's URI.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mlaas.kernel.errors import Invalid, Malformed

CONTENT_TYPE = "application/cloudevents+json"
"""Media type of the structured mode."""

_REQUIRED = ("id", "source", "type")
_OPTIONAL = ("subject", "time", "datacontenttype", "dataschema")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event. `data` is a JSON value, or bytes of the media type `datacontenttype`.

    `extensions` are further attributes: lower-case letters and digits, with text, whole number or boolean values.
    """

    type: str
    source: str
    data: Any = None
    subject: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)

    def attributes(self) -> dict[str, str | int | bool]:
        """The context attributes that are set; the binary mode sends them as headers."""
        found: dict[str, str | int | bool] = {"specversion": "1.0"}
        for name in (*_REQUIRED, *_OPTIONAL):
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        return {**found, **self.extensions}

    def to_json(self) -> bytes:
        """The structured mode (JSON event format)."""
        document: dict[str, Any] = self.attributes()
        if isinstance(self.data, bytes):
            document["data_base64"] = base64.b64encode(self.data).decode()
        elif self.data is not None:
            document["data"] = self.data
        return orjson.dumps(document)

    def headers(self) -> dict[str, str]:
        """The binary mode over HTTP: `ce-` headers, percent-encoded (HTTP protocol binding, section 3.1.3)."""
        found = {}
        for name, value in self.attributes().items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found["content-type" if name == "datacontenttype" else f"ce-{name}"] = _percent(text)
        return found

    @classmethod
    def from_json(cls, body: bytes | str) -> "CloudEvent":
        """The event of a structured body. Raises Malformed or Invalid."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Malformed(f"The event is no JSON: {error}.") from None
        if not isinstance(document, dict):
            raise Invalid("An event is a JSON object.")
        if document.pop("specversion", None) != "1.0":
            raise Invalid("Only CloudEvents of specversion 1.0 are read.", field="specversion")
        for name in _REQUIRED:
            if not isinstance(document.get(name), str) or not document[name]:
                raise Invalid(f"A CloudEvent needs a text '{name}'.", field=name)
        encoded = document.pop("data_base64", None)
        try:
            data = document.pop("data", None) if encoded is None else base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError):
            raise Invalid("'data_base64' is no base64.", field="data_base64") from None
        known = {name: document.pop(name) for name in (*_REQUIRED, *_OPTIONAL) if document.get(name) is not None}
        return cls(
            data=data, extensions={name: value for name, value in document.items() if value is not None}, **known
        )


def _percent(text: str) -> str:
    """Space, double quote, percent and all outside printable ASCII, each byte of its UTF-8 as %XX."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and chr(byte) not in '"%' else f"%{byte:02X}" for byte in text.encode()
    )
