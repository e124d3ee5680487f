"""Keras 3 models: `model.keras`, or a whole model in HDF5 (`model.h5`). Keras computes with torch here.

The file is opened in Keras's safe mode unless it is trusted: a layer of the maker's own code (Lambda, custom objects) is refused.
A `preprocessing.skops` beside it prepares the rows.
"""

import dataclasses
import os
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original, Uncompiled
from mlaas.modelserver.formats.booster import PREPROCESSING
from mlaas.modelserver.formats.datatypes import datatype
from mlaas.modelserver.formats.folder import Declared, declared, has_file, head, model_file
from mlaas.modelserver.formats.network import Arrays, Network, made_up
from mlaas.modelserver.formats.rows import made_up as made_up_rows
from mlaas.modelserver.predictor import TensorSpec

_NAMES = ("model.keras", "model.h5", "model.hdf5")
_SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"


class Keras(Format):
    name = "keras"
    packages = ("keras", "torch")
    files = "model.keras"

    def detects(self, root: Path) -> bool:
        return has_file(root, _NAMES, _SUFFIXES) and not (root / "config.json").is_file()

    def open(self, opened: Opened) -> Original:
        file = model_file(opened.root, _NAMES, _SUFFIXES)
        if file is None:
            raise Invalid(f"{opened.root.name} holds no model.keras.", field="source")
        if head(file, 8) != _HDF5 and not zipfile.is_zipfile(file):
            raise Invalid(f"{file.name} is neither a Keras archive nor HDF5.", field="source")
        said = declared(opened.root)
        model = _load(file, opened)
        folder = file.parent
        if opened.root.is_dir() and (folder / PREPROCESSING).is_file():
            return Prepared(model, opened, said, folder / PREPROCESSING)
        return KerasModel(model, opened, said)


def _load(file: Path, opened: Opened) -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    keras = import_module("keras")
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=not opened.trusted)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        if not opened.trusted and any(word in text for word in ("safe_mode", "unsafe", "Lambda", "not trusted")):
            raise Invalid(
                f"{file.name} holds code of its maker's: {text}",
                field="trusted",
                hint="Where you trust its maker: `trusted: true` (`mlaas serve --trust`); or write the layer with Keras's own "
                "operations.",
            ) from error
        raise Invalid(
            f"{file.name} cannot be read by Keras {keras.__version__}: {text}",
            field="source",
            hint="Save it with `model.save('model.keras')` of Keras 3. Layers of your own: serve it by a custom predictor; "
            "TensorFlow's own: export a SavedModel.",
        ) from error


class KerasModel(Network):
    """The inputs have the names of the model's input layers, the outputs those of the layers that give them."""

    def __init__(self, model: Any, opened: Opened, said: Declared) -> None:
        from mlaas.modelserver.formats.torch_graph import device_of

        self.model = model
        self.device = device_of(opened.device)
        self._keras = import_module("keras")
        if not getattr(model, "inputs", None):
            raise Invalid(
                "The Keras model does not know its inputs: it was never built, or is a subclass of Model.",
                field="source",
                hint="Begin it with `keras.Input(shape)`, or write it as a functional model, and save it again.",
            )
        if self.device != "cpu":
            model.to(self.device)
        inputs, outputs = _specs(model.inputs, "input"), _outputs(model)
        super().__init__(opened.root, said, inputs, outputs, "keras")

    def _run(self, inputs: Arrays) -> Arrays:
        import torch

        from mlaas.modelserver.formats.torch_graph import arrays, flat, tensors

        with torch.inference_mode(), self._keras.device(self.device):
            return arrays(flat(self._call(*tensors(inputs, self.device)))[0])

    def _call(self, *given: Any) -> Any:
        structure = _structure(self.model, "input")
        if isinstance(structure, dict):
            return self.model(dict(zip(structure, given, strict=True)), training=False)
        return self.model(given[0] if len(given) == 1 else list(given), training=False)

    def _graph(self, file: Path) -> None:
        from mlaas.modelserver.formats.torch_graph import export

        if self.device != "cpu":
            raise Uncompiled("it runs on a GPU in torch")
        specs = self.signature.inputs
        free = [[at for at, size in enumerate(spec.shape) if size == -1] for spec in specs]
        names = [spec.name for spec in specs], [spec.name for spec in self.signature.outputs]
        export(self.model, self._call, made_up(specs, 3), file, *names, free)


class Prepared(KerasModel):
    """A network behind a scikit-learn transformer; served as it is, in a worker."""

    def __init__(self, model: Any, opened: Opened, said: Declared, file: Path) -> None:
        from mlaas.modelserver.formats.registry import require
        from mlaas.modelserver.formats.sklearn import FORMAT, open_skops
        from mlaas.modelserver.formats.sklearn_columns import layout_of

        require(FORMAT, opened.root)
        super().__init__(model, opened, Declared(outputs=said.outputs, classes=said.classes))
        self.preparation = open_skops(file, opened)
        self.layout = layout_of(self.preparation, said)
        texts = self.layout.texts
        inputs = tuple(said.inputs) or tuple(
            TensorSpec(name, "BYTES" if at in texts else "FP64", (-1, 1)) for at, name in enumerate(self.layout.names)
        )
        self.signature = dataclasses.replace(self.signature, inputs=inputs, features=())

    def _run(self, inputs: Arrays) -> Arrays:
        try:
            prepared = self.preparation.transform(self.layout.rows(inputs, self.signature.inputs))
        except (ValueError, TypeError, KeyError) as error:
            raise Invalid(f"The model refuses the rows: {str(error).splitlines()[0][:500]}", field="inputs") from None
        dense: NDArray[Any] = prepared.toarray() if hasattr(prepared, "toarray") else prepared
        return super()._run([np.ascontiguousarray(dense, np.float32)])

    def sample(self) -> Arrays | None:
        return made_up_rows(self.signature, self.layout.survey)

    def compile(self, target: Path) -> dict[str, Any] | None:
        raise Uncompiled("its rows are prepared by scikit-learn before they reach the network")


def _specs(tensors: list[Any], usual: str) -> list[TensorSpec]:
    specs = []
    for at, tensor in enumerate(tensors):
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise Invalid(f"'{tensor.name}' is sparse or ragged, for which V2 has no tensor.", field="source")
        shape = tuple(-1 if size is None else int(size) for size in tensor.shape)
        specs.append(TensorSpec(str(tensor.name or f"{usual}-{at}"), datatype(str(tensor.dtype)), shape))
    return specs


def _outputs(model: Any) -> list[TensorSpec]:
    specs = _specs(list(model.outputs), "output")
    structure = _structure(model, "output")
    if isinstance(structure, dict):
        names = [str(name) for name in structure]
    else:
        names = [_layer(tensor) or f"output-{at}" for at, tensor in enumerate(model.outputs)]
    if len(set(names)) < len(names):
        names = [f"output-{at}" for at in range(len(names))]
    return [TensorSpec(name, spec.datatype, spec.shape) for name, spec in zip(names, specs, strict=True)]


def _structure(model: Any, of: str) -> Any:
    """How a model's `input` or `output` is put together; a Sequential has one tensor, and does not say."""
    return getattr(model, of, None)


def _layer(tensor: Any) -> str:
    """The layer that gives a tensor, as Keras 2 called its outputs."""
    history = getattr(tensor, "_keras_history", None)
    return str(getattr(getattr(history, "operation", None), "name", ""))


FORMAT = Keras()
