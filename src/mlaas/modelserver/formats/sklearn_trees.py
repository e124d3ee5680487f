"""Trees and forests of scikit-learn: which there are, and in what precision they work."""

from typing import Any

FLOAT32 = frozenset(
    {
        "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
        "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
        "GradientBoostingClassifier", "GradientBoostingRegressor", "IsolationForest",
    }
)  # fmt: skip
"""Estimators that take their rows as float32 (`sklearn.tree._tree.DTYPE`) and compare them with float64 thresholds."""


def works_in_float32(model: Any) -> bool:
    """Whether an estimator of scikit-learn itself turns its rows into float32 first."""
    return type(model).__module__.startswith("sklearn.") and type(model).__name__ in FLOAT32
