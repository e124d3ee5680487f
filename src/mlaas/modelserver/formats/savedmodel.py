"""TensorFlow SavedModels: a folder with `saved_model.pb`, as `model.export` of Keras and `tf.saved_model.save` write it.

Names, shapes and datatypes are those of its signature: `serving_default`, the only one, or `options.signature`. TensorFlow itself
is in the model's own environment. Where that has tf2onnx and ONNX Runtime too, the model is converted and answers in the front.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original, Uncompiled
from mlaas.modelserver.formats.datatypes import datatype
from mlaas.modelserver.formats.folder import Declared, declared, numbered
from mlaas.modelserver.formats.network import Arrays, Network
from mlaas.modelserver.predictor import TensorSpec

FILE = "saved_model.pb"
REQUIREMENTS = ("tensorflow-cpu", "tf2onnx", "onnxruntime")
_FOLDERS = ("", "model.savedmodel", "saved_model")
_USUAL = "serving_default"
_OPSET = 18


class SavedModel(Format):
    """`options.signature` names the signature that is served."""

    name = "tensorflow"
    packages = ("tensorflow",)
    files = "saved_model.pb of a SavedModel"

    def detects(self, root: Path) -> bool:
        return folder_of(root) is not None

    def open(self, opened: Opened) -> Original:
        folder = folder_of(opened.root)
        if folder is None:
            raise Invalid(f"{opened.root.name} holds no {FILE}.", field="source")
        tf = import_module("tensorflow")
        if opened.device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        try:
            model = tf.saved_model.load(str(folder))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
            raise Invalid(
                f"The SavedModel cannot be read by TensorFlow {tf.__version__}: {text}",
                field="source",
                hint="Copy the whole folder, with `variables/`; or name the version that saved it: "
                "`environment.requirements: [tensorflow-cpu==<version>]`.",
            ) from error
        name = _chosen(list(model.signatures), (opened.options or {}).get("signature"))
        return TensorFlowModel(tf, model, name, opened, declared(opened.root))


def folder_of(root: Path) -> Path | None:
    """The folder with `saved_model.pb`: `root` itself, or in it under Triton's name, also in its highest numbered version."""
    if not root.is_dir():
        return None
    for folder in (root, *numbered(root)):
        for name in _FOLDERS:
            if (folder / name / FILE).is_file():
                return folder / name
    return None


def _chosen(names: list[str], asked: Any) -> str:
    """The signature that is served. Raises Invalid naming those there are."""
    if asked:
        if asked not in names:
            raise Invalid(
                f"The SavedModel has no signature '{asked}'; it has {', '.join(names) or 'none'}.",
                field="options.signature",
            )
        return str(asked)
    if _USUAL in names:
        return _USUAL
    if len(names) == 1:
        return names[0]
    if not names:
        raise Invalid(
            "The SavedModel has no signature: nothing says what it takes.",
            field="source",
            hint="Save it with `model.export(folder)` of Keras, or `tf.saved_model.save(model, folder, signatures=...)`.",
        )
    raise Invalid(
        f"The SavedModel has several signatures: {', '.join(names)}.",
        field="options.signature",
        hint='Name the one to serve in `options: {"signature": ...}`.',
    )


class TensorFlowModel(Network):
    """One signature of a SavedModel."""

    def __init__(self, tf: Any, model: Any, name: str, opened: Opened, said: Declared) -> None:
        self.tf = tf
        self.model = model  # its variables live as long as it does
        self.call = model.signatures[name]
        self.taken = dict(sorted(self.call.structured_input_signature[1].items()))  # else another order each time
        self.results = dict(sorted(self.call.structured_outputs.items()))
        self.device = opened.device
        inputs = [_spec(each, spec) for each, spec in self.taken.items()]
        outputs = [_spec(each, spec) for each, spec in self.results.items()]
        super().__init__(opened.root, said, inputs, outputs, "tensorflow_savedmodel")

    def _run(self, inputs: Arrays) -> Arrays:
        given = {
            name: self.tf.constant(array, spec.dtype)
            for (name, spec), array in zip(self.taken.items(), inputs, strict=True)
        }
        found = self.call(**given)
        return [np.asarray(found[name].numpy()) for name in self.results]

    def _graph(self, file: Path) -> None:
        if self.device != "cpu":
            raise Uncompiled("it runs on a GPU in TensorFlow")
        missing = [name for name in ("tf2onnx", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise Uncompiled(
                f"its environment has no {' and no '.join(missing)}; with `requirements: [{', '.join(REQUIREMENTS)}]` it can be "
                "compiled"
            )
        tf = self.tf
        names = list(self.taken)
        told = [spec.name for spec in self.signature.inputs]
        wanted = [
            tf.TensorSpec(spec.shape, spec.dtype, name=name)
            for name, spec in zip(told, self.taken.values(), strict=True)
        ]
        results = dict(zip(self.results, (spec.name for spec in self.signature.outputs), strict=True))

        def answer(*given: Any) -> dict[str, Any]:
            found = self.call(**dict(zip(names, given, strict=True)))
            return {result: found[name] for name, result in results.items()}

        try:
            function = tf.function(answer, input_signature=wanted)
            convert = import_module("tf2onnx").convert
            convert.from_function(function, input_signature=wanted, opset=_OPSET, output_path=str(file))
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise Uncompiled(
                f"tf2onnx cannot convert it: {type(error).__name__}: {(lines or [''])[0][:200]}"
            ) from error


def _spec(name: str, spec: Any) -> TensorSpec:
    if not hasattr(spec, "shape") or spec.shape.rank is None:
        raise Invalid(
            f"The signature's tensor '{name}' has no fixed number of dimensions.",
            field="source",
            hint="Save it with an input_signature whose shapes have a rank, e.g. tf.TensorSpec([None, 4], tf.float32).",
        )
    shape = tuple(-1 if size is None else int(size) for size in spec.shape)
    return TensorSpec(str(name), datatype(spec.dtype.name), shape)


FORMAT = SavedModel()
