"""However a model of a table's rows is asked, it says what its library says: compiled, by its own framework in a worker, row by
row, in a batch with the rows of others, behind a canary. Whatever the rows are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
import skops.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tests.integration.modelserver.formats.agreement import Case, Inputs, Plain, Ways, check, parameters, served

IRIS, LABELS = load_iris(return_X_y=True)
KINDS = ("muon", "electron", "photon")
RANDOM = np.random.default_rng(5)
TABLE = pandas.DataFrame({"energy": RANDOM.normal(size=80), "kind": RANDOM.choice(KINDS, 80)})


def numbers(nan: bool = False) -> st.SearchStrategy[Inputs]:
    """One to six flowers. Values that float32 holds, so that nothing is lost where a library computes in it."""
    values = st.floats(-2, 10, width=32, allow_nan=False)
    elements = values | st.just(np.nan) if nan else values
    return arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=elements).map(lambda rows: [rows])


@st.composite
def columns(draw: st.DrawFn) -> Inputs:
    """A number and a text a row."""
    rows = draw(st.lists(st.tuples(st.floats(-5, 5), st.sampled_from(KINDS)), min_size=1, max_size=6))
    kinds = np.array([kind.encode() for _, kind in rows], dtype=object)
    return [np.array([[energy] for energy, _ in rows]), kinds.reshape(-1, 1)]


def answers(model: Any) -> Plain:
    """Of a scikit-learn estimator."""

    def answer(inputs: Inputs) -> dict[str, Any]:
        rows = inputs[0].astype(np.float64)
        return {"predict": model.predict(rows), "probabilities": model.predict_proba(rows)}

    return answer


def linear(folder: Path) -> Plain:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS, LABELS)
    skops.io.dump(model, folder / "model.skops")
    return answers(model)


def forest(folder: Path) -> Plain:
    model = RandomForestClassifier(20, random_state=0).fit(IRIS, LABELS)
    skops.io.dump(model, folder / "model.skops")
    return answers(model)


def mixed(folder: Path) -> Plain:
    prepared = ColumnTransformer([("numbers", StandardScaler(), ["energy"]), ("words", OneHotEncoder(), ["kind"])])
    model = make_pipeline(prepared, LogisticRegression()).fit(TABLE, RANDOM.integers(0, 3, 80))
    skops.io.dump(model, folder / "model.skops")

    def answer(inputs: Inputs) -> dict[str, Any]:
        kinds = [item.decode() for item in inputs[1][:, 0]]
        table = pandas.DataFrame({"energy": inputs[0][:, 0], "kind": kinds})
        return {"predict": model.predict(table), "probabilities": model.predict_proba(table)}

    return answer


def pickled(folder: Path) -> Plain:
    model = LogisticRegression(max_iter=500).fit(IRIS, LABELS)
    joblib.dump(model, folder / "model.joblib")
    return answers(model)


def converted(folder: Path) -> Plain:
    """scikit-learn's estimator as ONNX: the answer is scikit-learn's, the labels have ONNX's name."""
    import skl2onnx

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS, LABELS)
    made = skl2onnx.to_onnx(model, IRIS[:1].astype(np.float32), options={"zipmap": False})
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    answer = answers(model)

    def named(inputs: Inputs) -> dict[str, Any]:
        found = answer(inputs)
        return {"label": found["predict"], "probabilities": found["probabilities"]}

    return named


def xgboost(folder: Path) -> Plain:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=10).fit(IRIS, LABELS)
    model.save_model(folder / "model.ubj")
    return lambda inputs: {"predict": model.predict(inputs[0]), "probabilities": model.predict_proba(inputs[0])}


def lightgbm(folder: Path) -> Plain:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(IRIS, LABELS).booster_
    model.save_model(folder / "model.txt")
    return lambda inputs: {"predict": model.predict(inputs[0].astype(np.float64))}


CASES = {
    "skops, linear": Case(linear, numbers(), 1e-9, 1e-9),
    "skops, forest": Case(forest, numbers(), 1e-9, 1e-9),
    "skops, columns": Case(mixed, columns(), 1e-9, 1e-9),
    "joblib": Case(pickled, numbers(), 1e-9, 1e-9, served={"trusted": True}),
    "scikit-learn as ONNX": Case(converted, numbers(), 1e-5, 1e-5),
    "xgboost": Case(xgboost, numbers(nan=True), 1e-5, 1e-6),
    "lightgbm": Case(lightgbm, numbers(nan=True), 1e-9, 1e-9),
}


@pytest.fixture(scope="module", params=parameters(CASES))
def ways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    with served(CASES[request.param], tmp_path_factory.mktemp("agreement")) as found:
        yield found


@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_way_of_asking_gives_the_librarys_answer(ways: Ways, data: st.DataObject) -> None:
    check(ways, data.draw(ways.case.rows))
