"""A neural network as a list of layers, in Keras's own words. Schema only.

layers: [{Dense: {units: 64, activation: relu}}, {Dropout: {rate: 0.1}}, {Dense: {units: 1, activation: sigmoid}}]
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mlaas.runtimes.data.spec import Strict

Activation = Literal[
    "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "mish", "tanh", "sigmoid", "softmax", "softplus",
    "softsign", "exponential", "linear",
]  # fmt: skip
Initializer = Literal[
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
    "random_normal", "random_uniform", "truncated_normal", "zeros", "ones",
]  # fmt: skip
Regularizer = Literal["l1", "l2", "l1_l2"]
BINARY, CATEGORICAL, REGRESSION = "binary_crossentropy", "sparse_categorical_crossentropy", "mean_squared_error"
Loss = Literal[
    "binary_crossentropy", "binary_focal_crossentropy", "sparse_categorical_crossentropy", "categorical_crossentropy",
    "mean_squared_error", "mse", "mean_absolute_error", "mae", "huber", "log_cosh", "poisson",
    "mean_squared_logarithmic_error",
]  # fmt: skip
CLASSIFYING = frozenset({BINARY, "binary_focal_crossentropy", CATEGORICAL, "categorical_crossentropy"})


class DenseLayer(Strict):
    units: int = Field(ge=1, le=1_000_000)
    activation: Activation | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None


class DropoutLayer(Strict):
    rate: float = Field(ge=0, lt=1)


class GaussianNoiseLayer(Strict):
    stddev: float = Field(ge=0)


class NormalizationLayer(Strict):
    """What BatchNormalization and LayerNormalization share."""

    epsilon: float = Field(0.001, gt=0)
    center: bool = True
    scale: bool = True


class BatchNormalizationLayer(NormalizationLayer):
    momentum: float = Field(0.99, ge=0, lt=1)


class ActivationLayer(Strict):
    activation: Activation


class Layer(Strict):
    """One layer: its class and the parameters of it. Exactly one key."""

    Dense: DenseLayer | None = None
    Dropout: DropoutLayer | None = None
    GaussianNoise: GaussianNoiseLayer | None = None
    BatchNormalization: BatchNormalizationLayer | None = None
    LayerNormalization: NormalizationLayer | None = None
    Activation: ActivationLayer | None = None

    @model_validator(mode="after")
    def _one(self) -> "Layer":
        if len(self.model_fields_set) != 1 or self.settings is None:
            raise ValueError(f"a layer is one of {', '.join(type(self).model_fields)}, with its parameters")
        return self

    @property
    def kind(self) -> str:
        return next(iter(self.model_fields_set), "")

    @property
    def settings(self) -> Any:
        return getattr(self, self.kind, None)


class Optimizer(Strict):
    name: Literal["Adam", "AdamW", "Nadam", "RMSprop", "SGD", "Adagrad"] = "Adam"
    learning_rate: float = Field(0.001, gt=0, le=100)
    weight_decay: float | None = Field(None, ge=0)
    clipnorm: float | None = Field(None, gt=0)


class KerasParameters(Strict):
    """`loss`: left out, it follows from the last layer: `binary_crossentropy` after one sigmoid unit,
    `sparse_categorical_crossentropy` after softmax, else `mean_squared_error`. `class_weight: balanced` weighs a class by
    rows / (classes * rows of the class)."""

    layers: Annotated[list[Layer], Field(min_length=1, max_length=1000)]
    optimizer: Optimizer = Field(default_factory=Optimizer)
    loss: Loss | None = None
    epochs: int = Field(10, ge=1, le=1_000_000)
    batch_size: int = Field(32, ge=1, le=10_000_000)
    class_weight: Literal["balanced"] | None = None

    @model_validator(mode="after")
    def _output_fits_loss(self) -> "KerasParameters":
        units, activation = self.output
        loss = self.effective_loss
        binary = loss in (BINARY, "binary_focal_crossentropy")
        if binary and (units, activation) != (1, "sigmoid"):
            raise ValueError(f"{loss} needs one unit with sigmoid in the last layer")
        if loss in CLASSIFYING and not binary and activation != "softmax":
            raise ValueError(f"{loss} needs softmax in the last layer, one unit for each class")
        if loss not in CLASSIFYING and units != 1:
            raise ValueError(f"{loss} needs one unit in the last layer: there is one target")
        if self.class_weight is not None and loss not in CLASSIFYING:
            raise ValueError("only classes can be weighted")
        return self

    @property
    def output(self) -> tuple[int, str]:
        """(units, activation) of what comes out."""
        units, activation = 0, "linear"
        for layer in self.layers:
            if layer.kind == "Dense":
                units, activation = layer.settings.units, layer.settings.activation or "linear"
            elif layer.kind == "Activation":
                activation = layer.settings.activation
            elif layer.kind != "Dropout":
                activation = "linear"
        return units, activation

    @property
    def effective_loss(self) -> str:
        if self.loss is not None:
            return self.loss
        units, activation = self.output
        if activation == "softmax":
            return CATEGORICAL
        return BINARY if (units, activation) == (1, "sigmoid") else REGRESSION

    @property
    def problem(self) -> Literal["classification", "regression"]:
        return "classification" if self.effective_loss in CLASSIFYING else "regression"
