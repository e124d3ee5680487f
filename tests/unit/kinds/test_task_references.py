"""What is looked at before a task is accepted."""

from mlaas.kinds.task.references import readings, targets
from mlaas.kinds.task.schema import parse

TRAIN = {
    "recipe": "finetune",
    "model": {"path": "m"},
    "tokenizer": {"path": "t"},
    "dataset": {"path": "d"},
    "model_train": {},
    "model_save": {"path": "s"},
}


def test_all_that_a_training_reads_and_writes():
    spec = parse(TRAIN)
    assert [reading.field for reading in readings(spec)] == ["model", "tokenizer", "dataset"]
    assert list(targets(spec)) == ["model_save"]
    script = parse({"recipe": "script", "command": ["a"], "inputs": {"b": {"path": "x"}}})
    assert [reading.field for reading in readings(script)] == ["inputs.b"]
