"""ONNX models: run as they are, with the graph's own names, shapes and datatypes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(Cache(tmp_path / "cache"))


async def answer(predictor: Predictor, rows: Any, *outputs: str) -> list[Any]:
    given = predictor.infer(Request([Tensor(predictor.signature.inputs[0].name, rows)], list(outputs)))
    response = given if isinstance(given, Response) else await given
    return [tensor.array for tensor in response.outputs]


@pytest.mark.parametrize("layout", ["model.onnx", "1/model.onnx", "other.onnx"])
async def test_a_converted_classifier_answers_as_the_original(loading: Loading, tmp_path: Path, layout: str) -> None:
    import skl2onnx

    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    made = skl2onnx.to_onnx(model, rows[:1], options={"zipmap": False})
    file = tmp_path / "iris" / layout
    file.parent.mkdir(parents=True)
    file.write_bytes(made.SerializeToString())
    folder = file.parent if layout.startswith("1/") else tmp_path / "iris"
    predictor = await loading.load(Deployment(revision="a", source=str(folder)))
    found, probabilities = await answer(predictor, rows, "label", "probabilities")
    assert found.tolist() == model.predict(rows).tolist()
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=1e-5)
    assert predictor.signature.inputs[0].shape == (-1, 4)
    assert predictor.signature.inputs[0].datatype == "FP32"
    assert predictor.signature.batched


async def test_a_file_that_is_no_onnx_model_is_refused_in_words(loading: Loading, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(Invalid, match=r"cannot open model\.onnx"):
        await loading.load(Deployment(revision="a", source=str(tmp_path)))
