"""The generate extension: a request whose keys are the inputs' names, one answer or a stream of server-sent events.

`text_input` stands for the only text input and `text_output` for the only text output, whatever their names; keys that are no
inputs are parameters.
"""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec
import numpy as np
import orjson

from mlaas.kernel.errors import Error, Invalid, Malformed
from mlaas.modelserver.dispatch import deadline_after
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.arrays import array_from_values, to_json
from mlaas.modelserver.http.content import content
from mlaas.modelserver.http.message import Reply, error_text, json_reply
from mlaas.modelserver.http.tracing import forwarded
from mlaas.modelserver.predictor import Request, Response, Signature, TensorSpec
from mlaas.modelserver.repository import Served
from mlaas.modelserver.tensors import Tensor


def generate(call: Call) -> Answer:
    """`POST /v2/models/{name}[/versions/{version}]/generate`."""
    return _generate(call, call.served())


async def _generate(call: Call, served: Served) -> Reply:
    request, signature = await _request(call, served)
    answer = call.api.dispatch.infer(served, request)
    response = answer if isinstance(answer, Response) else await answer
    return json_reply(_document(served, signature, response))


def generate_stream(call: Call) -> Answer:
    """`POST /v2/models/{name}[/versions/{version}]/generate_stream`: an error before the first event has its own status; a
    later one is an event `{"error": text}`, and the last."""
    return _generate_stream(call, call.served())


async def _generate_stream(call: Call, served: Served) -> Reply:
    request, signature = await _request(call, served)
    pieces = aiter(call.api.dispatch.stream(served, request))
    try:
        first = await anext(pieces)
    except StopAsyncIteration:
        return Reply(b"", content_type=b"text/event-stream")
    return Reply(
        content_type=b"text/event-stream; charset=utf-8",
        headers=((b"cache-control", b"no-cache"),),
        stream=_events(served, signature, first, pieces),
    )


async def _events(
    served: Served, signature: Signature, first: Response, pieces: AsyncIterator[Response]
) -> AsyncIterator[bytes]:
    try:
        yield _event(_document(served, signature, first))
        async for piece in pieces:
            yield _event(_document(served, signature, piece))
    except Error as error:
        yield _event({"error": error_text(error)})


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n\n"


async def _request(call: Call, served: Served) -> tuple[Request, Signature]:
    body = content(call)
    if isinstance(body, Awaitable):
        body = await body
    predictor = call.api.dispatch.predictor(served)
    signature = (await predictor if isinstance(predictor, Awaitable) else predictor).signature
    try:
        request = parse(bytes(body), signature)
    except Error as error:
        raise call.api.dispatch.failed(served, "generate", error) from error
    request.headers = forwarded(call.request.headers) or {}
    return request, signature


def parse(body: bytes, signature: Signature) -> Request:
    """The request in a body. Raises Malformed or Invalid."""
    try:
        document = msgspec.json.decode(body or b"null")
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    if not isinstance(document, dict):
        raise Invalid("The body is not an object.", hint='Expected {"text_input": "..."}.')
    texts = [spec for spec in signature.inputs if spec.datatype == "BYTES"]
    inputs: list[Tensor] = []
    for spec in signature.inputs:
        key = spec.name
        if key not in document and len(texts) == 1 and spec.datatype == "BYTES":
            key = "text_input"
        if key not in document:
            raise Invalid(
                f"'{key}' is missing; the model takes {', '.join(one.name for one in signature.inputs)}.", field=key
            )
        inputs.append(_tensor(spec, document.pop(key)))
    parameters = document.pop("parameters", None)
    if parameters is not None and not isinstance(parameters, dict):
        raise Invalid("'parameters' is not an object.", field="parameters")
    identity = document.pop("id", "")
    parameters = {**(parameters or {}), **document}
    for name, value in parameters.items():
        if not isinstance(value, str | int | float | bool):
            raise Invalid(f"The parameter '{name}' is neither a text nor a number nor a boolean.", field=name)
    return Request(
        inputs,
        None,
        str(identity),
        parameters,
        deadline=deadline_after(parameters.get("timeout")),
        protocol="generate",
    )


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    """A single value, or a list of them, in the shape that the model takes: what varies is 1, or the length of the list."""
    array = array_from_values(spec.name, spec.datatype, value)
    if array.ndim != len(spec.shape):
        shape = [1 if size == -1 else size for size in spec.shape]
        if array.ndim == 1 and shape:
            free = [axis for axis, size in enumerate(spec.shape) if size == -1]
            if free and array.size != np.prod(shape):
                shape[free[-1]] = -1
        try:
            array = array.reshape(shape)
        except ValueError:
            raise Invalid(
                f"'{spec.name}' has {array.size} values; the model takes the shape {list(spec.shape)}.", field=spec.name
            ) from None
    return Tensor(spec.name, array, spec.datatype)


def _document(served: Served, signature: Signature, response: Response) -> dict[str, Any]:
    texts = [output.name for output in response.outputs if output.datatype == "BYTES"]
    document: dict[str, Any] = {
        "model_name": response.model or served.name,
        "model_version": response.version or served.version,
    }
    for tensor in response.outputs:
        name = "text_output" if len(texts) == 1 and tensor.datatype == "BYTES" else tensor.name
        value = to_json(tensor.array.reshape(-1), tensor.datatype, tensor.name)
        document[name] = (value if isinstance(value, list) else value.tolist())[0] if tensor.array.size == 1 else value
    return document
