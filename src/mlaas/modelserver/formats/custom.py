"""A custom predictor: a Python class in its own file.

    # model.py
    class Model:
        inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}]

        def load(self): ...                       # optional; once, before the first request
        def predict(self, inputs): ...            # arrays by name in, arrays by name out

`predict` may take the request's parameters as a second argument, be a coroutine function (then requests overlap), or yield
(then the answer is streamed, one yield a piece). An only output may be returned as it is. BYTES tensors are object arrays of
`bytes`. The signature may lie in `signature.json` instead; attributes may also be set by `load`. `explain(self, inputs)` makes
the model explain itself.
"""

import inspect
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver import signature as signatures
from mlaas.modelserver.errors import Failed, Unexplained
from mlaas.modelserver.formats.base import AsyncOriginal, Format, Opened, Original
from mlaas.modelserver.formats.python import broken, call_of, class_of, module_of
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES

_FILE = "model.py"
_SIGNATURE = "signature.json"


class Custom(Format):
    """Runs the folder's own code, so it must be trusted. `options`: `class` names the class where the file has several."""

    name = "custom"
    packages = ()
    executes = True

    def detects(self, root: Path) -> bool:
        file = root / _FILE if root.is_dir() else root
        try:
            return file.suffix == ".py" and "def predict" in file.read_text()
        except (OSError, ValueError):
            return False

    def open(self, opened: Opened) -> Original | AsyncOriginal:
        file = opened.root / _FILE if opened.root.is_dir() else opened.root
        options = opened.options or {}
        made = class_of(module_of(file), file, options.get("class"), ("predict",), "Model")
        try:
            model = made()
            if hasattr(model, "load"):
                model.load()
        except Error:
            raise
        except Exception as error:
            raise broken(f"{made.__name__}.load", file, error) from error
        signature = _signature(model, file)
        predict = model.predict
        if inspect.iscoroutinefunction(predict) or inspect.isasyncgenfunction(predict):
            return _Async(model, signature)
        return _Sync(model, signature)


