"""A model of MLflow's flavour python_function: whatever its maker wrote, called by `mlflow.pyfunc` in a worker.

It takes what its signature in MLmodel says: an input a column, or tensors. Parameters of the request that the signature names
are passed on.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.errors import Failed
from mlaas.modelserver.formats import mlflow_signature
from mlaas.modelserver.formats.base import Opened, Original
from mlaas.modelserver.formats.folder import to_array
from mlaas.modelserver.predictor import Signature, TensorSpec
from mlaas.modelserver.tensors import DTYPES


class PythonFunction(Original):
    def __init__(self, opened: Opened) -> None:
        document = mlflow_signature.read(opened.root)
        taken, given = (mlflow_signature.schema(document, of) for of in ("inputs", "outputs"))
        inputs, outputs = taken.specs((-1, 1), "input-0"), given.specs((-1,), "predict")
        if not inputs or not outputs:
            raise Invalid(
                "MLmodel has no signature: nothing says what the model takes and gives.",
                field="signature",
                hint="Save it with `signature=mlflow.models.infer_signature(rows, answer)`.",
            )
        try:
            self.model = import_module("mlflow.pyfunc").load_model(str(opened.root))
        except ModuleNotFoundError:
            raise
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            raise Invalid(
                f"MLflow cannot open the model: {text}",
                field="source",
                hint="The packages of its requirements.txt have to be there: name them in `environment.requirements`.",
            ) from error
        self.table = bool(taken.columns)
        self.params = mlflow_signature.params(document)
        self.signature = Signature(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            batched=all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs)),
            platform="mlflow",
        )

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        return self.answer(inputs, outputs, {})[0]

    def answer(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> tuple[list[NDArray[Any]], dict[str, Any]]:
        wanted = {name: parameters[name] for name in self.params if name in parameters}
        try:
            found = self.model.predict(self._rows(inputs), params=wanted or None)
        except Exception as error:
            if type(error).__name__ == "MlflowException":  # it does not fit the signature
                text = str(error).strip().splitlines()[0][:500]
                raise Invalid(f"The model refuses the rows: {text}", field="inputs") from None
            raise
        return self._arrays(found, outputs), {}

    def _rows(self, inputs: list[NDArray[Any]]) -> Any:
        named = {
            spec.name: _texts(array) if spec.datatype == "BYTES" else array
            for spec, array in zip(self.signature.inputs, inputs, strict=True)
        }
        if not self.table:
            return named if len(named) > 1 else next(iter(named.values()))
        return import_module("pandas").DataFrame({name: array.reshape(-1) for name, array in named.items()})

    def _arrays(self, found: Any, outputs: list[str]) -> list[NDArray[Any]]:
        specs = self.signature.outputs
        if hasattr(found, "columns"):
            found = {str(name): found[name].to_numpy() for name in found.columns}
        if not isinstance(found, Mapping):
            if len(specs) > 1:
                raise Failed(f"The model gave a {type(found).__name__}; its signature has {len(specs)} outputs.")
            found = {specs[0].name: found}
        elif len(specs) == 1 == len(found):
            found = {specs[0].name: next(iter(found.values()))}
        by_name = {spec.name: spec for spec in specs}
        missing = [name for name in outputs if name not in found]
        if missing:
            raise Failed(f"The model did not give '{missing[0]}'; it gave {', '.join(map(str, found))}.")
        return [_array(found[name], by_name[name]) for name in outputs]


def _texts(array: NDArray[Any]) -> NDArray[Any]:
    found = np.empty(array.size, dtype=object)
    found[:] = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in array.reshape(-1)]
    return found.reshape(array.shape)


def _array(value: Any, spec: TensorSpec) -> NDArray[Any]:
    try:
        if spec.datatype == "BYTES":
            array = to_array(np.asarray(value, dtype=object), spec)
        else:
            array = np.ascontiguousarray(value, DTYPES[spec.datatype])
        return array.reshape(len(array), -1) if len(spec.shape) == 2 else array
    except (TypeError, ValueError) as error:
        raise Failed(f"The model gave a '{spec.name}' that is no {spec.datatype}: {error}.") from error
