"""Named tensors: the one thing that every protocol is translated to and from.

Datatypes are the words of the Open Inference Protocol (V2), and row-major order is theirs. Two have no type in NumPy:
BF16 is kept as the raw 16 bits (`uint16`; `to_float32` widens), BYTES as an object array of `bytes`.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BYTES": np.dtype(object),
}
"""V2 datatype -> how its elements lie in memory (little-endian, as on the wire)."""

_WORDS = {dtype: word for word, dtype in DTYPES.items() if word != "BF16"}
_FLOATS = frozenset(("FP16", "FP32", "FP64"))
_INTEGERS = {word: np.iinfo(dtype) for word, dtype in DTYPES.items() if dtype.kind in "iu" and word != "BF16"}


class Tensor:
    """A named array with its V2 datatype. `array` is C-contiguous and of the dtype that DTYPES names."""

    __slots__ = ("array", "datatype", "name")

    def __init__(self, name: str, array: NDArray[Any], datatype: str | None = None) -> None:
        """`datatype` is found from the array when it is not given. Raises Invalid for an array that V2 has no word for."""
        if datatype is None:
            datatype = datatype_of(array)
            array = np.ascontiguousarray(array, dtype=DTYPES[datatype])
        self.name = name
        self.array = array
        self.datatype = datatype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype}, {list(self.array.shape)})"


def datatype_of(array: NDArray[Any]) -> str:
    """The V2 word of an array: str and bytes arrays are BYTES. Raises Invalid for complex numbers, dates and the like."""
    if array.dtype.kind in "USO":
        return "BYTES"
    word = _WORDS.get(array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype)
    if word is None:
        raise Invalid(f"V2 has no datatype for arrays of {array.dtype}.")
    return word


def from_bytes(name: str, datatype: str, shape: Sequence[int], buffer: bytes | memoryview) -> Tensor:
    """The tensor of raw bytes, without a copy (BYTES excepted: each element is `<u32 little-endian length><bytes>`).

    The array is read-only where the buffer is. Raises Invalid when the bytes do not fill the shape exactly.
    """
    dtype = dtype_of(name, datatype)
    wanted = resolve_shape(name, shape, None)
    if datatype == "BYTES":
        items = _split_bytes(name, buffer, elements(wanted))
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return Tensor(name, array.reshape(wanted), datatype)
    size = elements(wanted) * dtype.itemsize
    if size != len(buffer):
        raise Invalid(
            f"Tensor '{name}' of {datatype} {list(wanted)} takes {size} bytes; {len(buffer)} were sent.", field=name
        )
    return Tensor(name, np.frombuffer(buffer, dtype=dtype).reshape(wanted), datatype)


def to_bytes(tensor: Tensor) -> bytes | memoryview:
    """The raw bytes of a tensor, in the layout that `from_bytes` reads; a view of the array where that is possible."""
    if tensor.datatype == "BYTES":
        parts = []
        for item in tensor.array.reshape(-1):
            data = item.encode() if isinstance(item, str) else bytes(item)
            parts += [struct.pack("<I", len(data)), data]
        return b"".join(parts)
    array = np.ascontiguousarray(tensor.array)
    return array.reshape(-1).view(np.uint8).data


def elements(shape: Sequence[int]) -> int:
    """How many elements a shape holds."""
    return math.prod(shape)


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """The NumPy type of a V2 word. Raises Invalid naming those there are."""
    dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise Invalid(
            f"Tensor '{name}' has the datatype {datatype!r}; the datatypes are {', '.join(DTYPES)}.", field=name
        )
    return dtype


def resolve_shape(name: str, shape: Sequence[int], count: int | None) -> tuple[int, ...]:
    """The shape with a single -1 replaced by what `count` elements need. `count` None: no -1 is allowed.

    Raises Invalid for negative or huge dimensions, for two -1, and when the elements do not fill the shape.
    """
    product = 1  # the common case in few steps: everything known, nothing empty
    for size in shape:
        if type(size) is not int or size < 1:
            break
        product *= size
    else:
        if (count is None or product == count) and product < 1 << 48 and len(shape) <= 32:
            return tuple(shape)
    unknown = [axis for axis, size in enumerate(shape) if size == -1]
    if any(not isinstance(size, int) or isinstance(size, bool) or size < -1 for size in shape):
        raise Invalid(
            f"Tensor '{name}' has the shape {list(shape)!r}; dimensions are whole numbers from 0.", field=name
        )
    if (
        len(shape) > 32
        or any(size >= 1 << 48 for size in shape)
        or math.prod(max(size, 1) for size in shape) >= 1 << 48
    ):
        raise Invalid(f"Tensor '{name}' has a shape too large to be held.", field=name)
    if not unknown:
        if count is not None and math.prod(shape) != count:
            raise Invalid(
                f"Tensor '{name}' has the shape {list(shape)} ({math.prod(shape)} elements), but {count} elements.",
                field=name,
            )
        return tuple(shape)
    rest = math.prod(size for size in shape if size != -1)
    if count is None or len(unknown) > 1 or rest == 0 or count % rest:
        raise Invalid(f"Tensor '{name}' has the shape {list(shape)}: -1 cannot be inferred from its data.", field=name)
    return tuple(count // rest if size == -1 else size for size in shape)


def to_float32(tensor: Tensor) -> NDArray[np.float32]:
    """The values as float32; BF16 is the upper half of a float32 (no rounding)."""
    if tensor.datatype == "BF16":
        return (tensor.array.astype(np.uint32) << 16).view(np.float32)
    return tensor.array.astype(np.float32, copy=False)


def from_float32(name: str, array: NDArray[Any]) -> Tensor:
    """A BF16 tensor of float values, rounded to nearest even (NaN stays NaN)."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded = np.where(np.isnan(array), np.uint32(0x7FC0), rounded)
    return Tensor(name, rounded.astype("<u2"), "BF16")


