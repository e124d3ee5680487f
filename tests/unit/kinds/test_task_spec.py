import json

import pytest

from mlaas.kernel.errors import Invalid
from mlaas.kernel.validation import validated
from mlaas.kinds.task.schema import TaskSpec, params_of, parse
from mlaas.kinds.task.spec import KIND

TRAIN = {"recipe": "finetune", "model": {"path": "m"}, "dataset": {"path": "d"}, "model_train": {}}
PREDICT = {"recipe": "predict", "model": {"path": "m"}, "predict_input": {"input_text": ["a"]}}
INDEX = {"recipe": "index", "model": {"path": "m"}, "dataset": {"path": "d"}}
SEARCH = {**INDEX, "recipe": "search", "search_input": {"input_text": ["a"]}}
SCRIPT = {"recipe": "script", "command": ["true"]}
ALL = [TRAIN, PREDICT, INDEX, SEARCH, SCRIPT]


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec["recipe"])
def test_every_recipe_survives_the_way_through_the_store(spec):
    typed = validated(TaskSpec, spec).root
    stored = json.loads(json.dumps(typed.model_dump(mode="json", by_alias=True)))
    assert parse(stored) == typed
    assert "retries" not in params_of(typed)


def test_quantities_and_times_are_accepted_as_people_write_them():
    spec = parse(
        {**SCRIPT, "resources": {"cpu": "500m", "memory": "2Gi"}, "time_limit": "1h30m", "ttl_after_finished": 60}
    )
    assert spec.resources.cpu == 0.5
    assert spec.resources.memory == 2 << 30
    assert spec.time_limit == 5400
    assert spec.ttl_after_finished == 60


REFUSED = [
    ({**TRAIN, "recipe": "finetuen"}, "recipe", "did you mean 'finetune'"),
    ({"command": ["true"]}, "recipe", "is missing"),
    ({**TRAIN, "model_train": {"epochs": 0}}, "model_train.epochs", "at least 1"),
    ({**TRAIN, "model_train": {"optimizer": {"init_lr": -1}}}, "model_train.optimizer.init_lr", "more than 0"),
    ({**TRAIN, "model_train": {"epoch": 3}}, "model_train.epoch", "did you mean 'epochs'"),
    ({**TRAIN, "modell": {}}, "modell", "did you mean 'model'"),
    ({**TRAIN, "dataset": {"path": "d", "train_test_split": 0}}, "dataset.train_test_split", "more than 0"),
    ({**TRAIN, "dataset": {"path": "d", "train_test_split": 1.5}}, "dataset.train_test_split", "whole number of rows"),
    ({**TRAIN, "dataset": {"path": "d", "format": "vector_store"}}, "dataset.format", "searched"),
    (
        {**TRAIN, "model": {"path": "m", "objective": "masked-lm"}, "model_train": {"class_weights": "balanced"}},
        "model_train.class_weights",
        "masked-lm",
    ),
    ({**TRAIN, "model_train": {"mlm_probability": 0.2}}, "model_train.mlm_probability", "masked-lm"),
    (
        {**PREDICT, "model": {"path": "m", "objective": "question-answering"}},
        "predict_input.input_text.0",
        "{question, context}",
    ),
    (
        {**PREDICT, "model": {"path": "m", "objective": "next-sentence-prediction"}},
        "predict_input.input_text.0",
        "a pair",
    ),
    ({**PREDICT, "predict_input": {"input_text": []}}, "predict_input.input_text", "must not be empty"),
    ({**SEARCH, "model": {"path": "m", "objective": "masked-lm"}}, "model.objective", "no-objective"),
    ({**SEARCH, "dataset": {"path": "d", "format": "csv"}}, "dataset.format", "vector store"),
    ({**INDEX, "dataset": {"path": "d", "train_test_split": 0.1}}, "dataset.train_test_split", "every row"),
    ({**SCRIPT, "command": []}, "command", "must not be empty"),
    ({**SCRIPT, "inputs": {"../x": {"path": "p"}}}, "inputs", "path segment"),
    ({**SCRIPT, "env": {"LD_PRELOAD": "x"}}, "env.LD_PRELOAD", "platform's"),
    ({**SCRIPT, "retries": -1}, "retries", "at least 0"),
    ({**SCRIPT, "resources": {"memory": "lots"}}, "resources.memory", "no amount of memory"),
    ({**SCRIPT, "resources": {"cpus": 1}}, "resources.cpus", "did you mean 'cpu'"),
    ({**SCRIPT, "time_limit": "soon"}, "time_limit", "no time"),
    ([], "body", "object"),
]


@pytest.mark.parametrize(("spec", "field", "message"), REFUSED, ids=[f"{field}" for _, field, _ in REFUSED])
def test_what_does_not_fit_is_refused_with_its_field(spec, field, message):
    with pytest.raises(Invalid) as caught:
        validated(TaskSpec, spec)
    assert caught.value.errors[0]["field"].startswith(field)
    assert message in caught.value.errors[0]["message"]


def test_the_objective_of_an_index_is_the_only_one_there_is():
    assert parse(INDEX).model.objective == "no-objective"


def test_the_schema_tells_recipes_apart():
    schema = KIND.spec_type.model_json_schema()
    assert set(schema["discriminator"]["mapping"]) == {"finetune", "predict", "index", "search", "script", "fit"}
