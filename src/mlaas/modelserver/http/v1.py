"""The V1 protocol (TensorFlow Serving's, as KServe speaks it): rows in, one prediction a row out.

`{"instances": [...]}` holds rows: lists, nested lists, texts, numbers, or objects by feature (or input) name, whose order does
not matter. `{"inputs": ...}` is TensorFlow Serving's column format: one tensor, or an object of tensors (or of columns) by name.
`{"b64": text}` stands for bytes. The answer is `{"predictions": [...]}`: a number a row where the output is one number a row,
an object a row where there are several outputs.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Error, Invalid, Malformed
from mlaas.modelserver.dispatch import deadline_after
from mlaas.modelserver.errors import NotReady
from mlaas.modelserver.http import cloudevents, large
from mlaas.modelserver.http.api import Answer, Call
from mlaas.modelserver.http.arrays import array_from_json, array_from_values, to_json
from mlaas.modelserver.http.content import content, encoded
from mlaas.modelserver.http.message import Reply, json_reply
from mlaas.modelserver.http.tracing import forwarded
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature, TensorSpec
from mlaas.modelserver.repository import Served
from mlaas.modelserver.tensors import Tensor, cast

_EMPTY = msgspec.Raw(b"")
_EXPECTED = 'Expected {"instances": [row, ...]} or {"inputs": ...}.'


class Body(msgspec.Struct):
    """A request; `parameters` are ours, `signature_name` is TensorFlow Serving's and means nothing here."""

    instances: msgspec.Raw = _EMPTY
    inputs: msgspec.Raw = _EMPTY
    parameters: dict[str, str | int | float | bool] | None = None


_BODY = msgspec.json.Decoder(Body)


def models(call: Call) -> Answer:
    """`GET /v1/models`: V1's list and OpenAI's in one document."""
    found = list(call.api.dispatch.models(call.project, call.digest))
    return json_reply(
        {
            "models": [model.name for model in found],
            "object": "list",
            "data": [
                {
                    "id": model.name,
                    "object": "model",
                    "created": int(next((served.changed for served in model.versions.values()), 0)),
                    "owned_by": model.project,
                }
                for model in found
            ],
        }
    )


def status(call: Call) -> Answer:
    """`GET /v1/models/{name}`; 503 while it is not ready."""
    served = call.served()
    if not call.api.dispatch.model_ready(served):
        error = NotReady(f"Model '{served.name}' is not ready: {served.shown[1] or served.state.lower()}.")
        return json_reply({"name": served.name, "ready": False, "error": error.message}, 503, ((b"retry-after", b"1"),))
    return json_reply({"name": served.name, "ready": True})


def predict(call: Call) -> Answer:
    """`POST /v1/models/{name}[/versions/{version}]:predict`."""
    return _run(call, "predictions")


def explain(call: Call) -> Answer:
    """`POST /v1/models/{name}[/versions/{version}]:explain`."""
    return _run(call, "explanations")


def _run(call: Call, key: str) -> Answer:
    served = call.served()
    body = content(call)
    predictor = call.api.dispatch.predictor(served)
    if isinstance(body, bytes | bytearray) and isinstance(predictor, Predictor):
        return _ask(call, served, predictor.signature, body, key)
    return _run_later(call, served, body, predictor, key)


async def _run_later(
    call: Call,
    served: Served,
    body: bytes | bytearray | Awaitable[bytes],
    predictor: Predictor | Awaitable[Predictor],
    key: str,
) -> Reply:
    data = await body if isinstance(body, Awaitable) else body
    signature = (await predictor if isinstance(predictor, Awaitable) else predictor).signature
    answer = _ask(call, served, signature, data, key)
    return answer if isinstance(answer, Reply) else await answer


