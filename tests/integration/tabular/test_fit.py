"""Estimators of each library fitted to small tables, and the folders that they leave."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from .conftest import Fit

NO_ENERGY = {"columns": {"energy": "drop"}}
PREPARED = {
    "numeric": {"impute": "median", "scale": "standard"},
    "categorical": {"impute": "missing"},
    "columns": {"run": "categorical", "note": "text"},
}


def read(name: str) -> Any:
    return json.loads(Path("output", name).read_text())


def through_onnx(rows: list[list[float]]) -> list[Any]:
    session = onnxruntime.InferenceSession("output/model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"input-0": np.array(rows, dtype=np.float32)})


@pytest.mark.parametrize(
    ("estimator", "file"),
    [
        ("sklearn.ensemble.RandomForestClassifier", "model.skops"),
        ("xgboost.XGBClassifier", "model.ubj"),
        ("lightgbm.LGBMClassifier", "model.txt"),
    ],
)
def test_a_classifier_leaves_a_native_model_and_one_in_onnx_that_agree(
    fit: Fit, table: Path, estimator: str, file: str
) -> None:
    result = fit(table, estimator, target="kind", preprocessing=NO_ENERGY, parameters={"n_estimators": 30})
    assert result["evaluation"]["accuracy"] > 0.85
    assert result["evaluation"]["roc_auc"] > 0.9
    assert result["evaluation"]["confusion"]["labels"] == ["background", "signal"]
    assert result["dataset"] == {"samples_train": 240, "samples_test": 60, "features": 4}
    signature = read("signature.json")
    assert signature["model"]["file"] == file
    assert signature["features"] == ["a", "b", "c", "d"]
    assert signature["classes"] == ["background", "signal"]
    assert [output["name"] for output in signature["outputs"]] == ["predict", "probabilities"]
    assert signature["onnx"]["difference"] <= 1e-5
    rows = read("input_example.json")["instances"]
    labels, probabilities = through_onnx(rows)
    assert probabilities.shape == (5, 2)
    assert np.allclose(_native(file, rows), probabilities, atol=1e-5)
    assert labels.tolist() == [signature["classes"][i] for i in probabilities.argmax(axis=1)]


def _native(file: str, rows: list[list[float]]) -> Any:
    """Probabilities of the native file, read back as its library reads it."""
    if file == "model.skops":
        import skops.io

        model = skops.io.load(f"output/{file}", trusted=read("signature.json")["model"]["trusted"])
        return model.predict_proba(np.array(rows))
    if file == "model.ubj":
        import xgboost

        second = xgboost.Booster(model_file=f"output/{file}").inplace_predict(np.array(rows))
    else:
        import lightgbm

        second = lightgbm.Booster(model_file=f"output/{file}").predict(np.array(rows))
    return np.column_stack([1 - second, second])


@pytest.mark.parametrize(
    "estimator", ["sklearn.linear_model.LinearRegression", "xgboost.XGBRegressor", "lightgbm.LGBMRegressor"]
)
def test_a_regressor_predicts_numbers(fit: Fit, table: Path, estimator: str) -> None:
    columns = {"columns": {"kind": "drop"}}
    result = fit(table, estimator, target="energy", preprocessing=columns, cross_validation={"folds": 3})
    assert set(result["evaluation"]) == {"mae", "rmse", "r2", "cross_validation"}
    assert result["evaluation"]["r2"] > 0.8
    assert len(result["evaluation"]["cross_validation"]["rmse"]["values"]) == 3
    assert read("signature.json")["outputs"][0]["shape"] == [-1]
    (numbers,) = through_onnx(read("input_example.json")["instances"])
    assert numbers.shape == (5,)
    assert np.all((numbers > 0) & (numbers < 20))


@pytest.mark.parametrize("estimator", ["xgboost.XGBClassifier", "lightgbm.LGBMClassifier"])
def test_a_booster_that_stops_early_keeps_its_best_round(fit: Fit, table: Path, estimator: str) -> None:
    common = {"target": "kind", "preprocessing": NO_ENERGY, "parameters": {"n_estimators": 400, "learning_rate": 0.3}}
    result = fit(table, estimator, early_stopping={"patience": 5}, **common)
    losses = next(values for name, values in result["history"].items() if name.startswith("validation_"))
    assert len(losses) < 400
    best = int(np.argmin(losses)) + 1
    if estimator.startswith("xgboost"):
        import xgboost

        rounds = xgboost.Booster(model_file="output/model.ubj").num_boosted_rounds()
    else:
        import lightgbm

        rounds = lightgbm.Booster(model_file="output/model.txt").num_trees()
    assert rounds == best


@pytest.mark.parametrize(
    "estimator", ["sklearn.linear_model.LogisticRegression", "lightgbm.LGBMClassifier", "xgboost.XGBClassifier"]
)
def test_columns_of_every_type_are_prepared_inside_the_model(fit: Fit, mixed_table: Path, estimator: str) -> None:
    result = fit(mixed_table, estimator, target="good", sample_weight="weight", preprocessing=PREPARED)
    assert result["evaluation"]["roc_auc"] > 0.75
    signature = read("signature.json")
    assert [(each["name"], each["datatype"], each["shape"]) for each in signature["inputs"]] == [
        ("energy", "FP64", [-1, 1]), ("charge", "FP64", [-1, 1]), ("detector", "BYTES", [-1, 1]),
        ("run", "INT64", [-1, 1]), ("note", "BYTES", [-1, 1]),
    ]  # fmt: skip
    assert signature["columns"][2]["categories"] == ["barrel", "endcap", "forward", "missing"]
    assert signature["columns"][3]["categories"] == [1, 2, 3]

    import skops.io

    model = skops.io.load("output/model.skops", trusted=signature["model"]["trusted"])
    rows = np.array(
        [[80.0, 1.0, "barrel", 2, "clean clean clean clean"], [5.0, 1.0, "", 1, "late late noisy noisy"]], object
    )
    assert model.predict(rows).tolist() == [1, 0]
    with pytest.raises(ValueError, match="unknown categories"):
        model.predict(np.array([[80.0, 1.0, "muon system", 2, "clean"]], object))


def test_missing_words_make_numbers_and_a_separate_test_file_is_used(fit: Fit, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [f"{i},{'NA' if i % 7 == 0 else i * 2},{i % 2}" for i in range(40)]
    (folder / "train.csv").write_text("x,y,odd\n" + "\n".join(lines[:30]) + "\n")
    (folder / "test.csv").write_text("x,y,odd\n" + "\n".join(lines[30:]) + "\n")
    preprocessing = {"numeric": {"impute": "mean"}}
    result = fit(
        folder,
        "sklearn.tree.DecisionTreeClassifier",
        target="odd",
        preprocessing=preprocessing,
        dataset={"train_test_split": None},
    )
    assert result["dataset"] == {"samples_train": 30, "samples_test": 10, "features": 2}
    assert [column["kind"] for column in read("signature.json")["columns"]] == ["numeric", "numeric"]


def test_detectors_clusterings_and_decompositions_need_no_target(fit: Fit, table: Path) -> None:
    only = {"features": ["a", "b", "c", "d"]}
    found = fit(table, "sklearn.covariance.EllipticEnvelope", cwd="1", parameters={"contamination": 0.1}, **only)
    assert 0 < found["evaluation"]["share"] < 0.3
    assert [output["name"] for output in read("signature.json")["outputs"]] == ["predict", "decision"]
    found = fit(table, "sklearn.cluster.KMeans", cwd="2", parameters={"n_clusters": 3}, **only)
    assert found["evaluation"]["silhouette"] > 0.1
    (clusters,) = through_onnx(read("input_example.json")["instances"])
    assert set(clusters.tolist()) <= {0, 1, 2}
    found = fit(table, "sklearn.decomposition.PCA", cwd="3", parameters={"n_components": 2}, **only)
    assert 0.4 < found["evaluation"]["explained_variance_ratio"] < 1
    assert read("signature.json")["outputs"][0]["shape"] == [-1, 2]


def test_the_same_task_leaves_the_same_bytes(fit: Fit, mixed_table: Path) -> None:
    hashes = [
        fit(mixed_table, "xgboost.XGBClassifier", cwd=cwd, target="good", preprocessing=PREPARED)["output"]["hash"]
        for cwd in ("first", "second")
    ]
    assert hashes[0] == hashes[1]
    other = fit(mixed_table, "xgboost.XGBClassifier", cwd="third", target="good", preprocessing=PREPARED, seed=1)
    assert other["output"]["hash"] != hashes[0]


def test_what_was_committed_is_answered_again_without_a_fit(fit: Fit, table: Path) -> None:
    first = fit(table, "sklearn.naive_bayes.GaussianNB", target="kind", preprocessing=NO_ENERGY)
    before = os.stat("output/model.skops").st_mtime_ns
    table.unlink()
    assert fit(table, "sklearn.naive_bayes.GaussianNB", target="kind", preprocessing=NO_ENERGY) == first
    assert os.stat("output/model.skops").st_mtime_ns == before
