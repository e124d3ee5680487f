"""Pipelines of scikit-learn: compiled with all that prepares the rows, and strict about the same rows as the original."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    StandardScaler,
    TargetEncoder,
)
from tests.integration.modelserver.formats.test_transformers import texts

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compile import Order, compile_model
from mlaas.modelserver.compiled import read
from mlaas.modelserver.compiled.program import Answer
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import Opened, Original

RANDOM = np.random.default_rng(5)
NUMBERS = RANDOM.normal(size=(80, 4))
LABELS = (NUMBERS[:, 0] + NUMBERS[:, 1] > 0).astype(int)
TABLE = pandas.DataFrame(
    {
        "energy": NUMBERS[:, 0],
        "charge": RANDOM.integers(-1, 2, 80).astype(float),
        "kind": RANDOM.choice(["muon", "electron", "photon"], 80),
        "region": RANDOM.choice(["barrel", "endcap"], 80),
    }
)


def both(model: Any, folder: Path) -> tuple[Original, Answer]:
    """A fitted model as scikit-learn answers, and compiled. Fails with the reason where it is not compiled."""
    source, target = folder / "model", folder / "compiled"
    source.mkdir()
    target.mkdir()
    skops.io.dump(model, source / "model.skops")
    document = compile_model(Order(source=str(source), target=str(target), format="sklearn"))
    assert document["kind"] == "program", document.get("reason")
    original = registry.detect(source).open(Opened(source))
    assert isinstance(original, Original)
    return original, read.answer_of(document, target, source)


def agree(original: Original, compiled: Answer, *inputs: Any) -> None:
    names = [spec.name for spec in original.signature.outputs]
    for mine, theirs in zip(compiled(list(inputs), names), original.predict(list(inputs), names), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


NUMERIC: dict[str, Callable[[], Any]] = {
    "pca": lambda: PCA(2),
    "whitened": lambda: PCA(2, whiten=True),
    "svd": lambda: TruncatedSVD(2, random_state=0),
    "best": lambda: SelectKBest(k=2),
    "variance": VarianceThreshold,
    "powers": lambda: PolynomialFeatures(2),
    "norm": lambda: Normalizer("l1"),
    "binary": Binarizer,
    "impute": lambda: SimpleImputer(add_indicator=True),
    "union": lambda: FeatureUnion([("a", PCA(1)), ("b", StandardScaler()), ("c", "passthrough")]),
}


@pytest.mark.parametrize("name", NUMERIC)
def test_steps_on_numbers(name: str, tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), NUMERIC[name](), LogisticRegression()).fit(NUMBERS, LABELS)
    agree(*both(model, tmp_path), NUMBERS[:7])


ENCODERS: dict[str, Callable[[], Any]] = {
    "one-hot": OneHotEncoder,
    "one-hot, the first dropped": lambda: OneHotEncoder(drop="first"),
    "one-hot, unknown ones ignored": lambda: OneHotEncoder(handle_unknown="ignore"),
    "ordinal": OrdinalEncoder,
    "ordinal, unknown ones -1": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "target": TargetEncoder,
}
TAKES_UNKNOWN = {"one-hot, unknown ones ignored", "ordinal, unknown ones -1", "target"}


def columns(table: pandas.DataFrame) -> list[Any]:
    return [
        texts(*table[name]).reshape(-1, 1) if table[name].dtype.kind not in "fi" else table[[name]].to_numpy()
        for name in table.columns
    ]


@pytest.mark.parametrize("final", [LogisticRegression, lambda: RandomForestClassifier(10, random_state=0)])
@pytest.mark.parametrize("name", ENCODERS)
def test_categories_are_encoded_and_unseen_ones_refused_as_by_the_original(
    name: str, final: Callable[[], Any], tmp_path: Path
) -> None:
    prepared = ColumnTransformer(
        [("numbers", StandardScaler(), ["charge", "energy"]), ("words", ENCODERS[name](), ["kind", "region"])]
    )
    model = make_pipeline(prepared, final()).fit(TABLE, LABELS)
    original, compiled = both(model, tmp_path)
    agree(original, compiled, *columns(TABLE[:9]))
    unseen = columns(TABLE[:3].assign(kind="tau"))
    if name in TAKES_UNKNOWN:
        agree(original, compiled, *unseen)
        return
    with pytest.raises(Invalid, match="tau"):
        original.predict(unseen, ["predict"])
    with pytest.raises(Invalid, match="'tau' in 'kind', which the model was not trained with") as refused:
        compiled(unseen, ["predict"])
    assert "muon" in str(refused.value.hint)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_an_encoder_alone_before_the_model(tmp_path: Path) -> None:
    table = TABLE[["kind", "region"]]
    original, compiled = both(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(table, LABELS), tmp_path)
    agree(original, compiled, *columns(table[:9]))


def test_columns_that_are_imputed_may_be_missing_and_others_may_not(tmp_path: Path) -> None:
    prepared = ColumnTransformer(
        [("a", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [0, 2])], remainder="passthrough"
    )
    original, compiled = both(make_pipeline(prepared, Ridge()).fit(NUMBERS, LABELS), tmp_path)
    rows = NUMBERS[:4].copy()
    rows[1, 2] = np.nan
    agree(original, compiled, rows)
    for column, value in ((1, np.nan), (0, np.inf)):
        bad = NUMBERS[:4].copy()
        bad[2, column] = value
        with pytest.raises(Invalid):
            original.predict([bad], ["predict"])
        with pytest.raises(Invalid, match="Row 2"):
            compiled([bad], ["predict"])


def test_what_cannot_be_compiled_says_so(tmp_path: Path) -> None:
    prepared = ColumnTransformer([("words", OneHotEncoder(min_frequency=30), ["kind"])])
    with pytest.raises(AssertionError, match="joins rare categories"):
        both(make_pipeline(prepared, LogisticRegression()).fit(TABLE, LABELS), tmp_path)
