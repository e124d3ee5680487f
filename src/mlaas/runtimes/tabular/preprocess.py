"""What is done with the columns of each type before the estimator, as a scikit-learn ColumnTransformer."""

from typing import Any

from mlaas.runtimes.tabular.spec import Preprocessing
from mlaas.runtimes.tabular.table import Column


def transformer(columns: list[Column], wanted: Preprocessing) -> Any | None:
    """The transformer of a matrix whose columns are `columns`; None when nothing is to be done with any of them.

    It selects columns by their place: the matrix has no names. It is not fitted yet; categories are those of the columns.
    """
    from sklearn.compose import ColumnTransformer

    steps: list[tuple[str, Any, Any]] = [
        ("numeric", _numeric(wanted), _places(columns, "numeric")),
        ("passthrough", "passthrough", _places(columns, "passthrough")),
        ("categorical", _categorical(columns, wanted), _places(columns, "categorical")),
    ]
    texts = _places(columns, "text")
    steps = [step for step in steps if step[2]]
    steps += [(f"text-{place}", _text(wanted), place) for place in texts]
    if all(step[1] == "passthrough" for step in steps):
        return None
    return ColumnTransformer(steps, sparse_threshold=1.0 if texts else 0.0)


def _places(columns: list[Column], kind: str) -> list[int]:
    return [place for place, column in enumerate(columns) if column.kind == kind]


def _numeric(wanted: Preprocessing) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    settings = wanted.numeric
    steps: list[tuple[str, Any]] = []
    if settings.impute == "zero":
        steps.append(("impute", SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)))
    elif settings.impute is not None:
        steps.append(("impute", SimpleImputer(strategy=settings.impute, keep_empty_features=True)))
    scalers = {"standard": StandardScaler, "min-max": MinMaxScaler, "robust": RobustScaler}
    if settings.scale is not None:
        steps.append(("scale", scalers[settings.scale]()))
    return _chained(steps)


def _categorical(columns: list[Column], wanted: Preprocessing) -> Any:
    import numpy as np
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    settings = wanted.categorical
    steps: list[tuple[str, Any]] = []
    if settings.impute is not None:
        fill = {"fill_value": "missing"} if settings.impute == "missing" else {}
        strategy = "constant" if settings.impute == "missing" else settings.impute
        steps.append(("impute", SimpleImputer(missing_values="", strategy=strategy, **fill)))
    levels = [np.array(column.categories, dtype=object) for column in columns if column.kind == "categorical"]
    ignore = settings.unknown == "ignore"
    if settings.encode == "one-hot":
        encoder = OneHotEncoder(
            categories=levels,
            handle_unknown="ignore" if ignore else "error",
            sparse_output=bool(_places(columns, "text")),
        )
    elif ignore:
        encoder = OrdinalEncoder(categories=levels, handle_unknown="use_encoded_value", unknown_value=-1)
    else:
        encoder = OrdinalEncoder(categories=levels)
    return _chained([*steps, ("encode", encoder)])


def _text(wanted: Preprocessing) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    settings = wanted.text
    return TfidfVectorizer(
        max_features=settings.max_features,
        ngram_range=(1, settings.ngrams),
        min_df=settings.min_df,
        sublinear_tf=settings.sublinear_tf,
    )


def _chained(steps: list[tuple[str, Any]]) -> Any:
    from sklearn.pipeline import Pipeline

    if not steps:
        return "passthrough"
    return steps[0][1] if len(steps) == 1 else Pipeline(steps)
