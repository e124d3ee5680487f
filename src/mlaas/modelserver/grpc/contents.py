"""Typed tensor contents (InferTensorContents) to arrays and back.

Which field holds which datatype is the protocol's table; FP16 and BF16 have no field and travel as raw bytes only.
"""

from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.tensors import DTYPES, Tensor, dtype_of, resolve_shape

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Datatype -> the field of InferTensorContents that holds its elements."""


def unpack(name: str, datatype: str, shape: Any, contents: Any) -> Tensor:
    """The tensor of typed contents. Raises Invalid when the values are in another field, too few, too many or too large."""
    dtype = dtype_of(name, datatype)
    field = FIELDS.get(datatype)
    if field is None:
        raise Invalid(
            f"Tensor '{name}': {datatype} has no typed contents.", field=name, hint="Send it in raw_input_contents."
        )
    for other, values in contents.ListFields():
        if other.name != field and len(values):
            raise Invalid(
                f"Tensor '{name}' of {datatype} has its values in {other.name}; they belong in {field}.", field=name
            )
    values = getattr(contents, field)
    wanted = resolve_shape(name, tuple(shape), len(values))
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = list(values)
        return Tensor(name, array.reshape(wanted), datatype)
    if dtype.kind in "iu" and dtype.itemsize < 4 and len(values):
        limits = np.iinfo(dtype)
        if min(values) < limits.min or max(values) > limits.max:
            raise Invalid(f"Tensor '{name}' has values that {datatype} cannot hold.", field=name)
    return Tensor(name, np.fromiter(values, dtype, len(values)).reshape(wanted), datatype)


def pack(tensor: Tensor, contents: Any) -> None:
    """Add a tensor's elements to typed contents; its datatype has a field."""
    values = tensor.array.reshape(-1).tolist()
    if tensor.datatype == "BYTES":
        values = [item.encode() if isinstance(item, str) else bytes(item) for item in values]
    getattr(contents, FIELDS[tensor.datatype]).extend(values)


assert set(FIELDS) | {"FP16", "BF16"} == set(DTYPES)
