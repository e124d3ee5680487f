"""Models as MLflow saves them: a script that runs in an environment with mlflow-skinny, `mlflow_models.py FOLDER NAME...`."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
QUICK: Any = {"pip_requirements": ["numpy"]}  # MLflow finds out by opening the model again, where it is not told


def iris() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True, as_frame=True)  # type: ignore[no-any-return]


def signature(rows: Any, answer: Any) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(rows, answer)


def sklearn(folder: Path) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    rows, labels = iris()
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    mlflow.sklearn.save_model(
        model, folder, signature=signature(rows, model.predict(rows)), input_example=rows[:3], **QUICK
    )


def sklearn_pickle(folder: Path) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500).fit(*iris())
    mlflow.sklearn.save_model(model, folder, serialization_format="cloudpickle", **QUICK)


def sklearn_columns(folder: Path) -> None:
    import mlflow.sklearn
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = pandas.DataFrame({"energy": [1.0, 2.0, 3.0, 4.0] * 5, "kind": ["muon", "electron"] * 10})
    prepared = ColumnTransformer([("a", StandardScaler(), ["energy"]), ("b", OneHotEncoder(), ["kind"])])
    model = make_pipeline(prepared, LogisticRegression()).fit(rows, [0, 1] * 10)
    mlflow.sklearn.save_model(
        model, folder, signature=signature(rows, model.predict(rows)), input_example=rows[:3], **QUICK
    )


def xgboost(folder: Path) -> None:
    import mlflow.xgboost
    import xgboost

    rows, labels = iris()
    model = xgboost.XGBClassifier(n_estimators=5).fit(rows, labels)
    mlflow.xgboost.save_model(
        model, folder, signature=signature(rows, model.predict(rows)), input_example=rows[:3], **QUICK
    )


def lightgbm(folder: Path) -> None:
    import lightgbm
    import mlflow.lightgbm

    rows, labels = iris()
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(rows, labels).booster_
    mlflow.lightgbm.save_model(model, folder, signature=signature(rows, model.predict(rows)), **QUICK)


def onnx(folder: Path) -> None:
    import mlflow.onnx
    import skl2onnx
    from sklearn.linear_model import LogisticRegression

    rows, labels = iris()
    values = rows.to_numpy("float32")
    made = skl2onnx.to_onnx(LogisticRegression(max_iter=500).fit(values, labels), values[:1], options={"zipmap": False})
    mlflow.onnx.save_model(made, folder, **QUICK)


def pytorch(folder: Path) -> None:
    import mlflow.pytorch
    import numpy as np
    import torch

    torch.manual_seed(1)
    rows = np.ones((2, 4), np.float32)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    given = model(torch.from_numpy(rows)).detach().numpy()
    mlflow.pytorch.save_model(model, folder, input_example=rows, signature=signature(rows, given), **QUICK)


def pytorch_pickle(folder: Path) -> None:
    import mlflow.pytorch
    import numpy as np
    import torch

    rows = np.ones((2, 4), np.float32)
    model = torch.nn.Linear(4, 2)
    given = model(torch.from_numpy(rows)).detach().numpy()
    mlflow.pytorch.save_model(model, folder, serialization_format="pickle", signature=signature(rows, given), **QUICK)


def keras(folder: Path) -> None:
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import mlflow.keras
    import numpy as np

    layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    rows = np.ones((2, 4), np.float32)
    model = keras.Sequential(layers)
    mlflow.keras.save_model(model, str(folder), signature=signature(rows, model.predict(rows, verbose=0)), **QUICK)


def transformers(folder: Path, source: str = "") -> None:
    import mlflow.transformers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    parts = {
        "model": AutoModelForSequenceClassification.from_pretrained(source),
        "tokenizer": AutoTokenizer.from_pretrained(source),
    }
    mlflow.transformers.save_model(parts, folder, task="text-classification", **QUICK)


def python_function(folder: Path) -> None:
    import mlflow.pyfunc
    import pandas
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    class Sum(mlflow.pyfunc.PythonModel):  # type: ignore[misc,unused-ignore]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            total = model_input["a"] + model_input["b"]
            return pandas.DataFrame({"total": total * (params or {}).get("factor", 1.0), "text": model_input["c"]})

    taken = Schema([ColSpec("double", "a"), ColSpec("long", "b"), ColSpec("string", "c")])
    given = Schema([ColSpec("double", "total"), ColSpec("string", "text")])
    params = ParamSchema([ParamSpec("factor", "double", 1.0)])
    mlflow.pyfunc.save_model(folder, python_model=Sum(), signature=ModelSignature(taken, given, params), **QUICK)


MODELS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        sklearn, sklearn_pickle, sklearn_columns, xgboost, lightgbm, onnx, pytorch, pytorch_pickle, keras, transformers,
        python_function,
    )
}  # fmt: skip

if __name__ == "__main__":
    target = Path(sys.argv[1])
    for word in sys.argv[2:]:
        name, _, source = word.partition("=")
        MODELS[name](target / name, *filter(None, [source]))
