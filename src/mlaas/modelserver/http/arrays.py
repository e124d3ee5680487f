"""JSON to arrays and back.

Numbers are read with their type: no text, no boolean and no null becomes a number, whole numbers are accepted where floats are
wanted, floats without a fraction where whole numbers are. `NaN` and `Infinity` are no JSON. A key that an object has twice counts
with its last value. `large` reads big bodies with the same rules.
"""

import binascii
from base64 import b64decode, b64encode
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid, Malformed
from mlaas.modelserver.tensors import DTYPES

MAX_DEPTH = 16  # of nested lists in one tensor

_FP32_MAX = 3.4028235677973366e38  # the largest double that rounds to a finite float32
_SPACE = b" \t\r\n"


def _element(datatype: str) -> Any:
    """The JSON type of one element: checked by the decoder while it reads."""
    if datatype == "BOOL":
        return bool
    if datatype == "BYTES":
        return str
    if datatype == "FP32":
        return Annotated[float, msgspec.Meta(ge=-_FP32_MAX, le=_FP32_MAX)]
    if datatype == "FP64":
        return float
    if datatype == "UINT64":
        return Annotated[int, msgspec.Meta(ge=0)]
    limits = np.iinfo(DTYPES[datatype])
    return Annotated[int, msgspec.Meta(ge=int(limits.min), le=int(limits.max))]


class Reader:
    """Decoders of one datatype by depth of nesting."""

    def __init__(self, datatype: str) -> None:
        self.datatype = datatype
        self.dtype = DTYPES[datatype]
        self._decoders: list[msgspec.json.Decoder[Any]] = []
        self._element = _element(datatype)

    def decode(self, raw: bytes | memoryview | msgspec.Raw, depth: int) -> Any:
        while len(self._decoders) <= depth:
            self._decoders.append(msgspec.json.Decoder(self._element))
            self._element = list[self._element]  # type: ignore[name-defined]
        return self._decoders[depth].decode(raw)


READERS = {word: Reader(word) for word in DTYPES if word not in ("FP16", "BF16")}
_FLOATS = Reader("FP64")


def depth_of(raw: bytes) -> int:
    """How many lists the JSON text opens before its first element."""
    depth = 0
    for byte in raw:
        if byte == 0x5B:  # [
            depth += 1
        elif byte not in _SPACE:
            break
    return depth


def array_from_json(name: str, datatype: str, raw: bytes) -> NDArray[Any]:
    """The array of nested (or flat) JSON lists, or of a single element. Raises Invalid naming tensor and element."""
    if datatype in ("FP16", "BF16"):
        raise Invalid(
            f"Tensor '{name}' of {datatype} cannot be sent as JSON.",
            field=name,
            hint="Send it as raw bytes with the binary tensor extension.",
        )
    reader = READERS[datatype]
    depth = depth_of(raw[:256])
    if depth > MAX_DEPTH:
        raise Invalid(f"Tensor '{name}' is nested more than {MAX_DEPTH} lists deep.", field=name)
    try:
        return _array(reader, reader.decode(raw, depth))
    except msgspec.ValidationError as error:
        whole = _whole_floats(reader, raw, depth)
        if whole is not None:
            return whole
        raise Invalid(f"Tensor '{name}' of {datatype}: {_said(error)}.", field=name) from None
    except msgspec.DecodeError as error:
        raise Malformed(f"Tensor '{name}' is no valid JSON: {error}.") from None
    except OverflowError:
        raise Invalid(f"Tensor '{name}' has values that {datatype} cannot hold.", field=name) from None
    except ValueError:
        raise Invalid(f"Tensor '{name}' has rows of different lengths.", field=name) from None


def _array(reader: Reader, values: Any) -> NDArray[Any]:
    if reader.datatype != "BYTES":
        return np.array(values, dtype=reader.dtype)
    texts = np.array(values, dtype=object)  # raises ValueError where rows differ
    flat = texts.reshape(-1)
    for place, text in enumerate(flat):
        if type(text) is not str:
            raise ValueError("rows of different lengths")
        flat[place] = text.encode()
    return texts


