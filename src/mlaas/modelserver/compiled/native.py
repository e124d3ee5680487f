"""An ONNX model as it is: ONNX Runtime answers, in the front. The names and datatypes are the graph's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled.program import Answer
from mlaas.modelserver.compiled.session import open_session
from mlaas.modelserver.predictor import Signature, TensorSpec

_TYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


def signature_of(session: Any) -> Signature:
    """What the graph takes and gives. Outputs that are no tensors (maps of a classifier) are left out.

    Raises Invalid for an input of a type that V2 has no word for, and when no output is left.
    """
    inputs = tuple(_spec(item) for item in session.get_inputs())
    for item, spec in zip(session.get_inputs(), inputs, strict=True):
        if spec is None:
            raise Invalid(f"The input '{item.name}' is {item.type}, for which V2 has no datatype.", field="source")
    outputs = tuple(spec for item in session.get_outputs() if (spec := _spec(item)) is not None)
    if not outputs:
        raise Invalid(
            "No output of the model is a tensor.",
            field="source",
            hint="Convert it with `options={'zipmap': False}` (skl2onnx).",
        )
    taken = tuple(spec for spec in inputs if spec is not None)
    batched = all(spec.shape[:1] == (-1,) for spec in (*taken, *outputs))
    return Signature(taken, outputs, batched=batched, platform="onnxruntime_onnx")


def answer_of(session: Any, flat: Sequence[str] = ()) -> Answer:
    """The session as a function of arrays in the order of the signature's inputs. Outputs named in `flat` lose their last
    dimension, which is 1."""
    inputs = [item.name for item in session.get_inputs()]
    texts = {item.name for item in session.get_inputs() if item.type == "tensor(string)"}

    def answer(arrays: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        feed = {name: _decoded(array) if name in texts else array for name, array in zip(inputs, arrays, strict=True)}
        try:
            found = session.run(outputs, feed)
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise Invalid(f"ONNX Runtime cannot answer: {str(error).splitlines()[0][:300]}", field="inputs") from None
        arrays = [_encoded(array) if array.dtype == object else array for array in map(np.asarray, found)]
        if flat:
            return [a.reshape(a.shape[:-1]) if name in flat else a for name, a in zip(outputs, arrays, strict=True)]
        return arrays

    return answer


def session_of(file: Path) -> Any:
    """The session of a model file. Raises Invalid for one that ONNX Runtime cannot open."""
    try:
        return open_session(file)
    except Exception as error:
        raise Invalid(
            f"ONNX Runtime cannot open {file.name}: {str(error).splitlines()[0][:300]}",
            field="source",
            hint="Export it with an opset and operators that this ONNX Runtime knows.",
        ) from None


def _spec(item: Any) -> TensorSpec | None:
    datatype = _TYPES.get(item.type)
    if datatype is None:
        return None
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in item.shape or ())
    return TensorSpec(item.name, datatype, shape)


def _decoded(array: NDArray[Any]) -> NDArray[Any]:
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.reshape(-1)]
    found = np.empty(len(texts), dtype=object)
    found[:] = texts
    return found.reshape(array.shape)


def _encoded(array: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(array.size, dtype=object)
    found[:] = [str(item).encode() for item in array.reshape(-1)]
    return found.reshape(array.shape)
