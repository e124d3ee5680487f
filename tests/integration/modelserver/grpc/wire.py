"""A client of bare frames: says exactly what a test wants, and tells what came."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mlaas.modelserver.grpc import frames
from mlaas.modelserver.grpc.frames import PREFACE, Reason, frame
from mlaas.modelserver.grpc.headers import literal
from mlaas.modelserver.grpc.hpack import Decoder
from mlaas.modelserver.grpc.messages import INFERENCE, message

LIVE = f"/{INFERENCE}/ServerLive"
INFER = f"/{INFERENCE}/ModelInfer"


def request_block(path: str = LIVE, **extra: str) -> bytes:
    """The header block of a gRPC request; keyword arguments replace or add fields (`_` stands for `-`)."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test"}
    fields |= {"te": "trailers", "content-type": "application/grpc"}
    fields |= {name.replace("_", "-"): value for name, value in extra.items()}
    return b"".join(literal(name, value) for name, value in fields.items())


def grpc(payload: bytes = b"", compressed: int = 0) -> bytes:
    """A message with gRPC's prefix."""
    return struct.pack(">BI", compressed, len(payload)) + payload


def infer_payload(model: str = "waiting", size: int = 1, **parameters: float) -> bytes:
    """A ModelInferRequest with `size` float32 zeros."""
    request = message("ModelInferRequest")(model_name=model)
    for name, value in parameters.items():
        request.parameters[name].double_param = value
    request.inputs.add(name="x", datatype="FP32", shape=[size] if model == "waiting" else [1, size])
    request.raw_input_contents.append(bytes(4 * size))
    data: bytes = request.SerializeToString()
    return data


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Wire:
    """One connection. `read` gives the frames as they come until the server closes or says nothing for a while."""

    def __init__(self, port: int, *, greet: bool = True, settings: dict[int, int] | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._rest = b""
        self.decoder = Decoder(1 << 20)
        self.closed = False
        if greet:
            self.send(PREFACE, frames.settings(settings or {}))

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *data: bytes) -> None:
        self._socket.sendall(b"".join(data))

    def call(self, stream: int = 1, path: str = LIVE, payload: bytes = b"", end: bool = True, **extra: str) -> None:
        """A unary request in one go."""
        self.send(frame(frames.HEADERS, frames.END_HEADERS, stream, request_block(path, **extra)))
        data = grpc(payload)
        for start in range(0, len(data), 16384):
            last = start + 16384 >= len(data)
            self.send(frame(frames.DATA, frames.END_STREAM if end and last else 0, stream, data[start : start + 16384]))

    def raw(self) -> bytes:
        """All bytes until the server closes."""
        found = b""
        while data := self._socket.recv(65536):
            found += data
        return found

    def read(self) -> Iterator[Frame]:
        while True:
            while len(self._rest) < 9 or len(self._rest) < 9 + int.from_bytes(self._rest[:3], "big"):
                try:
                    data = self._socket.recv(1 << 20)
                except ConnectionResetError:
                    data = b""
                if not data:
                    self.closed = True
                    return
                self._rest += data
            size = int.from_bytes(self._rest[:3], "big")
            _, _, kind, flags, stream = frames.HEAD.unpack_from(self._rest)
            payload, self._rest = self._rest[9 : 9 + size], self._rest[9 + size :]
            yield Frame(kind, flags, stream, payload)

    def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of a kind; SETTINGS of the server only where they are asked for."""
        for found in self.read():
            if found.kind == kind and stream in (None, found.stream):
                return found
        raise AssertionError(f"the server closed without a frame of kind {kind}")

    def goaway(self) -> Reason:
        """The reason of the GOAWAY that must come, after which the server closes."""
        reason = Reason(int.from_bytes(self.until(frames.GOAWAY).payload[4:8], "big"))
        for _ in self.read():
            pass
        return reason

    def reset(self, stream: int = 1) -> Reason:
        return Reason(int.from_bytes(self.until(frames.RST_STREAM, stream).payload, "big"))

    def answer(self, stream: int = 1) -> tuple[dict[str, str], bytes]:
        """A stream's headers and trailers as one, and its data."""
        fields: dict[str, str] = {}
        data = b""
        for found in self.read():
            if found.kind == frames.HEADERS:
                decoded = dict(self.decoder.decode(found.payload))
                if found.stream == stream:
                    fields |= decoded
            elif found.kind == frames.DATA and found.stream == stream:
                data += found.payload
            if (
                found.stream == stream
                and found.flags & frames.END_STREAM
                and found.kind in (frames.HEADERS, frames.DATA)
            ):
                return fields, data
        raise AssertionError("the server closed before the answer's end")

    def status(self, stream: int = 1) -> int:
        return int(self.answer(stream)[0]["grpc-status"])

    def works(self, stream: int) -> None:
        """The connection still answers."""
        self.call(stream)
        assert self.status(stream) == 0
