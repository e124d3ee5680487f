"""Triton's trace and log settings, as far as they have a meaning here: they can be read; changing them is refused, for the
server's settings are those it was started with."""

from collections.abc import Mapping

import orjson

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.message import json_reply

TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": "0",
    "trace_count": "0",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "opentelemetry",
}
LOG = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def trace(call: Call) -> Answer:
    """`GET /v2[/models/{name}]/trace/setting`."""
    if call.target.name:
        call.served()
    return json_reply(TRACE)


def log(call: Call) -> Answer:
    """`GET /v2/logging`."""
    return json_reply(LOG)


def change_trace(call: Call) -> Answer:
    if call.target.name:
        call.served()
    return _change(call, TRACE)


def change_log(call: Call) -> Answer:
    return _change(call, LOG)


def _change(call: Call, current: Mapping[str, object]) -> Answer:
    try:
        wanted = orjson.loads(call.request.body or b"{}")
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    if not isinstance(wanted, dict):
        raise Invalid("The body is not an object.")
    refuse_changes(wanted, current)
    return json_reply(current)


def refuse_changes(wanted: Mapping[str, object], current: Mapping[str, object]) -> None:
    """Raises Invalid for a setting that is not there or would become another one; None leaves a setting as it is."""
    for name, value in wanted.items():
        if name not in current:
            raise Invalid(f"There is no setting '{name[:80]}'; there are {', '.join(current)}.", field=name)
        if isinstance(value, str) and isinstance(current[name], list):
            value = [value]
        if value is not None and value != current[name]:
            raise Invalid(
                f"The setting '{name}' cannot be changed while the server runs.",
                field=name,
                hint="Requests are traced by their header traceparent; --access-log writes a line a request.",
            )
