"""MLflow's folders: `MLmodel` and the model of one or more flavours. The model is opened by the format of its flavour, with the
signature and the input example that MLflow keeps beside it.

`options.flavor` chooses one; else the first of those below that it has. A model that only `python_function` can open runs its
maker's code in a worker, where it is trusted.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import AsyncOriginal, Format, Freeform, Opened, Original
from mlaas.modelserver.formats.mlflow_signature import FILE, read

_OBJECTIVES = {
    "fill-mask": "masked-lm",
    "text-generation": "causal-lm",
    "feature-extraction": "no-objective",
    "text-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
}


@dataclass
class Inner:
    """What an MLflow folder holds: the format that opens it, and the file or folder of that."""

    format: str
    root: Path
    options: dict[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None  # of a transformer that keeps it apart


class MLflow(Format):
    """`options`: `flavor`, and those of the format that opens it."""

    name = "mlflow"
    packages = ("yaml",)
    files = "MLmodel of MLflow"

    def detects(self, root: Path) -> bool:
        return (root / FILE).is_file()

    def needs(self, root: Path) -> tuple[str, ...]:
        try:
            inner = inner_of(root, {})
        except (Invalid, ModuleNotFoundError):
            return self.packages  # opening it says what is wrong
        if inner.format == "python_function":
            return (*self.packages, "mlflow")
        return (*self.packages, *_format(inner).needs(inner.root))

    def open(self, opened: Opened) -> Original | AsyncOriginal | Freeform:
        options = dict(opened.options or {})
        inner = inner_of(opened.root, options)
        if inner.format == "python_function":
            return _function(opened)
        options = {**inner.options, **options}
        root = inner.root if inner.tokenizer is None else _joined(inner.root, inner.tokenizer)
        if inner.format == "onnx":  # what is compiled names the file in the folder
            from mlaas.modelserver.formats.onnx import OnnxModel

            return OnnxModel(root, opened.root)
        return _format(inner).open(Opened(root, opened.trusted, opened.device, options))


def inner_of(root: Path, options: Mapping[str, Any]) -> Inner:
    """What the folder holds. Raises Invalid for flavours that are not known, or files that are not there."""
    flavours: Mapping[str, Any] = read(root)["flavors"]
    asked = options.get("flavor")
    if asked and asked not in flavours:
        raise Invalid(f"The model has no flavor '{asked}'; it has {', '.join(flavours)}.", field="options.flavor")
    names = [asked] if asked else [name for name in _FLAVOURS if name in flavours]
    for name in names:
        if name == "python_function":
            return Inner("python_function", root)
        made = _FLAVOURS.get(name)
        if made is not None:
            return made(root, flavours[name] if isinstance(flavours[name], dict) else {})
    raise Invalid(
        f"Models of the flavors {', '.join(flavours)} are not served.",
        field="source",
        hint=f"Known are {', '.join(_FLAVOURS)}.",
    )


def _file(format: str, key: str) -> Callable[[Path, Mapping[str, Any]], Inner]:
    """A flavour that names its file (or folder) in one of its fields."""
    return lambda root, said: Inner(format, _within(root, said.get(key), key))


def _boosted(root: Path, said: Mapping[str, Any]) -> Inner:
    """LightGBM: a text of its own for a Booster, scikit-learn's form for an estimator."""
    file = _within(root, said.get("data"), "data")
    return Inner("sklearn" if file.suffix in (".skops", ".pkl", ".joblib") else "lightgbm", file)


def _torch(root: Path, said: Mapping[str, Any]) -> Inner:
    return Inner("pytorch", _within(root, said.get("model_data", "data"), "model_data"))


def _keras(root: Path, said: Mapping[str, Any]) -> Inner:
    """A Keras model lies in `data/`, in any of the forms that Keras has had; TensorFlow's own is a SavedModel."""
    if said.get("saved_model_dir"):
        options = {"signature": said["signature_def_key"]} if said.get("signature_def_key") else {}
        return Inner("tensorflow", _within(root, said["saved_model_dir"], "saved_model_dir"), options)
    folder = _within(root, said.get("data", "data"), "data")
    for name, format in (("model", "tensorflow"), ("model.keras", "keras"), ("model.h5", "keras")):
        path = folder / name
        if path.is_dir() if format == "tensorflow" else path.is_file():
            return Inner(format, path)
    raise Invalid(f"The folder {folder.name} of the model holds no model.keras.", field="source")


def _transformers(root: Path, said: Mapping[str, Any]) -> Inner:
    name = said.get("model_binary") or said.get("pipeline_model_binary")
    if not name:
        raise Invalid(
            "The MLflow folder has no weights: it only names the model of a hub.",
            field="source",
            hint="Save it with `save_pretrained=True`, or call mlflow.transformers.persist_pretrained_model.",
        )
    folder = _within(root, name, "model_binary")
    apart = root / "components" / "tokenizer"
    objective = _OBJECTIVES.get(str(said.get("task", "")))
    return Inner(
        "huggingface",
        folder,
        {"objective": objective} if objective else {},
        apart if apart.is_dir() and not (folder / "tokenizer_config.json").is_file() else None,
    )


_FLAVOURS: dict[str, Callable[[Path, Mapping[str, Any]], Inner] | None] = {
    "onnx": _file("onnx", "data"),
    "sklearn": _file("sklearn", "pickled_model"),
    "xgboost": _file("xgboost", "data"),
    "lightgbm": _boosted,
    "sentence_transformers": _file("huggingface", "data"),
    "transformers": _transformers,
    "keras": _keras,
    "tensorflow": _keras,
    "pytorch": _torch,
    "python_function": None,
}


def _within(root: Path, name: Any, key: str) -> Path:
    """A file or folder that MLmodel names, inside the model's folder."""
    if not isinstance(name, str) or not name:
        raise Invalid(f"{FILE} does not say where the model is ('{key}' is missing).", field="source")
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise Invalid(f"{FILE} names '{name}', which lies outside of the model's folder.", field="source")
    if not path.exists():
        raise Invalid(f"{FILE} names '{name}', which is not there.", field="source", hint="Copy the whole folder.")
    return path


def _format(inner: Inner) -> Format:
    from mlaas.modelserver.formats.registry import named

    return named(inner.format)


def _joined(model: Path, tokenizer: Path) -> Path:
    """A temporary folder with what a transformer and its tokenizer are made of, as links."""
    made = Path(tempfile.mkdtemp(prefix="mlflow-"))
    for folder in (tokenizer, model):
        for path in folder.iterdir():
            link = made / path.name
            if link.is_symlink():
                link.unlink()
            os.symlink(path.resolve(), link)
    return made


def _function(opened: Opened) -> Original:
    if not opened.trusted:
        raise Invalid(
            "The model has only the flavor python_function: opening it runs whatever code its maker put into it.",
            field="trusted",
            hint="Save it with the flavor of its library. Where you trust its maker: `trusted: true` (`mlaas serve --trust`).",
        )
    from mlaas.modelserver.formats.mlflow_function import PythonFunction

    return PythonFunction(opened)


FORMAT = MLflow()
