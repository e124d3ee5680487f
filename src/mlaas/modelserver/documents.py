"""Requests and responses as the JSON documents that V1 and V2 clients see: for payload logs, conditions of graphs and remote
servers. The request path itself does not come here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.tensors import Tensor, dtype_of, resolve_shape, to_float32


def of_request(request: Request, arrays: bool = False) -> dict[str, Any]:
    """`{"instances": [...]}` for V1, else the V2 inference request. `arrays`: numbers stay NumPy arrays, which orjson writes
    itself (with OPT_SERIALIZE_NUMPY; what is not finite becomes null)."""
    if request.protocol == "v1":
        said: dict[str, Any] = {"instances": rows(request.inputs, arrays)}
        return {**said, "parameters": dict(request.parameters)} if request.parameters else said
    document: dict[str, Any] = {"inputs": [tensor(each, arrays) for each in request.inputs]}
    if request.id:
        document["id"] = request.id
    if request.parameters:
        document["parameters"] = dict(request.parameters)
    return document


def of_response(
    response: Response, protocol: str, model: str = "", id: str = "", arrays: bool = False
) -> dict[str, Any]:
    """`{"predictions": [...]}` for V1, else the V2 inference response. `arrays` as in `of_request`."""
    if protocol == "v1":
        return {"predictions": rows(response.outputs, arrays)}
    document: dict[str, Any] = {
        "model_name": response.model or model,
        "outputs": [tensor(each, arrays) for each in response.outputs],
    }
    if response.version:
        document["model_version"] = response.version
    if id:
        document["id"] = id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    return document


def tensor(each: Tensor, arrays: bool = False) -> dict[str, Any]:
    """A V2 tensor with flat data."""
    numbers = _numbers(each) if arrays else None
    return {
        "name": each.name,
        "datatype": each.datatype,
        "shape": list(each.array.shape),
        "data": plain(each, flat=True) if numbers is None else numbers.reshape(-1),
    }


def rows(tensors: list[Tensor], arrays: bool = False) -> Any:
    """V1 rows: the values of a single tensor, else one object a row."""
    if len(tensors) == 1:
        numbers = _numbers(tensors[0]) if arrays else None
        if numbers is not None and numbers.ndim:
            return numbers
        values = plain(tensors[0])
        return values if isinstance(values, list) else [values]
    columns = {each.name: plain(each) for each in tensors}
    if any(not isinstance(values, list) for values in columns.values()) or len({len(v) for v in columns.values()}) > 1:
        return [columns]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(each: Tensor, flat: bool = False) -> Any:
    """Python values of a tensor: text where bytes are UTF-8, else base64's words are left to the binary protocols (latin-1)."""
    array = to_float32(each) if each.datatype == "BF16" else each.array
    if flat:
        array = array.reshape(-1)
    if each.datatype != "BYTES":
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return np.where(np.isfinite(array), array.astype(object), np.array(None)).tolist()
        return array.tolist()
    return _texts(array.tolist())


def _numbers(each: Tensor) -> NDArray[Any] | None:
    """The array of a tensor of numbers, as orjson can write it; None for texts."""
    if each.datatype == "BYTES":
        return None
    return np.ascontiguousarray(to_float32(each) if each.datatype == "BF16" else each.array)


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def to_tensors(document: Any) -> list[Tensor]:
    """The tensors of an answer (`predictions`, `outputs`) or a request (`instances`, `inputs`), V1 or V2.

    Raises Invalid for anything else.
    """
    if isinstance(document, dict):
        for key in ("predictions", "instances"):
            if isinstance(document.get(key), list):
                return of_rows(document[key], key)
        for key in ("outputs", "inputs"):
            found = document.get(key)
            if isinstance(found, list) and all(isinstance(item, dict) and "datatype" in item for item in found):
                return [_of_v2(item) for item in found]
    raise Invalid("The document is neither V1 (instances, predictions) nor V2 (inputs, outputs).")


def of_rows(found: list[Any], name: str) -> list[Tensor]:
    """Tensors of V1 rows whose model's signature is not known: one of the rows' own shape, or one for each key of objects."""
    if found and all(isinstance(row, dict) for row in found):
        keys = list(dict.fromkeys(key for row in found for key in row))
        missing = [key for key in keys if any(key not in row for row in found)]
        if missing:
            raise Invalid(f"Not every row has the key '{missing[0]}'.", field=name)
        return [_of_values(key, [row[key] for row in found]) for key in keys]
    return [_of_values(name, found)]


def _of_values(name: str, values: list[Any]) -> Tensor:
    try:
        array = np.array(values)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind in "US":
        texts = np.empty(array.size, dtype=object)
        texts[:] = [str(item).encode() for item in array.reshape(-1)]
        return Tensor(name, texts.reshape(array.shape), "BYTES")
    if array.dtype.kind not in "biuf":
        raise Invalid(f"The values of '{name}' are no array of numbers, booleans or texts.", field=name)
    return Tensor(name, array)


def _of_v2(item: dict[str, Any]) -> Tensor:
    name, datatype = str(item.get("name", "")), str(item.get("datatype"))
    dtype = dtype_of(name, datatype)
    if datatype == "BYTES":
        flat = [str(value).encode() for value in _flat(item.get("data"))]
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
    else:
        try:
            array = np.array(item.get("data"), dtype=dtype).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise Invalid(f"The data of '{name}' is no {datatype}.", field=name) from None
    return Tensor(name, array.reshape(resolve_shape(name, item.get("shape") or [array.size], array.size)), datatype)


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list) else [value]
