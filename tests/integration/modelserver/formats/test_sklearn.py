"""scikit-learn models: trained, saved, compiled in a process of its own, and compared with the original on fresh rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(Cache(tmp_path / "cache"))


def answer(predictor: Predictor, rows: Any, *outputs: str) -> list[Any]:
    response = predictor.infer(Request([Tensor("input-0", np.asarray(rows))], list(outputs) or None))
    return [tensor.array for tensor in response.outputs]  # type: ignore[union-attr]


async def test_a_logistic_regression_is_served_compiled_and_answers_as_the_original(
    loading: Loading, tmp_path: Path
) -> None:
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    (tmp_path / "iris").mkdir()
    skops.io.dump(model, tmp_path / "iris" / "model.skops")
    predictor = await loading.load(Deployment(revision="a", source=str(tmp_path / "iris")))
    fresh = rows + np.random.default_rng(1).normal(size=rows.shape)
    found, probabilities = answer(predictor, fresh, "predict", "probabilities")
    assert found.tolist() == model.predict(fresh).tolist()
    np.testing.assert_allclose(probabilities, model.predict_proba(fresh), rtol=1e-9)
    status = predictor.status()
    assert status["compiled"] is True
    assert status["parity"]["labels_agree"] is True
    assert predictor.signature.inputs[0].shape == (-1, 4)
    assert [output.name for output in predictor.signature.outputs if output.default] == ["predict"]
