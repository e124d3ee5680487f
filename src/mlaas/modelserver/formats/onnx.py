"""ONNX models: `model.onnx`, also as Triton lays them out. They are run as they are, so there is nothing to compile."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import native
from mlaas.modelserver.formats.base import Format, Opened, Original
from mlaas.modelserver.formats.folder import model_file
from mlaas.modelserver.tensors import DTYPES

_NAMES = ("model.onnx",)


class Onnx(Format):
    name = "onnx"
    packages = ("onnxruntime",)
    files = "model.onnx"

    def detects(self, root: Path) -> bool:
        return file_of(root) is not None

    def open(self, opened: Opened) -> Original:
        file = file_of(opened.root)
        if file is None:
            raise Invalid(f"{opened.root.name} holds no model.onnx.", field="source")
        return OnnxModel(file, opened.root)


def file_of(root: Path) -> Path | None:
    """The model file, or None. A folder with several ONNX files, none of which is model.onnx, has none."""
    try:
        return model_file(root, _NAMES, (".onnx",))
    except Invalid:
        return None


class OnnxModel(Original):
    """A session, as the front will have it."""

    def __init__(self, file: Path, root: Path) -> None:
        session = native.session_of(file)
        self.signature = native.signature_of(session)
        self._answer = native.answer_of(session)
        self._file = file.name if root.is_file() else str(file.relative_to(root))

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        return self._answer(inputs, outputs)

    def compile(self, target: Path) -> dict[str, Any]:
        return {"kind": "onnx", "file": self._file, "cost": self._cost()}

    def _cost(self) -> dict[str, float]:
        """Seconds of one row and of each further one, on zeros; a model that does not take them is never run on the loop."""
        try:
            one, many = self._seconds(1), self._seconds(64) if self.signature.batched else 0.0
        except Invalid:
            return {"one": 1.0, "row": 1.0}
        return {"one": one, "row": max(many - one, 0.0) / 63}

    def _seconds(self, rows: int) -> float:
        inputs = []
        for spec in self.signature.inputs:
            free = [rows if place == 0 else 1 for place in range(len(spec.shape))]
            shape = [free[place] if size == -1 else size for place, size in enumerate(spec.shape)]
            array = np.zeros(shape, DTYPES[spec.datatype])
            if spec.datatype == "BYTES":
                array[...] = b""
            inputs.append(array)
        names = [spec.name for spec in self.signature.outputs]
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            self.predict(inputs, names)
            best = min(best, time.perf_counter() - began)
        return best

    def agree(self, document: Mapping[str, Any], target: Path) -> dict[str, Any]:
        return {"rows": 0, "source": "the model itself is run"}


FORMAT = Onnx()
