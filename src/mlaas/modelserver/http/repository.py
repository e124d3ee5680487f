"""The model repository extension: what there is, and loading and unloading it (Triton's and KServe's bodies)."""

from typing import Any

import orjson

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.message import Reply, json_reply


def index(call: Call) -> Answer:
    """`POST /v2/repository/index`, with an empty body or `{"ready": true}` for the ready ones only."""
    only_ready = _document(call).get("ready")
    if only_ready is not None and not isinstance(only_ready, bool):
        raise Invalid("'ready' is neither true nor false.", field="ready")
    return json_reply(
        [
            {"name": model.name, "version": served.version, "state": served.shown[0], "reason": served.shown[1]}
            for model in call.api.dispatch.models(call.project, call.digest)
            for served in model.versions.values()
            if served.shown[0] == "READY" or not only_ready
        ]
    )


async def load(call: Call) -> Reply:
    parameters = _parameters(call)
    await call.api.dispatch.load(call.project, call.target.name, parameters, call.digest)
    return json_reply({"name": call.target.name, "load": True})


async def unload(call: Call) -> Reply:
    await call.api.dispatch.unload(call.project, call.target.name, _parameters(call), call.digest)
    return json_reply({"name": call.target.name, "unload": True})


def _parameters(call: Call) -> dict[str, Any]:
    parameters = _document(call).get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise Invalid("'parameters' is not an object.", field="parameters")
    return parameters or {}


def _document(call: Call) -> dict[str, Any]:
    body = call.request.body
    if not body.strip():
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    if not isinstance(found, dict):
        raise Invalid("The body is not an object.", hint="An empty body does, too.")
    return found
