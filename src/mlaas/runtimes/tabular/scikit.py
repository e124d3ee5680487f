"""scikit-learn's estimators, as a pipeline with the preparation of columns."""

import inspect
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mlaas.runtimes.tabular.archive import canonical_skops
from mlaas.runtimes.tabular.learner import Answer, Learner, Plan, Sample, Saved, Watch, refused
from mlaas.runtimes.tabular.preprocess import transformer
from mlaas.runtimes.tabular.table import Array


class ScikitLearn(Learner):
    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._prepare = transformer(plan.columns, plan.params.preprocessing)
        try:
            self._estimator = made(plan)
        except TypeError as error:
            raise refused(error, plan) from None
        self.model: Any = None

    def fit(self, train: Sample, validation: Sample | None, test: Sample | None, watch: Watch) -> None:
        from sklearn.pipeline import Pipeline

        plan = self.plan
        y = train.y
        if plan.classes is not None and y is not None:
            y = plan.classes.array()[y]
        steps = [("preprocessing", self._prepare)] if self._prepare is not None else []
        self.model = Pipeline([*steps, ("estimator", self._estimator)]) if steps else self._estimator
        weighing = {}
        if train.weight is not None:
            weighing = {"estimator__sample_weight" if steps else "sample_weight": train.weight}
        try:
            if plan.problem in ("classification", "regression"):
                self.model.fit(train.x, y, **weighing)
            else:
                self.model.fit(train.x, **weighing)
        except (ValueError, TypeError) as error:
            raise refused(error, plan) from None

    def answer(self, x: Array) -> Answer:
        model = self.model
        problem = self.plan.problem
        if problem == "classification":
            values = np.searchsorted(model.classes_, model.predict(x))
            if hasattr(model, "predict_proba"):
                return Answer(values, probabilities=model.predict_proba(x))
            return Answer(values, scores=model.decision_function(x) if hasattr(model, "decision_function") else None)
        if problem == "decomposition":
            return Answer(model.transform(x))
        values = np.asarray(model.predict(x))
        if problem == "outliers":
            return Answer(values, scores=model.decision_function(x))
        return Answer(values.reshape(len(values)))

    def inverse(self, components: Array) -> Array | None:
        """Of a decomposition: rows from components, where the estimator can."""
        from sklearn.exceptions import NotFittedError

        if self._prepare is not None or not hasattr(self._estimator, "inverse_transform"):
            return None
        try:
            rows: Array = self._estimator.inverse_transform(components)
        except NotFittedError:  # KernelPCA learns the way back only when it is told to
            return None
        return rows

    @property
    def facts(self) -> dict[str, Any]:
        ratio = getattr(self._estimator, "explained_variance_ratio_", None)
        return {} if ratio is None else {"explained_variance_ratio": float(np.sum(ratio))}

    def save(self, folder: Path) -> Saved:
        return Saved("model.skops", "skops", trusted=dump(self.model, folder / "model.skops"))

    def onnx(self) -> Any:
        if type(self.model).__name__ == "IsolationForest":
            from mlaas.runtimes.tabular.onnx_isolation import of_isolation_forest

            return of_isolation_forest(self.model)
        from mlaas.runtimes.tabular.onnx_model import of_estimator

        return of_estimator(self.model, self.plan)


def made(plan: Plan) -> Any:
    """The estimator with the task's parameters; the seed and the number of cores where it takes them."""
    module, _, name = plan.params.estimator.rpartition(".")
    kind = getattr(import_module(module), name)
    taken = inspect.signature(kind.__init__).parameters
    settings: dict[str, Any] = {}
    if "random_state" in taken:
        settings["random_state"] = plan.params.seed
    if "n_jobs" in taken:
        settings["n_jobs"] = plan.cores
    if name == "LocalOutlierFactor":
        settings["novelty"] = True  # without it there is no answer for new rows
    settings.update(plan.params.parameters)
    weights = settings.get("class_weight")
    if isinstance(weights, dict) and plan.classes is not None:
        settings["class_weight"] = _by_class(weights, plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return kind(**settings)


def _by_class(weights: dict[str, Any], plan: Plan) -> dict[Any, float]:
    """Keys of JSON are texts, classes may be numbers."""
    from mlaas.kernel.errors import Invalid

    assert plan.classes is not None
    named = {str(name): name for name in plan.classes.names}
    unknown = sorted(set(map(str, weights)) - set(named))
    if unknown:
        raise Invalid(
            f"There is no class {', '.join(map(repr, unknown))}; there are {', '.join(map(repr, plan.classes.names[:50]))}.",
            field="parameters.class_weight",
        )
    return {named[str(key)]: float(value) for key, value in weights.items()}


def dump(model: Any, path: Path) -> list[str]:
    """Write with skops, the same bytes for the same model; the types that a reader has to be told to trust."""
    import skops.io

    data = canonical_skops(skops.io.dumps(model))
    path.write_bytes(data)
    return sorted(skops.io.get_untrusted_types(data=data))
