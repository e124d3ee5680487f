"""The Open Inference Protocol, REST: inference in JSON and with binary tensors, metadata, health.

Source of the format: the Open Inference Protocol (kserve.github.io/website, `open_inference_rest.yaml`) and Triton's binary
tensor data, classification and parameters extensions. Where servers differ in practice, what clients need decides:
`docs/serving.md` has the table.
"""

from collections.abc import Awaitable
from typing import Any

import msgspec
import orjson
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.modelserver.dispatch import deadline_after
from mlaas.modelserver.http import large
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.arrays import array_from_json, to_json
from mlaas.modelserver.http.binary import Binary
from mlaas.modelserver.http.body import Body, InputPart
from mlaas.modelserver.http.classification import classify
from mlaas.modelserver.http.content import content, encoded
from mlaas.modelserver.http.message import HttpRequest, Reply
from mlaas.modelserver.http.repeated import Repeated
from mlaas.modelserver.http.tracing import forwarded
from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.regions import REGION
from mlaas.modelserver.repository import Served
from mlaas.modelserver.tensors import DTYPES, Tensor, dtype_of, from_bytes, resolve_shape, to_bytes

_BODY = msgspec.json.Decoder(Body)
_repeated = Repeated()
_RAW = Body([], parameters={"binary_data_output": True})  # a raw body is answered with raw bytes


def infer(call: Call) -> Answer:
    """`POST /v2/models/{name}[/versions/{version}]/infer`."""
    served = call.served()
    request = call.request
    body = content(call)
    if not isinstance(body, bytes | bytearray):
        return _infer_later(call, served, body)
    return _infer(call, served, request, body)


async def _infer_later(call: Call, served: Served, body: Awaitable[bytes]) -> Reply:
    answer = _infer(call, served, call.request, await body)
    return answer if isinstance(answer, Reply) else await answer


def _infer(call: Call, served: Served, request: HttpRequest, body: bytes | bytearray) -> Answer:
    dispatch = call.api.dispatch
    try:
        if b"inference-header-content-length" in request.headers:
            binary = Binary(request.headers[b"inference-header-content-length"], body)
            if binary.raw:
                predictor = dispatch.predictor(served)
                if isinstance(predictor, Awaitable):
                    return _infer_raw_later(call, served, binary, predictor)
                return _answer(call, served, _RAW, binary.single(predictor.signature))
            parsed = parse(binary.header)
            inputs = [binary.tensor(part) or from_part(part, call) for part in parsed.inputs]
            binary.finish()
        else:
            small = len(body) < large.LARGE
            read = _repeated.find(body) if small else _read_large(body)
            if read is not None:
                parsed, inputs = read
            else:
                parsed = parse(body)
                inputs = [from_part(part, call) for part in parsed.inputs]
                if small and len(inputs) == 1:
                    _repeated.add(body, parsed, inputs[0])
    except Exception as error:
        raise dispatch.failed(served, "v2", error) from error
    return _answer(call, served, parsed, inputs)


async def _infer_raw_later(call: Call, served: Served, binary: Binary, waiting: Awaitable[Any]) -> Reply:
    predictor = await waiting
    answer = _answer(call, served, _RAW, binary.single(predictor.signature))
    return answer if isinstance(answer, Reply) else await answer


def _answer(call: Call, served: Served, parsed: Body, inputs: list[Tensor]) -> Answer:
    parameters = parsed.parameters
    asked = Request(
        inputs,
        None if parsed.outputs is None else [part.name for part in parsed.outputs],
        parsed.id,
        parameters,
        forwarded(call.request.headers),
    )
    if parameters is not None and "timeout" in parameters:
        asked.deadline = deadline_after(parameters["timeout"])
    response = call.api.dispatch.infer(served, asked)
    if type(response) is Response:
        return reply(call, served, parsed, response)
    return _later(call, served, parsed, response)  # type: ignore[arg-type]


async def _later(call: Call, served: Served, parsed: Body, response: Awaitable[Response]) -> Reply:
    answer = reply(call, served, parsed, await response)
    return answer if isinstance(answer, Reply) else await answer


def parse(body: bytes | bytearray | memoryview) -> Body:
    """The request in a JSON body. Raises Malformed for what is no JSON, Invalid for what does not fit the protocol."""
    if not body:
        raise Malformed(
            "The body is empty.", hint='Send {"inputs": [{"name": ..., "shape": ..., "datatype": ..., "data": ...}]}.'
        )
    try:
        return _BODY.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The body is no inference request: {_words(error)}.",
            hint='Expected {"inputs": [{"name": str, "shape": [int], "datatype": str, "data": [...]}]}.',
        ) from None
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None