def _whole_floats(reader: Reader, raw: bytes, depth: int) -> NDArray[Any] | None:
    """`[1.0, 2.0]` where whole numbers are wanted: taken when every value is one and exact in a double."""
    if reader.dtype.kind not in "iu":
        return None
    try:
        values = np.array(_FLOATS.decode(raw, depth), dtype=np.float64)
    except (msgspec.DecodeError, ValueError):
        return None
    limits = np.iinfo(reader.dtype)
    exact = values.size == 0 or bool(
        (values == np.trunc(values)).all()
        and np.abs(values).max() <= 1 << 53
        and values.min() >= limits.min
        and values.max() <= limits.max
    )
    return values.astype(reader.dtype) if exact else None


def _said(error: msgspec.ValidationError) -> str:
    """msgspec's words without the path's `$`."""
    return str(error).replace(" - at `$", " at `").replace("Expected", "expected", 1)


def array_from_values(name: str, datatype: str, values: Any) -> NDArray[Any]:
    """The array of JSON values that were decoded already, with the same strictness. `{"b64": text}` stands for bytes."""
    if datatype == "BYTES":
        return _array_of_bytes(name, values)
    depth, inner = 0, values
    while isinstance(inner, list) and inner:
        depth, inner = depth + 1, inner[0]
    depth += isinstance(inner, list)
    if depth > MAX_DEPTH:
        raise Invalid(f"Tensor '{name}' is nested more than {MAX_DEPTH} lists deep.", field=name)
    # Through text again: one reader decides what a number is.
    return array_from_json(name, datatype, msgspec.json.encode(values))


def _array_of_bytes(name: str, values: Any) -> NDArray[Any]:
    flat: list[bytes] = []

    def walk(value: Any, depth: int) -> tuple[int, ...]:
        if isinstance(value, str):
            flat.append(value.encode())
            return ()
        if isinstance(value, dict) and set(value) == {"b64"}:
            flat.append(from_base64(name, value["b64"]))
            return ()
        if not isinstance(value, list):
            raise Invalid(
                f"Tensor '{name}' of BYTES: {json_type(value)} is neither a text nor {{\"b64\": text}}.", field=name
            )
        if depth >= MAX_DEPTH:
            raise Invalid(f"Tensor '{name}' is nested more than {MAX_DEPTH} lists deep.", field=name)
        shapes = {walk(item, depth + 1) for item in value}
        if len(shapes) > 1:
            raise Invalid(f"Tensor '{name}' has rows of different lengths.", field=name)
        return (len(value), *(shapes.pop() if shapes else ()))

    shape = walk(values, 0)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def json_type(value: Any) -> str:
    """What a decoded JSON value is, in words."""
    return {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
    }.get(type(value), "an object")


def to_json(array: NDArray[Any], datatype: str, name: str = "", *, base64: bool = False) -> Any:
    """What orjson writes for an array: itself for numbers (not finite: null), nested lists of texts for BYTES; bytes that are
    no UTF-8 become `{"b64": text}` where `base64` allows it.

    Raises Invalid for those bytes otherwise, and for FP16 and BF16, which travel as raw bytes only.
    """
    if datatype == "BYTES":
        return _texts(array.tolist(), name, base64)
    if datatype in ("FP16", "BF16"):
        raise _only_binary(name, f"is {datatype}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _only_binary(name: str, why: str) -> Invalid:
    return Invalid(
        f"The output '{name}' {why}, which cannot be sent as JSON.",
        field="outputs",
        hint='Ask for it as raw bytes: {"name": ..., "parameters": {"binary_data": true}}.',
    )


def _texts(value: Any, name: str, base64: bool) -> Any:
    if isinstance(value, list):
        return [_texts(item, name, base64) for item in value]
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        if not base64:
            raise _only_binary(name, "has bytes that are no UTF-8") from None
        return {"b64": b64encode(value).decode()}


def from_base64(name: str, text: object) -> bytes:
    """The bytes of `{"b64": text}`. Raises Invalid."""
    try:
        return b64decode(text if isinstance(text, str) else b"!", validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"'{name}' has a \"b64\" that is no base64.", field=name) from None
