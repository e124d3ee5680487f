"""MLflow's folders, saved by MLflow itself: opened by the format of their flavour, with the signature that they keep."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.integration.modelserver.formats import mlflow_environment
from tests.integration.modelserver.formats.test_transformers import bert, texts
from tests.integration.transformers.conftest import minilm, tiny_bert

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.cache import Cache
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import Opened, Original
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor

__all__ = ["minilm", "tiny_bert"]
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    cache = tmp_path / "cache"
    cache.mkdir()
    mlflow_environment.KEPT.joinpath("environments").mkdir(parents=True, exist_ok=True)
    (cache / "environments").symlink_to(mlflow_environment.KEPT / "environments")
    return Loading(Cache(cache))


async def ask(predictor: Predictor, *inputs: Any, **parameters: Any) -> dict[str, Any]:
    names = [spec.name for spec in predictor.signature.inputs]
    tensors = [Tensor(name, each) for name, each in zip(names, inputs, strict=True)]
    given = predictor.infer(Request(tensors, parameters=parameters))
    response = given if isinstance(given, Response) else await given
    return {tensor.name: tensor.array for tensor in response.outputs}


def opened(folder: Path, **how: Any) -> Original:
    found = registry.open_model(registry.detect(folder), Opened(folder, **how))
    assert isinstance(found, Original)
    return found


async def test_scikit_learn_is_compiled_with_the_columns_of_its_signature(
    mlflow_models: Path, loading: Loading
) -> None:
    predictor = await loading.load(Deployment(revision="a", source=str(mlflow_models / "sklearn")))
    rows, labels = load_iris(return_X_y=True)
    assert predictor.signature.features == COLUMNS
    status = predictor.status()
    assert (status["compiled"], status["format"]) == (True, "mlflow")
    assert status["parity"]["source"].startswith("3 of the input example")
    wanted = LogisticRegression(max_iter=500).fit(rows, labels).predict(rows)
    assert (await ask(predictor, rows))["predict"].tolist() == wanted.tolist()


async def test_columns_of_several_types_are_an_input_each(mlflow_models: Path, loading: Loading) -> None:
    predictor = await loading.load(Deployment(revision="a", source=str(mlflow_models / "sklearn_columns")))
    taken = [(spec.name, spec.datatype) for spec in predictor.signature.inputs]
    assert taken == [("energy", "FP64"), ("kind", "BYTES")]
    answer = await ask(predictor, np.array([[1.0], [2.0]]), texts("muon", "electron").reshape(-1, 1))
    assert answer["predict"].tolist() == [0, 1]
    assert predictor.status()["compiled"] is True


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "onnx", "pytorch", "keras"])
async def test_other_flavours_are_compiled_and_agree(
    name: str, mlflow_models: Path, loading: Loading, tmp_path: Path
) -> None:
    folder = mlflow_models / name
    compiled = await loading.load(Deployment(revision="a", source=str(folder)))
    assert compiled.status()["compiled"] is True, compiled.status()
    original = opened(folder)
    assert original.signature == compiled.signature
    (spec,) = original.signature.inputs
    rows = load_iris().data[::10].astype("float64" if spec.datatype == "FP64" else "float32")
    mine = await ask(compiled, rows)
    for output, theirs in zip(mine, original.predict([rows], list(mine)), strict=True):
        np.testing.assert_allclose(mine[output], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sklearn_pickle", "pytorch_pickle", "python_function"])
def test_what_runs_code_is_opened_only_when_it_is_trusted(name: str, mlflow_models: Path) -> None:
    folder = mlflow_models / name
    with pytest.raises(Invalid) as refused:
        registry.detect(folder).open(Opened(folder))
    assert refused.value.field == "trusted"
    if name != "python_function":
        assert opened(folder, trusted=True).signature.inputs


async def test_a_python_function_answers_in_its_environment(mlflow_models: Path, loading: Loading) -> None:
    folder = mlflow_models / "python_function"
    if find_spec("mlflow") is None:
        with pytest.raises(Invalid, match="needs mlflow, not installed here"):
            await loading.load(Deployment(revision="a", source=str(folder), trusted=True))
    wanted = Deployment(
        revision="a", source=str(folder), trusted=True, environment=[*mlflow_environment.REQUIREMENTS, "cloudpickle"]
    )
    predictor = await loading.load(wanted)
    try:
        assert [(spec.name, spec.datatype) for spec in predictor.signature.inputs] == [
            ("a", "FP64"), ("b", "INT64"), ("c", "BYTES"),
        ]  # fmt: skip
        rows = np.array([[1.5], [2.0]]), np.array([[1], [2]]), texts("x", "ü").reshape(-1, 1)
        answer = await ask(predictor, *rows)
        assert answer["total"].tolist() == [2.5, 4.0]
        assert [item.decode() for item in answer["text"]] == ["x", "ü"]
        assert (await ask(predictor, *rows, factor=2.0))["total"].tolist() == [5.0, 8.0]
    finally:
        await predictor.close()


async def test_a_transformer_with_its_tokenizer_apart(tiny_bert: Path, tmp_path: Path, loading: Loading) -> None:
    labels = {0: "physics", 1: "music"}
    source = bert(tiny_bert, tmp_path / "model", "BertForSequenceClassification", num_labels=2, id2label=labels)
    mlflow_environment.save(tmp_path, f"transformers={source}")
    folder = tmp_path / "transformers"
    assert (folder / "components" / "tokenizer").is_dir()
    predictor = await loading.load(Deployment(revision="a", source=str(folder)))
    assert predictor.status()["compiled"] is True, predictor.status()
    plain = await loading.load(Deployment(revision="b", source=str(source)))
    mine, theirs = [await ask(each, texts("CERN", "a song")) for each in (predictor, plain)]
    assert mine["label"].tolist() == theirs["label"].tolist()


def changed(source: Path, target: Path, old: str, new: str) -> Path:
    shutil.copytree(source, target)
    content = (target / "MLmodel").read_text()
    assert old in content
    (target / "MLmodel").write_text(content.replace(old, new))
    return target


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pickled_model: model.skops", "pickled_model: ../model.skops", "lies outside of the model's folder"),
        ("pickled_model: model.skops", "pickled_model: absent.skops", "which is not there"),
        ("pickled_model: model.skops", "other: 1", "'pickled_model' is missing"),
        ("flavors:", "tastes:", "names no flavors"),
        ("flavors:", "flavors: [", "is broken"),
        ('"double"', '"map"', "V2 has no tensor for"),
        ("inputs: '[", "inputs: '[[", "cannot be used"),
    ],
)
def test_an_mlmodel_that_cannot_be_used_says_why(
    old: str, new: str, said: str, mlflow_models: Path, tmp_path: Path
) -> None:
    folder = changed(mlflow_models / "sklearn", tmp_path / "model", old, new)
    with pytest.raises(Invalid, match=said):
        opened(folder)


def test_flavours_that_are_not_served_are_named(mlflow_models: Path, tmp_path: Path) -> None:
    folder = changed(mlflow_models / "sklearn", tmp_path / "model", "  sklearn:", "  spark:")
    content = (folder / "MLmodel").read_text().replace("  python_function:", "  h2o:")
    (folder / "MLmodel").write_text(content)
    with pytest.raises(Invalid, match="flavors h2o, spark are not served") as refused:
        opened(folder)
    assert "lightgbm" in str(refused.value.hint)
    with pytest.raises(Invalid, match="has no flavor 'keras'"):
        opened(mlflow_models / "sklearn", options={"flavor": "keras"})


async def test_the_input_example_of_mlflow_is_what_is_compared(mlflow_models: Path, tmp_path: Path) -> None:
    folder = changed(mlflow_models / "sklearn", tmp_path / "model", "sklearn:", "sklearn:")
    example = json.loads((folder / "input_example.json").read_text())
    example["columns"] = [*reversed(example["columns"])]
    example["data"] = [[*reversed(row)] for row in example["data"]]
    (folder / "input_example.json").write_text(json.dumps(example))
    rows = opened(folder).sample()
    assert rows is not None
    assert rows[0][0].tolist() == [5.1, 3.5, 1.4, 0.2]
