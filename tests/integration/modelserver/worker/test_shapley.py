"""Shapley values in a worker: they sum up to the model's own answers, for columns of numbers and of text."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import Request
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.worker.pool import Pool
from mlaas.modelserver.worker.start import start

Explain = Callable[..., Awaitable[Pool]]


@pytest.fixture
async def explaining(tmp_path: Path) -> AsyncIterator[Explain]:
    """`await explaining(estimator, rows)`: a worker that explains; `rows` is the folder's input example."""
    import skops.io

    pools: list[Pool] = []

    async def begin(estimator: Any, rows: Any = None, **options: Any) -> Pool:
        folder = tmp_path / "model"
        folder.mkdir()
        skops.io.dump(estimator, folder / "model.skops")
        if rows is not None:
            (folder / "input_example.json").write_text(json.dumps({"rows": rows}))
        made = {"explain": {"method": "shap", **options}}
        pool = await start(Deployment(revision="explained", compile=False, options=made), folder)
        pools.append(pool)
        return pool

    yield begin
    for pool in pools:
        await pool.close()


def _sums(found: dict[str, Any]) -> Any:
    return found["base_values"] + found["shap_values"].sum(axis=1)


async def _explained(pool: Pool, tensors: list[Tensor]) -> dict[str, Any]:
    response = await pool.explain(Request(tensors))
    return {tensor.name: tensor.array for tensor in response.outputs}


async def test_exact_values_of_a_classifier_sum_up_to_its_probabilities(explaining: Explain) -> None:
    import shap
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    pool = await explaining(model, rows[::3].tolist())
    asked = rows[[0, 70, 140]]
    found = await _explained(pool, [Tensor("input-0", asked)])
    assert found["shap_values"].shape == (3, 4, 3)
    assert np.allclose(_sums(found), model.predict_proba(asked), atol=1e-9)
    assert np.allclose(found["base_values"][0], model.predict_proba(rows[::3]).mean(axis=0), atol=1e-9)
    theirs = shap.explainers.Exact(model.predict_proba, shap.maskers.Independent(rows[::3], max_samples=100))(asked)
    assert np.allclose(found["shap_values"], theirs.values, atol=1e-9)
    # petal length is what tells setosa: the sepal's width says little
    assert abs(found["shap_values"][0, 2, 0]) > 3 * abs(found["shap_values"][0, 1, 0])


async def test_permutations_of_many_columns_sum_up_too(explaining: Explain) -> None:
    import shap
    from sklearn.ensemble import RandomForestRegressor

    chance = np.random.default_rng(1)
    rows = chance.normal(size=(200, 14))
    model = RandomForestRegressor(20, random_state=0).fit(rows, rows[:, 0] * 3 + rows[:, 1] ** 2)
    pool = await explaining(model, rows[:20].tolist())
    asked = rows[:2].astype(np.float32)  # as its signature says
    found = await _explained(pool, [Tensor("input-0", asked)])
    assert found["shap_values"].shape == (2, 14)
    assert np.allclose(_sums(found), model.predict(asked), atol=1e-6)
    assert np.abs(found["shap_values"]).sum(axis=0).argmax() == 0
    masker = shap.maskers.Independent(rows[:20], max_samples=100)
    theirs = shap.explainers.Permutation(model.predict, masker, seed=1)(asked, max_evals=600, silent=True)
    assert np.allclose(found["shap_values"], theirs.values, atol=0.1)
    again = await _explained(pool, [Tensor("input-0", asked)])
    assert np.array_equal(found["shap_values"], again["shap_values"])


async def test_columns_of_text_are_explained_with_those_of_numbers(explaining: Explain) -> None:
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"detector": ["barrel", "endcap", "barrel", "forward"] * 10, "energy": np.arange(40.0)})
    weights = frame["detector"].map({"barrel": 0.0, "endcap": 100.0, "forward": 50.0})
    encode = ColumnTransformer([("kind", OneHotEncoder(), ["detector"])], remainder="passthrough")
    model = make_pipeline(encode, LinearRegression()).fit(frame, weights + 2 * frame["energy"])
    pool = await explaining(model, frame.to_dict("records"))
    detector = np.array([b"endcap", b"barrel"], dtype=object).reshape(-1, 1)
    energy = np.array([[30.0], [1.0]])
    specs = pool.signature.inputs
    found = await _explained(
        pool,
        [
            Tensor(specs[0].name, detector.reshape([2, *specs[0].shape[1:]]), "BYTES"),
            Tensor(specs[1].name, energy.reshape([2, *specs[1].shape[1:]]).astype(np.float64)),
        ],
    )
    asked = pd.DataFrame({"detector": ["endcap", "barrel"], "energy": [30.0, 1.0]})
    assert np.allclose(_sums(found), model.predict(asked), atol=1e-6)
    assert found["shap_values"][0, 0] == pytest.approx(100 - weights.mean(), abs=1e-6)


async def test_without_a_background_the_fix_is_said(explaining: Explain) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    with pytest.raises(Invalid, match="brings none") as caught:
        await explaining(model)
    assert caught.value.field == "explainer.options.background"
    assert "background: [[" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"background": [[1.0, 2.0]]}, "explainer.options.background"),
        ({"background": 3}, "explainer.options.background"),
        ({"output": "nothing"}, "explainer.options.output"),
        ({"bakground": []}, "explainer.options"),
    ],
)
async def test_wrong_options_are_refused(explaining: Explain, options: dict[str, Any], field: str) -> None:
    from sklearn.linear_model import LinearRegression

    with pytest.raises(Invalid) as caught:
        await explaining(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), [[0.5]], **options)
    assert caught.value.field == field
