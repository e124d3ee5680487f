"""What a front and a worker say to each other over their socket. Standard library and NumPy only.

    frame   = u32 length of the rest, u8 kind, u32 call, body
    request = u8 verb, u32 length of parameters (JSON), u16 outputs, u16 inputs, parameters, u16 each output, tensors, data
    answer  = u64 nanoseconds of compute, u8 released, u32 length of parameters (JSON), u16 outputs, parameters, tensors, data
    tensor  = u16 place in the signature, u8 shared, u8 dimensions, u64 bytes, u64 place in the arena, i64 each dimension

Little-endian. Datatypes are the signature's. The data of tensors that are not shared follow in order. `released` says that the
worker no longer looks at the call's shared inputs; else a frame RELEASE of that call follows when it does not. A front gives
shared outputs back by a RELEASE with their places.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from mlaas.modelserver.tensors import Tensor, from_bytes, to_bytes
from mlaas.modelserver.worker.arena import Arena

# To the worker.
OPEN, REQUEST, CANCEL, CREDIT, CLOSE = 1, 2, 3, 4, 5
# From the worker.
READY, ANSWER, PIECE, END, ERROR = 16, 17, 18, 19, 20
# Both ways.
RELEASE = 32

INFER, STREAM, EXPLAIN = 0, 1, 2
WINDOW = 16
"""Pieces of a stream that a worker may be ahead of its reader."""
SHARED = 64 << 10
"""Tensors of at least this many bytes go through the arena."""

_HEAD = struct.Struct("<IBI")
_REQUEST = struct.Struct("<BIHH")
_ANSWER = struct.Struct("<QBIH")
_TENSOR = struct.Struct("<HBBQQ")
_LARGEST = (1 << 32) - 1

INPUTS = "__inputs"
"""The parameter that names inputs, with their datatypes, where the signature does not."""

Named = tuple[int, str, str, NDArray[Any]]
"""(place in the signature, name, datatype, array)"""


class Frame:
    """One frame as received; `body` is writable memory of its own."""

    __slots__ = ("body", "call", "kind")

    def __init__(self, kind: int, call: int, body: memoryview) -> None:
        self.kind = kind
        self.call = call
        self.body = body

    def json(self) -> Any:
        return json.loads(bytes(self.body)) if self.body else {}


class Splitter:
    """Bytes as they come to whole frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now."""
        if self._rest:
            self._rest += data
            buffer = self._rest
        else:
            buffer = bytearray(data)
        frames: list[Frame] = []
        place, end = 0, len(buffer)
        while end - place >= 9:
            size, kind, call = _HEAD.unpack_from(buffer, place)
            if end - place < 4 + size:
                break
            whole = place == 0 and end == 4 + size
            body = memoryview(buffer)[9:] if whole else memoryview(buffer[place + 9 : place + 4 + size])
            frames.append(Frame(kind, call, body))
            place += 4 + size
        self._rest = buffer[place:] if place < end else bytearray()
        return frames


def frame(kind: int, call: int = 0, body: bytes = b"") -> bytes:
    """A frame in one piece. Raises ValueError for more than 4 GiB."""
    if len(body) + 5 > _LARGEST:
        raise ValueError("a frame holds at most 4 GiB")
    return _HEAD.pack(len(body) + 5, kind, call) + body


def document(kind: int, call: int, content: Any) -> bytes:
    """A frame that holds JSON."""
    return frame(kind, call, json.dumps(content, default=str).encode())


def request(
    call: int, verb: int, outputs: Sequence[int], parameters: Any, tensors: Sequence[Named], arena: Arena
) -> tuple[bytes, list[int]]:
    """A REQUEST and the places in the arena that its tensors took."""
    text = json.dumps(parameters, default=str).encode() if parameters else b""
    head = (
        _REQUEST.pack(verb, len(text), len(outputs), len(tensors)) + text + struct.pack(f"<{len(outputs)}H", *outputs)
    )
    body, places = _tensors(tensors, arena)
    return frame(REQUEST, call, head + body), places


def read_request(
    body: memoryview, specs: Sequence[tuple[str, str]], arena: Arena
) -> tuple[int, list[int], dict[str, Any], list[NDArray[Any]], bool]:
    """(verb, outputs, parameters, arrays, whether any is shared). `specs`: name and datatype of the signature's inputs."""
    verb, text, outputs, inputs = _REQUEST.unpack_from(body)
    place = _REQUEST.size + text
    parameters = json.loads(bytes(body[_REQUEST.size : place])) if text else {}
    if INPUTS in parameters:
        specs = parameters[INPUTS]
    wanted = list(struct.unpack_from(f"<{outputs}H", body, place))
    read = list(_read(body, place + 2 * outputs, inputs, specs, arena))
    return verb, wanted, parameters, [tensor.array for tensor, _ in read], any(where is not None for _, where in read)


