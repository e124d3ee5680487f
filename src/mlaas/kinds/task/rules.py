"""Which values of a task fit together. Each refusal is a ValidationError at the field."""

from collections.abc import Callable
from typing import Any

from mlaas.kinds.task.fit_rules import check_fit
from mlaas.kinds.task.refusal import refuse

CLASSIFYING = frozenset({"text-classification"})
SCORED_BY_F1 = frozenset({"text-classification", "token-classification", "question-answering"})


def check(spec: Any) -> None:
    """Raise for the first pair of fields that do not go together."""
    rule = _RULES.get(getattr(spec, "recipe", ""))
    if rule is not None:
        rule(spec)


def _finetune(spec: Any) -> None:
    objective = spec.model.objective
    train = spec.model_train
    _dataset(spec.dataset, objective)
    if train.class_weights is not None and objective not in CLASSIFYING:
        raise refuse("model_train.class_weights", f"only text-classification has classes to weigh, not {objective}")
    masked_share = type(train).model_fields["mlm_probability"].default
    if train.mlm_probability != masked_share and objective != "masked-lm":
        raise refuse("model_train.mlm_probability", f"only masked-lm masks tokens, not {objective}")
    stopping = train.early_stopping
    if stopping is not None and stopping.metric == "f1" and objective not in SCORED_BY_F1:
        raise refuse("model_train.early_stopping.metric", f"{objective} has no F1; use loss or accuracy")
    if spec.model_save is not None:
        _target(spec.model_save, "model_save")


def _dataset(dataset: Any, objective: str) -> None:
    if dataset.format == "vector_store":
        raise refuse("dataset.format", "a vector store is searched, not trained on")
    split = dataset.train_test_split
    if split is not None and split >= 1 and split != int(split):
        raise refuse("dataset.train_test_split", f"{split} is neither a share below 1 nor a whole number of rows")
    if dataset.augment is not None:
        if objective not in CLASSIFYING:
            raise refuse(
                "dataset.augment", f"smart typos enlarge data sets for text-classification, not for {objective}"
            )
        if dataset.augment.factor is not None and dataset.augment.size is not None:
            raise refuse("dataset.augment", "give either factor or size, not both")


def _predict(spec: Any) -> None:
    objective = spec.model.objective
    for i, item in enumerate(spec.predict_input.input_text):
        if objective == "next-sentence-prediction":
            fits, wanted = isinstance(item, list), "a pair [text, text_pair]"
        elif objective == "question-answering":
            fits, wanted = isinstance(item, dict), "an object {question, context}"
        else:
            fits, wanted = isinstance(item, str), "a text"
        if not fits:
            raise refuse(f"predict_input.input_text.{i}", f"{objective} takes {wanted} for each input")


def _index(spec: Any) -> None:
    _embeds(spec)
    if spec.dataset.format == "vector_store":
        raise refuse("dataset.format", "this is a vector store already; an index is built from rows of text")
    for key in ("train_test_split", "augment"):
        if getattr(spec.dataset, key) is not None:
            raise refuse(f"dataset.{key}", "belongs to a training; an index takes every row as it is")
    if spec.vector_store_save is not None:
        _target(spec.vector_store_save, "vector_store_save")


def _search(spec: Any) -> None:
    _embeds(spec)
    if spec.dataset.format not in (None, "vector_store"):
        raise refuse("dataset.format", "a search reads a vector store: leave format out or write vector_store")


def _embeds(spec: Any) -> None:
    # The institute's form names the objective; whoever leaves it out means the only one that there is.
    if "objective" in spec.model.model_fields_set and spec.model.objective != "no-objective":
        raise refuse(
            "model.objective", f"vectors come from a model without a head: no-objective, not {spec.model.objective}"
        )
    spec.model.objective = "no-objective"


def _fit(spec: Any) -> None:
    check_fit(spec)
    if spec.model_save is not None:
        _target(spec.model_save, "model_save")


def _target(target: Any, field: str) -> None:
    if target.path.startswith("task:"):
        raise refuse(f"{field}.path", "a task's output cannot be written by another; name a folder or an S3 path")


def _script(spec: Any) -> None:
    for name in spec.inputs:
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 200:
            raise refuse(f"inputs.{name[:50]}", "an input's name is one path segment: it becomes inputs/NAME")
    for variable in spec.env:
        if not variable or "=" in variable or "\0" in variable:
            raise refuse("env", f"'{variable[:50]}' is no name of an environment variable")
        if variable.startswith(("LD_", "MLAAS_", "KUBEFLOW_TRAINER_")):
            raise refuse(f"env.{variable[:50]}", "this variable is the platform's")
    for i, word in enumerate(spec.command):
        if "\0" in word:
            raise refuse(f"command.{i}", "holds a NUL byte")
    if not spec.command[0]:
        raise refuse("command.0", "the program's name is empty")


_RULES: dict[str, Callable[[Any], None]] = {
    "finetune": _finetune,
    "predict": _predict,
    "index": _index,
    "search": _search,
    "script": _script,
    "fit": _fit,
}