def _ask(call: Call, served: Served, signature: Signature, body: bytes | bytearray, key: str) -> Answer:
    dispatch = call.api.dispatch
    headers = call.request.headers
    try:
        event = cloudevents.received(headers, body)
        inputs, parameters = parse(event.data if event is not None else body, signature)
    except Error as error:
        raise dispatch.failed(served, "v1", error) from error
    request = Request(inputs, None, "", parameters, forwarded(headers), protocol="v1")
    if parameters is not None and "timeout" in parameters:
        request.deadline = deadline_after(parameters["timeout"])
    answer = dispatch.infer(served, request) if key == "predictions" else dispatch.explain(served, request)

    def reply(response: Response) -> Answer:
        document = response.document or {key: rows(response, signature)}
        if event is not None:
            return event.reply(document, served.name)
        return encoded(call.request, json_reply(document))

    if isinstance(answer, Response):
        return reply(answer)
    return _later(answer, reply)


async def _later(answer: Awaitable[Response], reply: Callable[[Response], Answer]) -> Reply:
    found = reply(await answer)
    return found if isinstance(found, Reply) else await found


def parse(body: bytes | bytearray, signature: Signature) -> tuple[list[Tensor], dict[str, Any] | None]:
    """The tensors in a body, and its parameters. Raises Malformed or Invalid saying what the model takes."""
    if len(body) >= large.LARGE and len(signature.inputs) == 1:
        read = _read_large(body, signature)
        if read is not None:
            return read
    try:
        found = _BODY.decode(body or b"null")
    except msgspec.ValidationError as error:
        raise Invalid(
            f"The body is no V1 request: {str(error).replace(' - at `$', ' at `')}.", hint=_EXPECTED
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None
    instances, inputs = bytes(found.instances), bytes(found.inputs)
    if bool(instances) == bool(inputs):
        what = "has both 'instances' and 'inputs'" if instances else "has neither 'instances' nor 'inputs'"
        raise Invalid(f"The body {what}.", hint=_EXPECTED)
    try:
        return (_rows(instances, signature) if instances else _columns(inputs, signature)), found.parameters
    except RecursionError:
        raise Malformed("The body is nested too deeply.") from None


def _read_large(body: bytes | bytearray, signature: Signature) -> tuple[list[Tensor], dict[str, Any] | None] | None:
    """Rows of numbers for a model with one input; None leaves the body to the general reader."""
    spec = signature.inputs[0]
    with large.document(body) as found:
        key = "instances" if found is not None and "instances" in found else "inputs"
        if found is None or not large.is_list(found.get(key)) or ("instances" in found and "inputs" in found):
            return None
        array = large.array(found.pop(key), spec.datatype)
        if array is None or large.lists_of(array) != large.lists_in(body) or "parameters" in found:
            return None
    return [_whole(spec, array, signature) if key == "instances" else _fit(spec, array, signature)], None


def _rows(raw: bytes, signature: Signature) -> list[Tensor]:
    if raw[:1] != b"[":
        raise Invalid(f"'instances' is not a list of rows; {_takes(signature)}", field="instances", hint=_EXPECTED)
    second = raw[1:64].lstrip()[:1]
    specs = signature.inputs
    if len(specs) == 1 and second != b"{":
        return [_whole(specs[0], _read(specs[0], raw), signature)]
    values = _decode(raw)
    if not specs:
        return [_free(values)]
    if not values:
        return [
            _fit(spec, np.empty(0, dtype=object if spec.datatype == "BYTES" else None), signature) for spec in specs
        ]
    if len(specs) == 1:
        return [_objects(values, specs[0], signature)]
    return _by_input(values, signature)


def _objects(values: list[Any], spec: TensorSpec, signature: Signature) -> Tensor:
    """Rows that are objects, for a model with one input: `{"b64": ...}`, by feature, or by the input's name."""
    first = values[0]
    if spec.datatype == "BYTES" and set(first) == {"b64"}:
        return _whole(spec, array_from_values(spec.name, "BYTES", values), signature)
    if set(first) == {spec.name}:
        return _whole(
            spec, _values(spec, [_member(row, spec.name, place) for place, row in enumerate(values)]), signature
        )
    features = signature.features
    if not features:
        raise Invalid(
            f"The rows are objects, but the model has no names for its columns; {_takes(signature)}", field="instances"
        )
    known = set(features)
    for place, row in enumerate(values):
        if not isinstance(row, dict) or row.keys() != known:
            raise Invalid(_wrong_columns(row, place, features), field="instances")
    return _whole(spec, _values(spec, [[row[name] for name in features] for row in values]), signature)


def _wrong_columns(row: Any, place: int, features: tuple[str, ...]) -> str:
    if not isinstance(row, dict):
        return f"Row {place} is not an object as the first one is."
    missing = [name for name in features if name not in row]
    if missing:
        return f"Row {place} lacks the column '{missing[0]}'; the columns are {', '.join(features[:40])}."
    unknown = next(name for name in row if name not in features)
    return f"Row {place} has the unknown column '{unknown[:80]}'; the columns are {', '.join(features[:40])}."


def _by_input(values: list[Any], signature: Signature) -> list[Tensor]:
    """Rows for a model with several inputs: objects by input name, or lists in the order of the inputs."""
    specs = signature.inputs
    columns: list[list[Any]] = [[] for _ in specs]
    names = [spec.name for spec in specs]
    for place, row in enumerate(values):
        if isinstance(row, dict):
            for name in row:
                if name not in names:
                    raise Invalid(
                        f"Row {place} has the unknown input '{name[:80]}'; the model takes {', '.join(names)}.",
                        field="instances",
                    )
            for column, name in zip(columns, names, strict=True):
                column.append(_member(row, name, place))
        elif isinstance(row, list) and len(row) == len(specs):
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        else:
            raise Invalid(
                f"Row {place} is neither an object nor a list with the {len(specs)} inputs {', '.join(names)}.",
                field="instances",
            )
    return [_whole(spec, _values(spec, column), signature) for spec, column in zip(specs, columns, strict=True)]


def _columns(raw: bytes, signature: Signature) -> list[Tensor]:
    specs = signature.inputs
    if raw[:1] != b"{":
        if len(specs) > 1:
            raise Invalid(f"'inputs' is not an object; {_takes(signature)}", field="inputs")
        if not specs:
            return [_free(_decode(raw))]
        return [_fit(specs[0], _read(specs[0], raw), signature)]
    try:
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    if len(specs) == 1 and signature.features and set(found) == set(signature.features):
        spec = specs[0]
        parts = [_read(spec, bytes(found[name])).reshape(-1) for name in signature.features]
        if len({part.size for part in parts}) > 1:
            raise Invalid("The columns have different lengths.", field="inputs")
        return [_fit(spec, np.stack(parts, axis=1), signature)]
    if len(specs) == 1 and set(found) == {"b64"}:
        return [_fit(specs[0], _read(specs[0], raw), signature)]
    known = {spec.name for spec in specs}
    for name in found:
        if name not in known:
            raise Invalid(f"There is no input '{name[:80]}'; {_takes(signature)}", field="inputs")
    missing = [spec.name for spec in specs if spec.name not in found]
    if missing:
        raise Invalid(f"The input '{missing[0]}' is missing; {_takes(signature)}", field="inputs")
    return [_fit(spec, _read(spec, bytes(found[spec.name])), signature) for spec in specs]


def _read(spec: TensorSpec, raw: bytes) -> NDArray[Any]:
    """JSON text in the input's datatype; half floats are read as FP32 and rounded."""
    datatype = "FP32" if spec.datatype in ("FP16", "BF16") else spec.datatype
    if datatype == "BYTES" and b'"b64"' in raw:
        return array_from_values(spec.name, datatype, _decode(raw))
    return _rounded(spec, array_from_json(spec.name, datatype, raw))


def _values(spec: TensorSpec, values: Any) -> NDArray[Any]:
    datatype = "FP32" if spec.datatype in ("FP16", "BF16") else spec.datatype
    return _rounded(spec, array_from_values(spec.name, datatype, values))


def _rounded(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    if spec.datatype in ("FP16", "BF16"):
        return cast(Tensor(spec.name, array, "FP32"), spec.datatype).array
    return array


def _whole(spec: TensorSpec, array: NDArray[Any], signature: Signature) -> Tensor:
    """The tensor of rows; a model without a batch dimension takes one row, which is its whole input."""
    if signature.batched:
        return _fit(spec, array, signature)
    if array.ndim == 0 or array.shape[0] != 1:
        raise Invalid("The model takes one instance at a time.", field="instances")
    return _fit(spec, array[0], signature)


def _fit(spec: TensorSpec, array: NDArray[Any], signature: Signature) -> Tensor:
    """Add or take dimensions of 1 after the first, as rows of one value are written either way; no rows have any width."""
    shape = spec.shape
    if array.ndim != len(shape):
        if array.size == 0 and array.ndim <= 1 and shape[:1] == (-1,):
            width = tuple(max(size, 0) for size in shape[1:])
            array = np.empty((0, *width), dtype=array.dtype)
        elif array.ndim < len(shape) and all(size in (1, -1) for size in shape[array.ndim :]) and array.ndim:
            array = array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
        elif array.ndim > len(shape) >= 1 and all(size == 1 for size in array.shape[len(shape) :]):
            array = array.reshape(array.shape[: len(shape)])
        else:
            raise Invalid(f"The rows have the shape {list(array.shape)}; {_takes(signature)}", field="instances")
    elif array.size == 0 and array.shape[0] == 0:
        array = np.empty((0, *(max(size, 0) for size in shape[1:])), dtype=array.dtype)
    if spec.datatype != "BYTES" and array.dtype == object:
        array = array.astype(np.float32)
    return (
        Tensor(spec.name, array, spec.datatype) if array.size else Tensor(spec.name, _typed(spec, array), spec.datatype)
    )


def _typed(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    from mlaas.modelserver.tensors import DTYPES

    return array.astype(DTYPES[spec.datatype])


def _free(values: Any) -> Tensor:
    """For a model that takes anything: texts are BYTES, numbers FP64 or INT64."""
    flat = values
    while isinstance(flat, list) and flat:
        flat = flat[0]
    datatype = (
        "BYTES"
        if isinstance(flat, str | dict)
        else "BOOL"
        if isinstance(flat, bool)
        else "INT64"
        if isinstance(flat, int)
        else "FP64"
    )
    try:
        return Tensor("instances", array_from_values("instances", datatype, values), datatype)
    except Invalid:
        if datatype != "INT64":
            raise
        return Tensor("instances", array_from_values("instances", "FP64", values), "FP64")


def _decode(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise Malformed(f"The body is no valid JSON: {error}.") from None
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None


def _member(row: Any, name: str, place: int) -> Any:
    if not isinstance(row, dict) or name not in row:
        raise Invalid(f"Row {place} lacks the input '{name}'.", field="instances")
    return row[name]


def _takes(signature: Signature) -> str:
    """What the model takes, in words."""
    parts = [f"'{spec.name}' {spec.datatype} {list(spec.shape)}" for spec in signature.inputs]
    text = f"the model takes {', '.join(parts)} (-1: any size)."
    if signature.features:
        text += f" Its {len(signature.features)} columns are {', '.join(signature.features[:40])}."
    return text


def rows(response: Response, signature: Signature) -> Any:
    """The outputs as `predictions`."""
    outputs = response.outputs
    if len(outputs) == 1:
        return _flat(outputs[0])
    columns = []
    for tensor in outputs:
        found = _flat(tensor)
        columns.append(found.tolist() if isinstance(found, np.ndarray) else found)
    one_row = not signature.batched if signature.inputs else len({len(column) for column in columns}) > 1
    if one_row:
        return [dict(zip([tensor.name for tensor in outputs], columns, strict=True))]
    names = [tensor.name for tensor in outputs]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _flat(tensor: Tensor) -> Any:
    array = tensor.array
    if array.ndim > 1 and all(size == 1 for size in array.shape[1:]):
        array = array.reshape(array.shape[0])
    elif array.ndim == 0:
        array = array.reshape(1)
    if tensor.datatype == "BF16":
        from mlaas.modelserver.tensors import to_float32

        return to_float32(Tensor(tensor.name, array, "BF16"))
    if tensor.datatype == "FP16":
        return array.astype(np.float32)
    return to_json(array, tensor.datatype, tensor.name, base64=True)
