"""A Keras network over the columns of a table. Keras computes with torch here (`KERAS_BACKEND`)."""

from pathlib import Path
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.tabular.archive import canonical_keras
from mlaas.runtimes.tabular.layers import KerasParameters
from mlaas.runtimes.tabular.learner import Answer, Learner, Plan, Sample, Saved, Watch
from mlaas.runtimes.tabular.preprocess import transformer
from mlaas.runtimes.tabular.scikit import dump
from mlaas.runtimes.tabular.table import Array

BATCH = 8192  # rows of one batch when it only answers


class Network(Learner):
    """Columns that are only scaled are scaled by the network's first layer, so that `model.keras` takes rows as they are.
    Where more is done with them, `preprocessing.skops` prepares the rows for `network.keras`, and `model.onnx` is both."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.parameters = KerasParameters.model_validate(plan.params.parameters)
        wanted = plan.params.preprocessing
        only_scaled = all(column.number for column in plan.columns) and wanted.numeric.impute is None
        self._scale = wanted.numeric.scale if only_scaled else None
        self.prepare = None if only_scaled else transformer(plan.columns, wanted)
        self.model: Any = None
        self._check_output()

    @property
    def binary(self) -> bool:
        return self.parameters.problem == "classification" and self.parameters.output[0] == 1

    def _check_output(self) -> None:
        if self.plan.classes is None:
            return
        units, classes = self.parameters.output[0], len(self.plan.classes.names)
        if units != (1 if self.binary else classes) or (self.binary and classes != 2):
            raise Invalid(
                f"The last layer has {units} unit{'s' if units > 1 else ''}; the target has {classes} classes.",
                field="parameters.layers",
                hint="Two classes take one unit with sigmoid; more take softmax with a unit for each.",
            )

    def fit(self, train: Sample, validation: Sample | None, test: Sample | None, watch: Watch) -> None:
        import keras
        import torch

        torch.set_num_threads(self.plan.cores)
        keras.utils.set_random_seed(self.plan.params.seed)
        settings = self.parameters
        x = train.x if self.prepare is None else self.prepare.fit_transform(train.x)
        x = _dense(x)
        self.model = self._built(keras, x)
        self.model.compile(
            optimizer=self._optimizer(keras),
            loss=settings.effective_loss,
            weighted_metrics=["accuracy"] if settings.problem == "classification" else ["mean_absolute_error"],
        )
        watched = validation or test
        name = "validation" if validation is not None else "test"
        callbacks: list[Any] = [_watching(keras, watch, settings.epochs)]
        stopping = self.plan.params.early_stopping
        if stopping is not None:
            callbacks.append(
                keras.callbacks.EarlyStopping(
                    monitor="val_loss",
                    patience=stopping.patience,
                    min_delta=stopping.min_delta,
                    restore_best_weights=True,
                )
            )
        done = self.model.fit(
            x,
            self._truth(train),
            sample_weight=self._weights(train),
            validation_data=None if watched is None else self._held(watched),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            callbacks=callbacks,
            verbose=0,
        )
        for metric, values in done.history.items():
            key = metric.replace("val_", f"{name}_", 1) if metric.startswith("val_") else metric
            self.history[key] = [float(value) for value in values]
        # Without the optimiser, which is torch's and would tie the file to it.
        trained = self.model
        self.model = keras.Sequential.from_config(trained.get_config())
        self.model.set_weights(trained.get_weights())

    def _built(self, keras: Any, x: Array) -> Any:
        # Names of our own: Keras counts its layers, so that a second network of a process would be another one.
        model = keras.Sequential([keras.Input((x.shape[1],), name="input")], name="network")
        if self._scale is not None:
            mean, deviation = self._scaling(x)
            model.add(keras.layers.Normalization(mean=mean, variance=deviation**2, name="scale"))
        for i, layer in enumerate(self.parameters.layers):
            options = layer.settings.model_dump(exclude_none=True)
            if layer.kind in ("Dropout", "GaussianNoise"):
                options["seed"] = self.plan.params.seed + i
            model.add(getattr(keras.layers, layer.kind)(**options, name=f"{layer.kind}_{i}"))
        return model

    def _scaling(self, x: Array) -> tuple[Array, Array]:
        """(centre, scale) of each column; passthrough columns keep their values."""
        from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

        if self._scale == "min-max":
            fitted = MinMaxScaler().fit(x)
            centre, scale = fitted.data_min_, 1 / fitted.scale_
        elif self._scale == "robust":
            fitted = RobustScaler().fit(x)
            centre, scale = fitted.center_, fitted.scale_
        else:
            fitted = StandardScaler().fit(x)
            centre, scale = fitted.mean_, fitted.scale_
        kept = np.array([column.kind == "passthrough" for column in self.plan.columns])
        return np.where(kept, 0.0, centre).astype(np.float32), np.where(kept, 1.0, scale).astype(np.float32)

    def _optimizer(self, keras: Any) -> Any:
        options = self.parameters.optimizer.model_dump(exclude={"name"}, exclude_none=True)
        return getattr(keras.optimizers, self.parameters.optimizer.name)(**options)

    def _truth(self, sample: Sample) -> Array:
        assert sample.y is not None
        if self.parameters.effective_loss == "categorical_crossentropy":
            assert self.plan.classes is not None
            return np.eye(len(self.plan.classes.names), dtype=np.float32)[sample.y]
        if self.parameters.effective_loss == "sparse_categorical_crossentropy":
            return sample.y
        return sample.y.astype(np.float32).reshape(-1, 1)

    def _weights(self, sample: Sample) -> Array | None:
        weight = sample.weight
        if self.parameters.class_weight == "balanced":
            assert sample.y is not None
            counts = np.bincount(sample.y)
            balance = (len(sample.y) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[sample.y]
            weight = balance if weight is None else weight * balance
        return None if weight is None else weight.astype(np.float32)

    def _held(self, sample: Sample) -> tuple[Any, ...]:
        weights = () if sample.weight is None else (sample.weight.astype(np.float32),)
        return (self._rows(sample.x), self._truth(sample), *weights)

    def _rows(self, x: Array) -> Array:
        return _dense(x if self.prepare is None else self.prepare.transform(x))

    def answer(self, x: Array) -> Answer:
        given = np.asarray(self.model.predict(self._rows(x), batch_size=BATCH, verbose=0), dtype=np.float64)
        if self.plan.problem == "regression":
            return Answer(given.reshape(-1))
        if self.binary:
            given = np.column_stack([1 - given.reshape(-1), given.reshape(-1)])
        return Answer(given.argmax(axis=1), probabilities=given)

    def save(self, folder: Path) -> Saved:
        name = "model.keras" if self.prepare is None else "network.keras"
        path = folder / name
        self.model.save(path)
        path.write_bytes(canonical_keras(path.read_bytes()))
        if self.prepare is None:
            return Saved(name, "keras")
        return Saved(name, "keras", "preprocessing.skops", dump(self.prepare, folder / "preprocessing.skops"))

    def onnx(self) -> Any:
        from mlaas.runtimes.tabular.onnx_network import of_network

        return of_network(self)


def _dense(x: Any) -> Array:
    made: Array = (x.toarray() if hasattr(x, "toarray") else x).astype(np.float32)
    return made


def _watching(keras: Any, watch: Watch, epochs: int) -> Any:
    class Watching(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            watch(epoch + 1, epochs, {name: float(value) for name, value in (logs or {}).items()})

    return Watching()
