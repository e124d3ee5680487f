"""The institute's bodies, as its clients send them."""

import pytest

from mlaas.kernel.body import parse
from mlaas.kernel.errors import Invalid
from mlaas.kinds.task import form
from mlaas.kinds.task.answer import elapsed
from mlaas.kinds.task.documentation import inlined
from mlaas.kinds.task.routes import wait_of
from mlaas.kinds.task.schema import parse as typed

TRAIN = b"""
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model/to/load, storage_type: local, objective: text-classification}
model_train:
  epochs: 10
  batch_size: 32
  optimizer: {name: AdamW, init_lr: 2e-5, num_warm_steps: 1000, weight_decay_rate: 0.01}
dataset: {path: path/to/dataset/to/load, storage_type: s3, train_test_split: 0.1}
model_save: {path: path/to/model/to/save, storage_type: s3}
"""
PREDICT = b"""
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: text-classification}
predict_input: {input_text: ["Frascati Natl Lab INFN LNF, Natl Inst Nucl Phys, Italy"]}
"""
FILL = b"""
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: masked-lm}
predict_input: {input_text: ["Particles with [MASK] electric charges, a positively [MASK] [MASK]."]}
"""
INDEX = b"""
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: no-objective}
dataset: {path: path/to/dataset/to/load, storage_type: s3, loader_kwargs: {page_content_column: column-name}}
vector_store_save: {path: path/to/vector/store/to/save, format: vector_store, storage_type: s3}
"""
SEARCH = b"""
tokenizer: {path: path/to/tokenizer, storage_type: s3}
model: {path: path/to/model, storage_type: s3, objective: no-objective}
dataset: {path: path/to/vector/store/to/load, format: vector_store, storage_type: s3}
search_input: {input_text: ["Angular correlations between charged trigger and ..."]}
"""
RECIPES = {TRAIN: "finetune", PREDICT: "predict", FILL: "predict", INDEX: "index", SEARCH: "search"}


@pytest.mark.parametrize(("body", "recipe"), RECIPES.items(), ids=["train", "predict", "fill", "index", "search"])
def test_the_action_decides_the_recipe(body, recipe):
    filled = form.read(parse(body))
    assert filled.spec["recipe"] == recipe
    assert filled.name is None
    spec = typed(filled.spec)
    assert spec.tokenizer.storage_type == "s3"


def test_the_optimizer_arrives_as_numbers():
    optimizer = typed(form.read(parse(TRAIN)).spec).model_train.optimizer
    assert (optimizer.init_lr, optimizer.num_warm_steps) == (2e-5, 1000)


def test_name_project_and_resources_are_the_forms_own_keys():
    body = {
        **parse(PREDICT),
        "name": "try-1",
        "project": "physics",
        "resources": {"cpu": 1, "memory": "1Gi"},
        "retries": 2,
    }
    filled = form.read(body)
    assert (filled.name, filled.project) == ("try-1", "physics")
    assert filled.spec["resources"] == {"cpu": 1.0, "memory": 1 << 30}


def test_a_script_in_the_form():
    spec = form.read({"script": {"command": ["true"], "env": {"A": "b"}}, "retries": 1}).spec
    assert spec == {"recipe": "script", "command": ["true"], "env": {"A": "b"}, "retries": 1}


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"search_input": {"input_text": ["a"]}}, "search_input", "exactly one action"),
        ({"predict_input": None}, "body", "no action"),
        ({"predict_input": None, "predict_inptu": {}}, "predict_inptu", "did you mean 'predict_input'"),
        ({"modle": {}}, "modle", "did you mean 'model'"),
        ({"recipe": "predict"}, "recipe", "the action decides"),
        ({"name": "Not A Name"}, "name", "is no name"),
        ({"model": {"path": "m", "objective": "text-clasification"}}, "model.objective", "text-classification"),
        ({"model": None}, "model", "model"),
        ({"priority": "high"}, "priority", "a whole number"),
    ],
)
def test_what_is_wrong_is_named(change, field, message):
    body = {**parse(PREDICT), **change}
    with pytest.raises(Invalid) as caught:
        form.read({key: value for key, value in body.items() if value is not None or key == "model"})
    assert caught.value.errors[0]["field"] == field
    assert message in caught.value.message


def test_the_published_schema_has_a_form_for_each_action_and_no_references():
    schema = inlined(form.schema())
    assert "$ref" not in str(schema)
    required = [set(each["required"]) for each in schema["anyOf"]]
    assert all(any(action in names for names in required) for action in form.ACTIONS)
    assert all("name" in each["properties"] and "project" in each["properties"] for each in schema["anyOf"])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (3661.9, "1:01:01"), (94831, "1 day, 2:20:31"), (180000, "2 days, 2:00:00")]
)
def test_elapsed_is_written_as_the_institute_does(seconds, text):
    assert elapsed(seconds) == text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("wait=30", 30), ("respond-async, wait=5", 5), ("wait=999999", 3600), ("return=minimal", None), (None, None)],
)
def test_prefer_wait(header, seconds):
    assert wait_of(header) == seconds
