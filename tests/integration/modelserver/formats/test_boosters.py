"""XGBoost and LightGBM files: recognised, compiled, and compared with the original on fresh rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris

from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import DTYPES, Tensor


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(Cache(tmp_path / "cache"))


@pytest.fixture
def rows() -> Any:
    iris, _ = load_iris(return_X_y=True)
    return iris + np.random.default_rng(1).normal(size=iris.shape)


async def answer(predictor: Predictor, rows: Any, output: str) -> Any:
    array = rows.astype(DTYPES[predictor.signature.inputs[0].datatype])
    given = predictor.infer(Request([Tensor(predictor.signature.inputs[0].name, array)], [output]))
    response = given if isinstance(given, Response) else await given
    return response.outputs[0].array


@pytest.mark.parametrize("file", ["model.ubj", "model.json"])
async def test_an_xgboost_classifier(loading: Loading, tmp_path: Path, rows: Any, file: str) -> None:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=20).fit(*load_iris(return_X_y=True))
    (tmp_path / "model").mkdir()
    model.save_model(tmp_path / "model" / file)
    predictor = await loading.load(Deployment(revision="a", source=str(tmp_path / "model")))
    assert predictor.status()["compiled"] is True
    assert (await answer(predictor, rows, "predict")).tolist() == model.predict(rows).tolist()
    found = await answer(predictor, rows, "probabilities")
    np.testing.assert_allclose(found, model.predict_proba(rows), rtol=1e-4, atol=1e-6)


async def test_a_lightgbm_booster(loading: Loading, tmp_path: Path, rows: Any) -> None:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(*load_iris(return_X_y=True))
    (tmp_path / "model").mkdir()
    model.booster_.save_model(tmp_path / "model" / "model.txt")
    predictor = await loading.load(Deployment(revision="a", source=str(tmp_path / "model")))
    assert predictor.status()["compiled"] is True
    np.testing.assert_allclose(await answer(predictor, rows, "predict"), model.booster_.predict(rows), rtol=1e-9)
