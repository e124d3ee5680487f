"""The classification extension: an output as its `k` largest values, each a text `value:index[:label]` (Triton's format)."""

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.repository import Served
from mlaas.modelserver.tensors import Tensor, to_float32


def classify(tensor: Tensor, count: object, served: Served) -> Tensor:
    """A BYTES tensor `[..., k]` for a tensor `[..., n]`; a batched output of one dimension is `n` rows of one value.

    Raises Invalid for texts and for a count below 1.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Invalid(
            f"'classification' of output '{tensor.name}' is {count!r}; it is a number of classes.", field="outputs"
        )
    if tensor.datatype == "BYTES" or tensor.array.ndim == 0:
        raise Invalid(
            f"The output '{tensor.name}' is {tensor.datatype}; only numbers can be classified.", field="outputs"
        )
    values = to_float32(tensor) if tensor.datatype == "BF16" else tensor.array
    signature = served.ready().signature
    spec = next((output for output in signature.outputs if output.name == tensor.name), None)
    labels = spec.labels if spec is not None else ()
    if values.ndim == 1:
        values = values.reshape(-1, 1) if signature.batched else values.reshape(1, -1)
    rows = values.reshape(-1, values.shape[-1])
    most = min(count, rows.shape[1])
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :most]
    texts = np.empty(best.shape, dtype=object)
    for row, indices in enumerate(best):
        for place, index in enumerate(indices):
            label = f":{labels[index]}" if index < len(labels) else ""
            texts[row, place] = f"{_number(rows[row, index])}:{index}{label}".encode()
    return Tensor(tensor.name, texts.reshape((*values.shape[:-1], most)), "BYTES")


def _number(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, np.floating) else str(value)