class _Sync(Original):
    def __init__(self, model: Any, signature: Signature) -> None:
        self.signature = signature
        self._model = model
        self._call = call_of(model.predict)
        self._streams = inspect.isgeneratorfunction(model.predict)

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        return self.answer(inputs, outputs, {})[0]

    def answer(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> tuple[list[NDArray[Any]], dict[str, Any]]:
        if self._streams:
            return _joined(list(self.stream(inputs, outputs, parameters)), self.signature, outputs), {}
        return _arrays(self._call(_named(inputs, self.signature), parameters), self.signature, outputs), {}

    def stream(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> Iterator[list[NDArray[Any]]]:
        given = self._call(_named(inputs, self.signature), parameters)
        for piece in given if self._streams else (given,):
            yield _arrays(piece, self.signature, outputs)

    def explain(self, inputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if not hasattr(self._model, "explain"):
            raise Unexplained()
        given = self._model.explain(_named(inputs, self.signature))
        if not isinstance(given, Mapping):
            given = {"explanations": given}
        return {str(name): np.asarray(value) for name, value in given.items()}

    def sample(self) -> list[NDArray[Any]] | None:
        return None


class _Async(AsyncOriginal):
    def __init__(self, model: Any, signature: Signature) -> None:
        self.signature = signature
        self._call = call_of(model.predict)
        self._streams = inspect.isasyncgenfunction(model.predict)

    async def predict(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> list[NDArray[Any]]:
        if self._streams:
            return _joined([piece async for piece in self.stream(inputs, outputs, parameters)], self.signature, outputs)
        return _arrays(await self._call(_named(inputs, self.signature), parameters), self.signature, outputs)

    async def stream(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> AsyncIterator[list[NDArray[Any]]]:
        given = self._call(_named(inputs, self.signature), parameters)
        if not self._streams:
            yield _arrays(await given, self.signature, outputs)
            return
        try:
            async for piece in given:
                yield _arrays(piece, self.signature, outputs)
        finally:
            await given.aclose()


def _signature(model: Any, file: Path) -> Signature:
    beside = file.parent / _SIGNATURE
    if beside.is_file():
        try:
            document = json.loads(beside.read_text())
        except ValueError as error:
            raise Invalid(f"{_SIGNATURE} is no JSON: {error}.", field=_SIGNATURE) from error
        return signatures.from_json(document, _SIGNATURE, "custom")
    if not hasattr(model, "inputs") or not hasattr(model, "outputs"):
        raise Invalid(
            f"{file.name} does not say what its model takes and gives.",
            field="source",
            hint='Add the attributes `inputs` and `outputs`, e.g. [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],'
            " or a signature.json with both.",
        )
    names = ("inputs", "outputs", "features", "batched", "properties")
    document = {name: getattr(model, name) for name in names if hasattr(model, name)}
    return signatures.from_json(document, type(model).__name__, "custom")


def _named(inputs: list[NDArray[Any]], signature: Signature) -> dict[str, NDArray[Any]]:
    return {spec.name: array for spec, array in zip(signature.inputs, inputs, strict=True)}


def _arrays(given: Any, signature: Signature, outputs: list[str]) -> list[NDArray[Any]]:
    """What `predict` returned as arrays of the signature's datatypes. Raises Failed for what does not fit it."""
    if not isinstance(given, Mapping):
        if len(signature.outputs) != 1:
            raise Failed(
                f"`predict` returned {type(given).__name__}; with {len(signature.outputs)} outputs it returns a dict."
            )
        given = {signature.outputs[0].name: given}
    specs = {spec.name: spec for spec in signature.outputs}
    missing = [name for name in outputs if name not in given]
    if missing:
        raise Failed(f"`predict` did not return '{missing[0]}'; it returned {', '.join(map(str, given))}.")
    return [_array(given[name], specs[name]) for name in outputs]


def _array(value: Any, spec: TensorSpec) -> NDArray[Any]:
    dtype = DTYPES[spec.datatype]
    try:
        if spec.datatype == "BYTES":
            array = np.array(value, dtype=object)
        else:
            array = np.ascontiguousarray(value, dtype=dtype)
            array = array.reshape(np.shape(value))  # ascontiguousarray makes a number an array of one
    except (TypeError, ValueError) as error:
        raise Failed(f"`predict` returned a '{spec.name}' that is no {spec.datatype}: {error}.") from error
    if array.ndim != len(spec.shape) or any(
        want not in (-1, got) for got, want in zip(array.shape, spec.shape, strict=True)
    ):
        raise Failed(
            f"`predict` returned '{spec.name}' with the shape {list(array.shape)}; "
            f"its signature says {list(spec.shape)}."
        )
    if spec.datatype == "BYTES":
        flat = [item.encode() if isinstance(item, str) else item for item in array.reshape(-1)]
        if any(not isinstance(item, bytes) for item in flat):
            raise Failed(f"`predict` returned a '{spec.name}' with elements that are neither bytes nor str.")
        shape = array.shape
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        array = array.reshape(shape)
    return array


def _joined(pieces: list[list[NDArray[Any]]], signature: Signature, outputs: list[str]) -> list[NDArray[Any]]:
    """A streamed answer in one: pieces are joined along their last axis where they are texts of one shape, else the last one
    stands (it is then a whole answer each time)."""
    if not pieces:
        raise Failed("`predict` yielded nothing.")
    texts = {spec.name for spec in signature.outputs if spec.datatype == "BYTES"}
    joined = []
    for i, name in enumerate(outputs):
        parts = [piece[i] for piece in pieces]
        if name in texts and len({part.shape for part in parts}) == 1:
            whole = np.empty(parts[0].size, dtype=object)
            whole[:] = [b"".join(items) for items in zip(*(part.reshape(-1) for part in parts), strict=True)]
            joined.append(whole.reshape(parts[0].shape))
        else:
            joined.append(parts[-1])
    return joined


FORMAT = Custom()