def _words(error: msgspec.ValidationError) -> str:
    return str(error).replace(" - at `$.", " at `").replace(" - at `$", " at `")


def _read_large(body: bytes | bytearray) -> tuple[Body, list[Tensor]] | None:
    """Request and tensors of a large body whose data is all numbers; None leaves it to `parse`."""
    with large.document(body) as found:
        if found is None or not large.is_list(found.get("inputs")):
            return None
        arrays: list[NDArray[Any]] = []
        parts: list[dict[str, Any]] = []
        lists = 2 if "outputs" in found else 1
        for view in found["inputs"]:
            part = large.members(view)
            if part is None or not large.is_list(part.get("data")) or part.get("datatype") not in DTYPES:
                return None
            array = large.array(part.pop("data"), part["datatype"])
            if array is None:
                return None
            arrays.append(array)
            lists += 1 + large.lists_of(array)
            parts.append({name: large.plain(value) for name, value in part.items()})
        if lists != large.lists_in(body):
            return None
        rest = {name: large.plain(value) for name, value in found.items() if name != "inputs"}
    try:
        parsed = msgspec.convert({**rest, "inputs": parts}, Body)
    except msgspec.ValidationError:
        return None
    return parsed, [shaped(part, array) for part, array in zip(parsed.inputs, arrays, strict=True)]


def from_part(part: InputPart, call: Call) -> Tensor:
    """The tensor of an input whose data is JSON, flat or nested as its shape says, or in shared memory."""
    name, datatype = part.name, part.datatype
    dtype_of(name, datatype)
    if part.parameters is not None and REGION in part.parameters:
        return _from_memory(part, call)
    raw = bytes(part.data)
    if not raw:
        raise Invalid(f"The input '{name}' has no data.", field=name)
    return shaped(part, array_from_json(name, datatype, raw))


def _from_memory(part: InputPart, call: Call) -> Tensor:
    if part.data:
        raise Invalid(f"The input '{part.name}' has data in the JSON and in shared memory.", field=part.name)
    data = call.api.dispatch.regions.read(part.name, part.parameters or {})
    return from_bytes(part.name, part.datatype, part.shape, data)


def shaped(part: InputPart, array: NDArray[Any]) -> Tensor:
    """The tensor of an array that was sent flat, or nested as its shape says. Raises Invalid where the two differ."""
    name = part.name
    shape = resolve_shape(name, part.shape, array.size)
    if array.shape != shape:
        if array.ndim > 1:
            raise Invalid(
                f"The data of input '{name}' has the shape {list(array.shape)}; its 'shape' says {list(shape)}.",
                field=name,
            )
        array = array.reshape(shape)
    return Tensor(name, array, part.datatype)


def reply(call: Call, served: Served, parsed: Body, response: Response) -> Reply | Awaitable[Reply]:
    """The response as JSON, with binary tensors where they were asked for."""
    outputs: list[dict[str, Any]] = []
    buffers: list[bytes | memoryview] = []
    wanted = {part.name: part.parameters for part in parsed.outputs if part.parameters} if parsed.outputs else None
    all_binary = bool(parsed.parameters) and parsed.parameters.get("binary_data_output") is True  # type: ignore[union-attr]
    for tensor in response.outputs:
        asked = wanted.get(tensor.name) if wanted else None
        if asked and "classification" in asked:
            tensor = classify(tensor, asked["classification"], served)
        entry: dict[str, Any] = {"name": tensor.name, "shape": tensor.array.shape, "datatype": tensor.datatype}
        if asked and REGION in asked:
            entry["parameters"] = call.api.dispatch.regions.write(tensor, asked)
            outputs.append(entry)
            continue
        binary = asked["binary_data"] is True if asked and "binary_data" in asked else all_binary
        if binary:
            buffer = to_bytes(tensor)
            entry["parameters"] = {"binary_data_size": len(buffer)}
            buffers.append(buffer)
        else:
            array = tensor.array
            entry["data"] = to_json(array if array.ndim < 2 else array.reshape(-1), tensor.datatype, tensor.name)
        outputs.append(entry)
    document: dict[str, Any] = {
        "model_name": response.model or served.name,
        "model_version": response.version or served.version,
        "outputs": outputs,
    }
    if parsed.id:
        document["id"] = parsed.id
    if response.parameters:
        document["parameters"] = response.parameters
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not buffers:
        answer = Reply(text)
    else:
        answer = Reply(
            text,
            content_type=b"application/octet-stream",
            headers=((b"inference-header-content-length", b"%d" % len(text)),),
            parts=buffers,
        )
    return encoded(call.request, answer)