def answer(
    kind: int, call: int, nanoseconds: int, released: bool, parameters: Any, tensors: Sequence[Named], arena: Arena
) -> bytearray:
    """An ANSWER or PIECE."""
    text = json.dumps(parameters, default=str).encode() if parameters else b""
    body, _ = _tensors(tensors, arena)
    head = _ANSWER.pack(nanoseconds, released, len(text), len(tensors))
    return bytearray(frame(kind, call, head + text + body))


def mark_released(data: bytearray) -> None:
    """Let an ANSWER say that the worker no longer looks at the call's inputs."""
    data[_HEAD.size + 8] = 1


def read_answer(
    body: memoryview, specs: Sequence[tuple[str, str]], arena: Arena
) -> tuple[int, bool, dict[str, Any], list[tuple[Tensor, int | None]]]:
    """(nanoseconds, released, parameters, tensors with their places in the arena). `specs`: the signature's outputs."""
    nanoseconds, released, text, outputs = _ANSWER.unpack_from(body)
    place = _ANSWER.size + text
    parameters = json.loads(bytes(body[_ANSWER.size : place])) if text else {}
    if "__outputs" in parameters:
        specs = [(name, datatype) for name, datatype in parameters.pop("__outputs")]
    return nanoseconds, bool(released), parameters, list(_read(body, place, outputs, specs, arena))


def release(call: int, places: Sequence[int] = ()) -> bytes:
    """A RELEASE: of a call's inputs, or (call 0) of outputs."""
    return frame(RELEASE, call, struct.pack(f"<{len(places)}Q", *places))


def read_release(body: memoryview) -> tuple[int, ...]:
    return struct.unpack(f"<{len(body) // 8}Q", body)


def _tensors(tensors: Sequence[Named], arena: Arena) -> tuple[bytes, list[int]]:
    heads: list[bytes] = []
    inline: list[bytes | memoryview] = []
    places: list[int] = []
    for index, name, datatype, array in tensors:
        shape = array.shape
        data = to_bytes(Tensor(name, array, datatype))
        size = len(data)
        place = arena.put(data) if size >= SHARED else None
        if place is None:
            inline.append(data)
        else:
            places.append(place)
        heads.append(_TENSOR.pack(index, place is not None, len(shape), size, place or 0))
        heads.append(struct.pack(f"<{len(shape)}q", *shape))
    return b"".join([*heads, *inline]), places


def _read(
    body: memoryview, place: int, count: int, specs: Sequence[tuple[str, str]], arena: Arena
) -> Iterator[tuple[Tensor, int | None]]:
    heads = []
    for _ in range(count):
        index, shared, dimensions, size, where = _TENSOR.unpack_from(body, place)
        place += _TENSOR.size
        shape = struct.unpack_from(f"<{dimensions}q", body, place)
        place += 8 * dimensions
        heads.append((index, shared, size, where, shape))
    for index, shared, size, where, shape in heads:
        name, datatype = specs[index]
        if shared:
            data = arena.view[where : where + size]
        else:
            data = body[place : place + size]
            place += size
            if datatype != "BYTES":
                data = memoryview(bytearray(data))  # aligned memory of its own
        yield from_bytes(name, datatype, shape, data), where if shared else None
