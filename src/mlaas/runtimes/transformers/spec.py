"""Parameters of the recipes `finetune` and `predict`. Schema only: no framework is imported here."""

from typing import Any, Literal

from pydantic import Field, model_validator

from mlaas.runtimes.data.spec import DatasetSource, ModelSource, Source, Strict, Target


class Optimizer(Strict):
    """`num_warm_steps` steps of linear warm-up to `init_lr`; then the schedule, linear to 0 unless said."""

    name: Literal["AdamW", "Adam", "SGD", "Adafactor"] = "AdamW"
    init_lr: float = Field(2e-5, gt=0, le=10)
    num_warm_steps: int = Field(0, ge=0)
    weight_decay_rate: float = Field(0.01, ge=0, le=10)


class EarlyStopping(Strict):
    """Stop when `metric` on the test set did not get better for `patience` epochs."""

    patience: int = Field(2, ge=1)
    metric: Literal["loss", "accuracy", "f1"] = "loss"
    min_delta: float = Field(0.0, ge=0)


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685); merged into the weights when the model is saved."""

    r: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] | None = None


class ModelTrain(Strict):
    """`head_rate`: weights that start afresh (a new head) learn at so many times the rate; with `lora` at the rate itself.
    `mlm_probability`: the share of tokens that masked-lm masks."""

    epochs: int = Field(3, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1, le=65536)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    seed: int = Field(42, ge=0, lt=2**32)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    accumulation: int = Field(1, ge=1, le=65536)
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    early_stopping: EarlyStopping | None = None
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    max_length: int | None = Field(None, ge=4, le=1_000_000)
    max_grad_norm: float = Field(1.0, gt=0)
    head_rate: float = Field(1.0, gt=0, le=1000)
    mlm_probability: float = Field(0.1, gt=0, lt=1)
    lora: Lora | None = None
    checkpoint_every: int | None = Field(None, ge=1)  # optimiser steps; None: about every minute


class ModelSave(Target):
    format: Literal["safetensors"] = "safetensors"
    register_as: str | None = Field(None, alias="register")


class FinetuneParams(Strict):
    """Train a model on a data set."""

    model: ModelSource
    tokenizer: Source | None = None
    dataset: DatasetSource
    model_train: ModelTrain
    model_save: ModelSave | None = None


class PredictInput(Strict):
    """`input_text`: texts; `[text, text_pair]` for next-sentence-prediction; `{question, context}` for question-answering."""

    input_text: list[Any] = Field(min_length=1, max_length=100_000)
    batch_size: int = Field(32, ge=1, le=4096)
    top_k: int = Field(5, ge=1, le=1000)
    max_new_tokens: int = Field(50, ge=1, le=100_000)

    @model_validator(mode="after")
    def _shapes(self) -> "PredictInput":
        for i, item in enumerate(self.input_text):
            text = isinstance(item, str)
            pair = isinstance(item, list) and len(item) == 2 and all(isinstance(x, str) for x in item)
            question = (
                isinstance(item, dict)
                and set(item) == {"question", "context"}
                and all(isinstance(x, str) for x in item.values())
            )
            if not (text or pair or question):
                raise ValueError(f"item {i} is neither a text, [text, text_pair] nor {{question, context}}")
        return self


class PredictParams(Strict):
    """Answer a list of inputs with a model."""

    model: ModelSource
    tokenizer: Source | None = None
    predict_input: PredictInput
