"""ModelInferRequest bytes to a Request, a Response to ModelInferResponse bytes.

Clients that send raw tensors send the same message over and over, but for the id and the numbers: model, names, datatypes and
shapes repeat. So the message is split at the wire level into its head (fields 1 to 6 without the id), its id and its raw tensors;
the parsed head is remembered by its bytes, and the tensors are views of the message. Whatever is not laid out like this (typed
contents, fields in another order) goes through protobuf.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.grpc.contents import pack, unpack
from mlaas.modelserver.grpc.messages import message
from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.regions import REGION, Regions
from mlaas.modelserver.tensors import Tensor, dtype_of, elements, from_bytes, resolve_shape, to_bytes

Buffer = bytes | bytearray | memoryview
Parts = list[bytes | memoryview]

MODEL, VERSION, ID, PARAMETERS, INPUTS, OUTPUTS, RAW_INPUT = (number << 3 | 2 for number in range(1, 8))
RAW_OUTPUT = 6 << 3 | 2

_HEAD_BYTES = 4096  # a longer head is not remembered
_HEADS = 1024
_NOWHERE: dict[str, dict[str, Any]] = {}


class Input:
    """What the head says of one input. `dtype` None: BYTES."""

    __slots__ = ("count", "datatype", "dtype", "name", "shape", "size")

    def __init__(self, name: str, datatype: str, shape: Sequence[int]) -> None:
        dtype = dtype_of(name, datatype)
        self.name = name
        self.datatype = datatype
        self.shape = tuple(shape)
        self.dtype = None if datatype == "BYTES" else dtype
        if -1 not in self.shape:
            resolve_shape(name, self.shape, None)
            self.count = elements(self.shape)
        else:
            self.count = -1
        self.size = self.count * dtype.itemsize


class Head:
    """All of a request but its id and its tensors."""

    __slots__ = ("classes", "inputs", "model", "outputs", "parameters", "places", "sources", "typed", "version")

    def __init__(self, sent: Any) -> None:
        self.model: str = sent.model_name
        self.version: str = sent.model_version
        self.parameters = parameters_of(sent.parameters)
        self.inputs = [Input(item.name, item.datatype, item.shape) for item in sent.inputs]
        self.typed = any(item.HasField("contents") for item in sent.inputs)
        self.outputs = [item.name for item in sent.outputs] or None
        self.classes: dict[str, int] = {}  # the classification extension: output -> how many classes
        self.places: dict[str, dict[str, Any]] = {}  # outputs that go to shared memory, and where
        for item in sent.outputs:
            if "classification" in item.parameters:
                self.classes[item.name] = item.parameters["classification"].int64_param
            if REGION in item.parameters:
                self.places[item.name] = parameters_of(item.parameters)
        # Inputs that are in shared memory, and where.
        self.sources = {item.name: parameters_of(item.parameters) for item in sent.inputs if REGION in item.parameters}


class Decoded:
    """One request as sent. `raw`: its tensors came as raw bytes, and so do the answer's. `places`: outputs whose bytes go to
    shared memory instead, and where."""

    __slots__ = ("classes", "model", "places", "raw", "request", "version")

    def __init__(self, head: Head, request: Request, raw: bool) -> None:
        self.model = head.model
        self.version = head.version
        self.classes = head.classes
        self.places = head.places
        self.request = request
        self.raw = raw


_heads: dict[bytes, Head] = {}


def decode(payload: Buffer, regions: Regions) -> Decoded:
    """The request in a serialised ModelInferRequest. Raises Invalid for bytes that are none, and for tensors that do not fit what
    the message says of them; NotFound for one in a region of shared memory that is not registered."""
    found = _split(payload)
    if found is None:
        return _decode_message(payload, regions)
    key, identity, spans = found
    head = _heads.get(key)
    if head is None:
        head = Head(_parse(key))
        if head.typed or head.sources:
            return _decode_message(payload, regions)
        if len(key) <= _HEAD_BYTES:
            if len(_heads) >= _HEADS:
                _heads.clear()
            _heads[key] = head
    if len(spans) != len(head.inputs):
        raise _wrong_count(len(spans), len(head.inputs))
    tensors = []
    for item, (start, end) in zip(head.inputs, spans, strict=True):
        if item.dtype is not None and item.size == end - start:
            array = np.frombuffer(payload, item.dtype, item.count, start).reshape(item.shape)
            tensors.append(Tensor(item.name, array, item.datatype))
        else:
            tensors.append(_raw_tensor(item, memoryview(payload)[start:end]))
    request = Request(tensors, head.outputs, identity, head.parameters, protocol="grpc")
    return Decoded(head, request, True)


def _split(payload: Buffer) -> tuple[bytes, str, list[tuple[int, int]]] | None:
    """(head without id, id, spans of the raw tensors), where the fields are in order and there is a raw tensor; else None."""
    position, size = 0, len(payload)
    id_start = id_end = body = 0
    try:
        while position < size:
            tag = payload[position]
            if tag == RAW_INPUT:
                break
            if tag & 7 != 2 or tag > OUTPUTS:
                return None
            length = payload[position + 1]
            start = position + 2
            if length >= 0x80:
                length, start = _varint(payload, position + 1)
            if tag == ID:
                if id_end:
                    return None
                id_start, body, id_end = position, start, start + length
            position = start + length
        end = position
        if position >= size:
            return None
        spans = []
        while position < size:
            if payload[position] != RAW_INPUT:
                return None
            length = payload[position + 1]
            start = position + 2
            if length >= 0x80:
                length, start = _varint(payload, position + 1)
            position = start + length
            spans.append((start, position))
    except IndexError:
        return None
    if position != size:
        return None
    if not id_end:
        return bytes(payload[:end]), "", spans
    try:
        identity = str(payload[body:id_end], "utf-8")
    except UnicodeDecodeError:
        raise Invalid("The id is not UTF-8.", field="id") from None
    return bytes(payload[:id_start]) + bytes(payload[id_end:end]), identity, spans


def _varint(payload: Buffer, position: int) -> tuple[int, int]:
    """(value, position after it). Raises IndexError for one that is cut off or too long."""
    value = shift = 0
    while True:
        byte = payload[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 35:
            raise IndexError("a length of more than five bytes")


def _parse(payload: Buffer) -> Any:
    try:
        return message("ModelInferRequest").FromString(bytes(payload))
    except Exception as error:  # protobuf's DecodeError
        raise Invalid("The message is no inference.ModelInferRequest.") from error


def _decode_message(payload: Buffer, regions: Regions) -> Decoded:
    sent = _parse(payload)
    head = Head(sent)
    raws = sent.raw_input_contents
    if len(raws):
        if head.typed:
            raise Invalid(
                "Both raw_input_contents and contents hold tensors; a request uses one of the two.",
                field="raw_input_contents",
            )
        if len(raws) != len(head.inputs) - len(head.sources):
            raise _wrong_count(len(raws), len(head.inputs) - len(head.sources))
    rest = iter(raws)
    tensors = []
    for item, part in zip(head.inputs, sent.inputs, strict=True):
        if item.name in head.sources:
            if part.HasField("contents"):
                raise Invalid(f"The input '{item.name}' has contents and is in shared memory.", field=item.name)
            tensors.append(_raw_tensor(item, regions.read(item.name, head.sources[item.name])))
        elif len(raws):
            tensors.append(_raw_tensor(item, next(rest)))
        else:
            tensors.append(unpack(item.name, item.datatype, item.shape, part.contents))
    request = Request(tensors, head.outputs, sent.id, head.parameters, protocol="grpc")
    return Decoded(head, request, bool(len(raws) or head.sources))


def _raw_tensor(item: Input, raw: bytes | memoryview) -> Tensor:
    shape = item.shape
    if item.count < 0:
        if item.dtype is None:
            count = _count_bytes(raw)
        elif len(raw) % item.dtype.itemsize:
            raise Invalid(
                f"Tensor '{item.name}': {len(raw)} bytes are no whole number of {item.datatype}.", field=item.name
            )
        else:
            count = len(raw) // item.dtype.itemsize
        shape = resolve_shape(item.name, shape, count)
    return from_bytes(item.name, item.datatype, shape, raw)


def _count_bytes(raw: bytes | memoryview) -> int:
    """How many elements a raw BYTES tensor has, as far as its lengths go (`from_bytes` refuses a broken one)."""
    position = count = 0
    while position < len(raw):
        position += 4 + int.from_bytes(raw[position : position + 4], "little")
        count += 1
    return count


def _wrong_count(raws: int, inputs: int) -> Invalid:
    return Invalid(
        f"There are {raws} raw_input_contents for {inputs} inputs; each input takes one.", field="raw_input_contents"
    )


def parameters_of(sent: Mapping[str, Any]) -> dict[str, Any]:
    """InferParameters as plain values; a parameter with none of the choices set is left out."""
    values = {}
    for name, parameter in sent.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice:
            values[name] = getattr(parameter, choice)
    return values


def set_parameters(target: Any, values: Mapping[str, Any]) -> None:
    """Plain values as InferParameters; whole numbers beyond int64 become uint64, anything else becomes text."""
    for name, value in values.items():
        parameter = target[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            if -(1 << 63) <= value < 1 << 63:
                parameter.int64_param = value
            elif 0 <= value < 1 << 64:
                parameter.uint64_param = value
            else:
                parameter.string_param = str(value)
        elif isinstance(value, float):
            parameter.double_param = value
        else:
            parameter.string_param = str(value)


_answers: dict[tuple[Any, ...], tuple[bytes, bytes]] = {}


def encode(
    response: Response,
    model: str,
    version: str,
    identity: str,
    raw: bool,
    placed: Mapping[str, Mapping[str, Any]] | None = None,
) -> Parts:
    """A serialised ModelInferResponse in parts; large raw tensors are views, not copies.

    Typed contents are used where `raw` is False and every output has a typed field (FP16 and BF16 have none). `placed`: outputs
    that were written to shared memory, with the parameters that say where; their raw content is empty.
    """
    outputs = response.outputs
    raw = raw or any(tensor.datatype in ("FP16", "BF16") for tensor in outputs)
    if not raw or response.parameters or placed:
        head = _encode_message(response, model, version, identity, raw, placed or _NOWHERE)
        return [head] + (_raw_parts(outputs, placed or _NOWHERE) if raw else [])
    key = (model, version, *[(tensor.name, tensor.datatype, tensor.array.shape) for tensor in outputs])
    known = _answers.get(key)
    if known is None:
        if len(_answers) >= _HEADS:
            _answers.clear()
        before = message("ModelInferResponse")(model_name=model, model_version=version).SerializeToString()
        whole = _encode_message(response, model, version, "", raw, _NOWHERE)
        known = _answers[key] = before, whole[len(before) :]
    before, after = known
    if identity:
        name = identity.encode()
        return [before, _prefix(ID, len(name)), name, after, *_raw_parts(outputs)]
    return [before, after, *_raw_parts(outputs)]


def _raw_parts(outputs: Sequence[Tensor], placed: Mapping[str, Any] = _NOWHERE) -> Parts:
    parts: Parts = []
    for tensor in outputs:
        data: bytes | memoryview
        if tensor.name in placed:
            data = b""
        elif tensor.datatype == "BYTES":
            data = to_bytes(tensor)
        else:
            array = tensor.array
            data = array.tobytes() if array.nbytes < 16384 else to_bytes(tensor)
        parts += [_prefix(RAW_OUTPUT, len(data)), data]
    return parts


def _encode_message(
    response: Response, model: str, version: str, identity: str, raw: bool, placed: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """The message without raw tensors (they are its last field, so that they can follow)."""
    answer = message("ModelInferResponse")(model_name=model, model_version=version, id=identity)
    set_parameters(answer.parameters, response.parameters)
    for tensor in response.outputs:
        output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        if tensor.name in placed:
            set_parameters(output.parameters, placed[tensor.name])
        elif not raw:
            pack(tensor, output.contents)
    data: bytes = answer.SerializeToString()
    return data


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def length_prefix(tag: int, size: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return bytes((tag,)) + _encode_varint(size)


_PREFIXES = {tag: [length_prefix(tag, size) for size in range(1024)] for tag in (ID, RAW_OUTPUT)}


def _prefix(tag: int, size: int) -> bytes:
    """`length_prefix`, remembered for short fields."""
    return _PREFIXES[tag][size] if size < 1024 else length_prefix(tag, size)