def cast(tensor: Tensor, datatype: str) -> Tensor:
    """The tensor in another datatype, where every value has one there: numbers to numbers, whole numbers only into whole
    ones. Raises Invalid otherwise (text into numbers, 1.5 into INT64, 300 into UINT8)."""
    if tensor.datatype == datatype:
        return tensor
    if "BYTES" in (tensor.datatype, datatype):
        raise Invalid(f"Tensor '{tensor.name}' is {tensor.datatype}; the model takes {datatype}.", field=tensor.name)
    if tensor.datatype in _FLOATS and datatype in _FLOATS:
        return Tensor(tensor.name, tensor.array.astype(DTYPES[datatype]), datatype)
    values = to_float32(tensor) if tensor.datatype == "BF16" else tensor.array
    if datatype == "BF16":
        return from_float32(tensor.name, values)
    if datatype in _INTEGERS and values.size:
        limits = _INTEGERS[datatype]
        if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.trunc(values)).all()):
            raise Invalid(f"Tensor '{tensor.name}' has fractions; the model takes {datatype}.", field=tensor.name)
        if values.min() < limits.min or values.max() > limits.max:
            raise Invalid(f"Tensor '{tensor.name}' has values that {datatype} cannot hold.", field=tensor.name)
    return Tensor(tensor.name, values.astype(DTYPES[datatype]), datatype)


def _split_bytes(name: str, buffer: bytes | memoryview, count: int) -> list[bytes]:
    items, offset, view = [], 0, memoryview(buffer)
    while offset < len(view):
        if offset + 4 > len(view):
            raise Invalid(f"Tensor '{name}': the last length is cut off at byte {offset}.", field=name)
        (size,) = struct.unpack_from("<I", view, offset)
        offset += 4
        if offset + size > len(view):
            raise Invalid(f"Tensor '{name}': an element of {size} bytes at {offset} goes past the end.", field=name)
        items.append(bytes(view[offset : offset + size]))
        offset += size
    if len(items) != count:
        raise Invalid(f"Tensor '{name}' has {len(items)} elements in its bytes; its shape needs {count}.", field=name)
    return items
