"""A transformer: a Python class in its own file, before and after a predictor.

    # transformer.py
    class Transformer:
        def load(self): ...                                  # optional; once, before the first request
        def preprocess(self, inputs): ...                    # what the client sent -> what the predictor takes
        def postprocess(self, outputs): ...                  # what the predictor gave -> what the client gets

Both take and return arrays by name and are optional; a single array may be returned as it is. The rows of V1 come as one array
named `instances`, or as one for each key where rows are objects. BYTES tensors are object arrays of `bytes`. A second
argument, where the method has one, gets the request's parameters.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver.errors import Failed
from mlaas.modelserver.formats.base import Format, Freeform, Opened
from mlaas.modelserver.formats.python import call_of, class_of, module_of

_FILE = "transformer.py"
_METHODS = ("preprocess", "postprocess")


class TransformerFormat(Format):
    """Never detected: a service says that it has a transformer."""

    name = "transformer"
    packages = ()
    executes = True
    files = _FILE

    def detects(self, root: Path) -> bool:
        return False

    def open(self, opened: Opened) -> Freeform:
        file = opened.root / _FILE if opened.root.is_dir() else opened.root
        if not file.is_file():
            raise Invalid(f"There is no {_FILE} in {opened.root.name}.", field="transformer.source")
        made = class_of(module_of(file), file, (opened.options or {}).get("class"), _METHODS, "Transformer")
        try:
            transformer = made()
            if hasattr(transformer, "load"):
                transformer.load()
        except Error:
            raise
        except Exception as error:
            raise Invalid(
                f"{file.name} failed to load: {type(error).__name__}: {error}",
                field="transformer.source",
                hint="The worker's log has the traceback.",
            ) from error
        return _Opened(transformer)


class _Opened(Freeform):
    def __init__(self, transformer: Any) -> None:
        self._methods = {
            method: call_of(getattr(transformer, method)) for method in _METHODS if hasattr(transformer, method)
        }

    def call(
        self, method: str, tensors: dict[str, NDArray[Any]], parameters: Mapping[str, Any]
    ) -> dict[str, NDArray[Any]]:
        if method not in self._methods:
            return tensors
        given = self._methods[method](tensors, parameters)
        if not isinstance(given, Mapping):
            given = {next(iter(tensors), "input-0"): given}
        return {str(name): _array(name, value) for name, value in given.items()}


def _array(name: str, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind in "US" or array.dtype == object:
        flat = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1).tolist()]
        if any(not isinstance(item, bytes) for item in flat):
            raise Failed(f"The transformer returned a '{name}' that is no array of numbers or texts.")
        texts = np.empty(len(flat), dtype=object)
        texts[:] = flat
        return texts.reshape(array.shape)
    return np.ascontiguousarray(array) if array.ndim else array


FORMAT = TransformerFormat()
