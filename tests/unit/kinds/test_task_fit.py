"""What is refused of a `fit` before anything is read: fields, and the nearest name that there is."""

from typing import Any

import pytest

from mlaas.kernel.errors import Invalid
from mlaas.kernel.validation import validated
from mlaas.kernel.workload import Resources
from mlaas.kinds.task.form import read
from mlaas.kinds.task.plan import MODULES, requested
from mlaas.kinds.task.references import readings
from mlaas.kinds.task.schema import TaskSpec, parse

FIT: dict[str, Any] = {
    "recipe": "fit",
    "estimator": "sklearn.linear_model.LogisticRegression",
    "dataset": {"path": "iris.csv"},
    "target": "species",
}
BOOSTER = "xgboost.XGBClassifier"
NETWORK = {**FIT, "estimator": "keras.Sequential"}
SIGMOID = {"Dense": {"units": 1, "activation": "sigmoid"}}


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        (
            {"estimator": "sklearn.linear_model.LogisticRegresion"},
            "estimator",
            "sklearn.linear_model.LogisticRegression",
        ),
        ({"estimator": "LogisticRegression"}, "estimator", "sklearn.linear_model.LogisticRegression"),
        ({"estimator": "sklearn.ensemble.XGBClassifier"}, "estimator", "xgboost.XGBClassifier"),
        ({"estimator": "os.system"}, "estimator", "there is no estimator"),
        ({"estimator": "sklearn.cluster.DBSCAN"}, "estimator", "no answer for rows"),
        ({"parameters": {"c": 1.0}}, "parameters.c", "did you mean 'C'?"),
        ({"parameters": {"max_itr": 5}}, "parameters.max_itr", "did you mean 'max_iter'?"),
        ({"estimator": BOOSTER, "parameters": {"eta": 0.1}}, "parameters.eta", "no parameter 'eta'"),
        ({"target": None}, "target", "is missing"),
        ({"features": ["a", "species"]}, "features.1", "is the target"),
        ({"features": ["a", "a"]}, "features.1", "named twice"),
        ({"metrics": ["accuracy", "rmse"]}, "metrics.1", "no metric 'rmse'"),
        ({"metrics": ["acuracy"]}, "metrics.0", "did you mean 'accuracy'?"),
        ({"early_stopping": {"patience": 5}}, "early_stopping", "is for XGBoost, LightGBM and Keras"),
        (
            {"estimator": "sklearn.neighbors.KNeighborsClassifier", "sample_weight": "w"},
            "sample_weight",
            "cannot weigh",
        ),
        ({"dataset": {"path": "x", "label_column": "y"}}, "dataset.label_column", "named by target"),
        ({"dataset": {"path": "x", "format": "text"}}, "dataset.format", "fitted to a table"),
        ({"dataset": {"path": "x", "train_test_split": 2.5}}, "dataset.train_test_split", "2.5"),
        ({"cross_validation": {"folds": 1}}, "cross_validation.folds", "2"),
        ({"preprocessing": {"numeric": {"scale": "zscore"}}}, "preprocessing.numeric.scale", "standard"),
        ({"estimator": "sklearn.cluster.KMeans", "cross_validation": {}}, "cross_validation", "clustering"),
        ({"model_save": {"path": "task:other"}}, "model_save.path", "another"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_field(change: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        validated(TaskSpec, {**FIT, **change})
    assert caught.value.field == field
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("parameters", "field", "said"),
    [
        ({}, "parameters.layers", "missing"),
        ({"layers": []}, "parameters.layers", "must not be empty"),
        ({"layers": [{"Dens": {"units": 1}}]}, "parameters.layers.0.Dens", "did you mean 'Dense'?"),
        ({"layers": [{"Dense": {"unit": 1}}]}, "parameters.layers.0.Dense", "units"),
        ({"layers": [{"Dropout": {"rate": 2.0}}, SIGMOID]}, "parameters.layers.0.Dropout.rate", "less than 1"),
        ({"layers": [SIGMOID], "loss": "sparse_categorical_crossentropy"}, "parameters", "softmax"),
        ({"layers": [{"Dense": {"units": 2}}], "loss": "mse"}, "parameters", "one unit"),
        ({"layers": [SIGMOID], "optimizer": {"name": "Adamm"}}, "parameters.optimizer.name", "Adam"),
        ({"layers": [SIGMOID], "epoch": 3}, "parameters.epoch", "did you mean 'epochs'?"),
    ],
)
def test_what_a_network_cannot_be_is_refused_at_its_field(parameters: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        validated(TaskSpec, {**NETWORK, "parameters": parameters})
    assert str(caught.value.field).startswith(field)
    assert said in str(caught.value.errors) + caught.value.message


def test_a_network_needs_no_more_than_its_layers() -> None:
    parsed = parse({**NETWORK, "parameters": {"layers": [SIGMOID]}})
    assert parsed.recipe == "fit"


def test_the_form_finds_a_fit_by_its_estimator() -> None:
    filled = read({key: value for key, value in FIT.items() if key != "recipe"} | {"name": "iris"})
    assert (filled.name, filled.spec["recipe"], filled.spec["target"]) == ("iris", "fit", "species")
    with pytest.raises(Invalid, match="exactly one action"):
        read({"estimator": "x", "model_train": {}})


def test_a_fit_reads_its_data_set_and_takes_one_core() -> None:
    spec = parse(FIT)
    assert [(each.field, each.role) for each in readings(spec)] == [("dataset", "dataset")]
    assert requested(spec, Resources(cpu=8, memory=64 << 30)) == Resources(cpu=1, memory=4 << 30)
    assert MODULES["fit"] == "mlaas.runtimes.tabular.fit"
