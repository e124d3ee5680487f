"""What a data set or an estimator cannot do is said with the field, the row and the way out."""

from pathlib import Path
from typing import Any

import pytest

from mlaas.kernel.errors import Invalid

from .conftest import MIXED, NUMBERS, Fit, mixed, numbers, write_csv

LOGISTIC = "sklearn.linear_model.LogisticRegression"
LINEAR = "sklearn.linear_model.LinearRegression"
NO_ENERGY = {"columns": {"energy": "drop"}}


def changed(tmp_path: Path, row: int, column: str, value: Any) -> Path:
    """The table of numbers with one cell changed; rows count from 1."""
    rows = numbers()
    rows[row - 1][NUMBERS.index(column)] = value
    return write_csv(tmp_path / "changed.csv", NUMBERS, rows)


def refusal(fit: Fit, *args: Any, **params: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        fit(*args, **params)
    assert not Path("output").exists()
    return caught.value


def test_a_column_that_is_not_there(fit: Fit, table: Path) -> None:
    error = refusal(fit, table, LOGISTIC, target="Kinds")
    assert (error.field, error.hint and error.hint[:21]) == ("target", "Did you mean 'kind'? ")
    assert refusal(fit, table, LOGISTIC, target="kind", features=["a", "e"]).field == "features.1"
    assert refusal(fit, table, LOGISTIC, target="kind", sample_weight="w").field == "sample_weight"
    preprocessing = {"columns": {"z": "drop"}}
    error = refusal(fit, table, LOGISTIC, target="kind", preprocessing=preprocessing)
    assert error.field == "preprocessing.columns.z"


def test_a_target_with_a_missing_value(fit: Fit, tmp_path: Path) -> None:
    error = refusal(fit, changed(tmp_path, 7, "kind", ""), LOGISTIC, target="kind", preprocessing=NO_ENERGY)
    assert error.field == "target"
    assert "1 row; the first is row 7" in error.message
    error = refusal(fit, changed(tmp_path, 9, "energy", ""), LINEAR, target="energy", features=["a"])
    assert "the first is row 9" in error.message


def test_a_target_with_one_class_or_one_value(fit: Fit, tmp_path: Path) -> None:
    rows = [[i, "signal", 5.0] for i in range(20)]
    data = write_csv(tmp_path / "one.csv", ("x", "kind", "energy"), rows)
    error = refusal(fit, data, LOGISTIC, target="kind", features=["x"])
    assert error.field == "target"
    assert "one class only, 'signal'" in error.message
    assert "IsolationForest" in str(error.hint)
    error = refusal(fit, data, LINEAR, target="energy", features=["x"])
    assert "5 in every row" in error.message


def test_numbers_to_predict_with_a_classifier(fit: Fit, table: Path) -> None:
    error = refusal(fit, table, LOGISTIC, target="energy", features=["a"])
    assert error.field == "target"
    assert "regressor" in str(error.hint)


def test_a_word_in_a_column_of_numbers(fit: Fit, tmp_path: Path) -> None:
    error = refusal(fit, changed(tmp_path, 12, "b", "broken"), LOGISTIC, target="kind", preprocessing=NO_ENERGY)
    assert error.field == "preprocessing.columns.b"
    assert "row 12 has 'broken'" in error.message
    error = refusal(fit, changed(tmp_path, 3, "energy", "high"), LINEAR, target="energy", features=["a"])
    assert error.field == "target"
    assert "row 3 has 'high'" in error.message


def test_a_missing_number_for_an_estimator_that_takes_none(fit: Fit, tmp_path: Path) -> None:
    data = changed(tmp_path, 4, "c", "")
    error = refusal(fit, data, LOGISTIC, target="kind", preprocessing=NO_ENERGY)
    assert error.field == "preprocessing.numeric.impute"
    assert "row 4" in error.message
    assert "impute: median" in str(error.hint)
    booster = "sklearn.ensemble.HistGradientBoostingClassifier"
    assert fit(data, booster, target="kind", preprocessing=NO_ENERGY)["evaluation"]["accuracy"] > 0.8


def test_a_missing_category(fit: Fit, mixed_table: Path) -> None:
    preprocessing = {"numeric": {"impute": "mean"}, "columns": {"note": "drop"}}
    error = refusal(fit, mixed_table, LOGISTIC, target="good", preprocessing=preprocessing)
    assert error.field == "preprocessing.categorical.impute"
    assert "'detector'" in error.message


def test_an_infinite_number(fit: Fit, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = tmp_path / "infinite.parquet"
    x = [float("inf") if i == 4 else float(i) for i in range(20)]
    pq.write_table(pa.table({"x": x, "y": [i % 2 for i in range(20)]}), data)
    error = refusal(fit, data, LOGISTIC, target="y")
    assert "row 5" in error.message


def test_more_folds_than_rows(fit: Fit, table: Path, tmp_path: Path) -> None:
    error = refusal(fit, table, LINEAR, target="energy", features=["a"], cross_validation={"folds": 500})
    assert (error.field, "the 240 training rows" in error.message) == ("cross_validation.folds", True)
    rows = [[i, "rare" if i < 4 else "usual"] for i in range(60)]
    data = write_csv(tmp_path / "rare.csv", ("x", "kind"), rows)
    error = refusal(fit, data, LOGISTIC, target="kind", cross_validation={"folds": 5})
    assert "smallest class" in error.message


def test_too_many_categories(fit: Fit, tmp_path: Path) -> None:
    rows = [[f"event-{i}", i % 2] for i in range(200)]
    data = write_csv(tmp_path / "names.csv", ("name", "odd"), rows)
    limited = {"categorical": {"max_levels": 100}}
    error = refusal(fit, data, LOGISTIC, target="odd", preprocessing=limited)
    assert error.field == "preprocessing.columns.name"
    result = fit(data, LOGISTIC, target="odd")
    assert any("200 categories" in text for text in result["warnings"])


def test_a_parameter_of_a_wrong_value(fit: Fit, table: Path) -> None:
    error = refusal(fit, table, LOGISTIC, target="kind", preprocessing=NO_ENERGY, parameters={"C": -1})
    assert error.field == "parameters.C"
    assert "(0.0, inf]" in error.message
    wrong = {"max_depth": -5}
    error = refusal(fit, table, "xgboost.XGBClassifier", target="kind", preprocessing=NO_ENERGY, parameters=wrong)
    assert error.field in ("parameters.max_depth", "estimator")
    assert "max_depth" in error.message
    error = refusal(fit, table, LOGISTIC, target="kind", preprocessing=NO_ENERGY,
                    parameters={"class_weight": {"signal": 2, "noise": 1}})  # fmt: skip
    assert (error.field, "'noise'" in error.message) == ("parameters.class_weight", True)


def test_weights_that_are_none(fit: Fit, tmp_path: Path) -> None:
    rows = mixed()
    rows[9][MIXED.index("weight")] = -1
    data = write_csv(tmp_path / "weights.csv", MIXED, rows)
    error = refusal(fit, data, LOGISTIC, target="good", sample_weight="weight", features=["charge"])
    assert (error.field, "row 10" in error.message) == ("sample_weight", True)


def test_texts_for_an_estimator_that_takes_no_sparse_rows(fit: Fit, mixed_table: Path) -> None:
    preprocessing = {"columns": {"note": "text"}}
    error = refusal(
        fit,
        mixed_table,
        "sklearn.naive_bayes.GaussianNB",
        target="good",
        features=["note"],
        preprocessing=preprocessing,
    )
    assert error.field == "estimator"
    assert "LogisticRegression" in str(error.hint)


def test_a_network_whose_last_layer_does_not_fit_the_classes(fit: Fit, table: Path) -> None:
    layers = [{"Dense": {"units": 3, "activation": "softmax"}}]
    error = refusal(
        fit, table, "keras.Sequential", target="kind", preprocessing=NO_ENERGY, parameters={"layers": layers}
    )
    assert error.field == "parameters.layers"
    assert "3 units; the target has 2 classes" in error.message
