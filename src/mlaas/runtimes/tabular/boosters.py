"""XGBoost and LightGBM: rounds of trees, watched, stopped early where the task asks for it."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.tabular.learner import Answer, Learner, Plan, Sample, Saved, Watch, refused
from mlaas.runtimes.tabular.preprocess import transformer
from mlaas.runtimes.tabular.scikit import dump, made
from mlaas.runtimes.tabular.table import Array

ROUNDS = 100


class Booster(Learner):
    """What both libraries share. The native file takes rows as they are; where columns are prepared first, all of it is one
    scikit-learn pipeline."""

    native: str
    format: str

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._prepare = transformer(plan.columns, plan.params.preprocessing)
        try:
            self.estimator = made(plan)
        except TypeError as error:
            raise refused(error, plan) from None

    def fit(self, train: Sample, validation: Sample | None, test: Sample | None, watch: Watch) -> None:
        plan = self.plan
        if plan.classes is not None and len(np.unique(train.y)) < len(plan.classes.names):  # type: ignore[arg-type]
            raise Invalid(
                "A class has no row to train on: its rows are among those that say when to stop.",
                field="early_stopping.validation_split",
                hint="Take a smaller share, or add rows of that class.",
            )
        try:
            x = train.x if self._prepare is None else self._prepare.fit_transform(train.x)
            watched = [
                (name, Sample(self._prepared(sample.x), sample.y, sample.weight))
                for name, sample in (("validation", validation), ("test", test if validation is None else None))
                if sample is not None
            ]
            self._boost(Sample(x, train.y, train.weight), watched, validation is not None, watch)
        except (ValueError, TypeError, self._failure()) as error:
            raise refused(error, plan) from None

    @abstractmethod
    def _boost(self, train: Sample, watched: list[tuple[str, Sample]], stops: bool, watch: Watch) -> None: ...

    @abstractmethod
    def _failure(self) -> type[Exception]:
        """What the library raises for parameters and data that it does not take."""

    @abstractmethod
    def _write(self, path: Path) -> None: ...

    def _prepared(self, x: Array) -> Array:
        made: Array = x if self._prepare is None else self._prepare.transform(x)
        return made

    def answer(self, x: Array) -> Answer:
        x = self._prepared(x)
        if self.plan.problem == "regression":
            return Answer(np.asarray(self.estimator.predict(x)))
        probabilities = np.asarray(self.estimator.predict_proba(x))
        return Answer(probabilities.argmax(axis=1), probabilities=probabilities)

    @property
    def whole(self) -> Any:
        """The fitted estimator, behind the preparation of columns where there is one."""
        if self._prepare is None:
            return self.estimator
        from sklearn.pipeline import Pipeline

        return Pipeline([("preprocessing", self._prepare), ("estimator", self.estimator)])

    def save(self, folder: Path) -> Saved:
        if self._prepare is not None:
            return Saved("model.skops", "skops", trusted=dump(self.whole, folder / "model.skops"))
        self._write(folder / self.native)
        return Saved(self.native, self.format)

    def onnx(self) -> Any:
        from mlaas.runtimes.tabular.onnx_model import of_estimator

        return of_estimator(self.whole, self.plan)


class XGBoost(Booster):
    native, format = "model.ubj", "xgboost"

    def _failure(self) -> type[Exception]:
        from xgboost.core import XGBoostError

        failure: type[Exception] = XGBoostError
        return failure

    def _boost(self, train: Sample, watched: list[tuple[str, Sample]], stops: bool, watch: Watch) -> None:
        from xgboost.callback import EarlyStopping, TrainingCallback

        rounds = int(self.plan.params.parameters.get("n_estimators") or ROUNDS)
        names = [name for name, _ in watched]

        class Watching(TrainingCallback):  # type: ignore[misc]
            def after_iteration(self, model: Any, epoch: int, evals_log: dict[str, Any]) -> bool:
                latest = {
                    f"{names[i]}_{metric}": float(values[-1])
                    for i, metrics in enumerate(evals_log.values())
                    for metric, values in metrics.items()
                }
                watch(epoch + 1, rounds, latest)
                return False

        callbacks: list[Any] = [Watching()]
        stopping = self.plan.params.early_stopping
        if stops and stopping is not None:
            callbacks.append(EarlyStopping(stopping.patience, min_delta=stopping.min_delta, save_best=True))
        if "XGBRF" not in type(self.estimator).__name__:  # a forest is grown in one round
            self.estimator.set_params(callbacks=callbacks)
        self.estimator.fit(
            train.x,
            train.y,
            sample_weight=train.weight,
            eval_set=[(sample.x, sample.y) for _, sample in watched] or None,
            sample_weight_eval_set=[sample.weight for _, sample in watched] if train.weight is not None else None,
            verbose=False,
        )
        self.estimator.set_params(callbacks=None)
        if watched:
            for name, metrics in zip(names, self.estimator.evals_result().values(), strict=True):
                for metric, values in metrics.items():
                    self.history[f"{name}_{metric}"] = [float(value) for value in values]

    def _write(self, path: Path) -> None:
        self.estimator.get_booster().save_model(str(path))


class LightGBM(Booster):
    native, format = "model.txt", "lightgbm"

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        # Sums in the order of the rows: the same trees for the same seed (LightGBM's documentation of `deterministic`).
        given = plan.params.parameters
        own = {"verbosity": -1, "deterministic": True}
        if "force_col_wise" not in given:
            own["force_row_wise"] = True
        self.estimator.set_params(**{name: value for name, value in own.items() if name not in given})

    def _failure(self) -> type[Exception]:
        from lightgbm.basic import LightGBMError

        failure: type[Exception] = LightGBMError
        return failure

    def _boost(self, train: Sample, watched: list[tuple[str, Sample]], stops: bool, watch: Watch) -> None:
        import lightgbm

        def watching(environment: Any) -> None:
            latest = {
                f"{name}_{metric}": float(value) for name, metric, value, *_ in environment.evaluation_result_list
            }
            watch(environment.iteration + 1, environment.end_iteration, latest)

        callbacks: list[Any] = [watching, lightgbm.log_evaluation(0)]
        stopping = self.plan.params.early_stopping
        if stops and stopping is not None:
            callbacks.append(lightgbm.early_stopping(stopping.patience, verbose=False, min_delta=stopping.min_delta))
        self.estimator.fit(
            train.x,
            train.y,
            sample_weight=train.weight,
            eval_set=[(sample.x, sample.y) for _, sample in watched] or None,
            eval_names=[name for name, _ in watched] or None,
            eval_sample_weight=[sample.weight for _, sample in watched] if train.weight is not None else None,
            callbacks=callbacks,
        )
        for name, metrics in (self.estimator.evals_result_ or {}).items():
            for metric, values in metrics.items():
                self.history[f"{name}_{metric}"] = [float(value) for value in values]

    def _write(self, path: Path) -> None:
        best = self.estimator.best_iteration_
        self.estimator.booster_.save_model(str(path), num_iteration=best if best else -1)
