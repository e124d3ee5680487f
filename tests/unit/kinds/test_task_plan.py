"""From a task to its workload."""

import pytest

from mlaas.kernel.resource import Meta, Resource
from mlaas.kernel.workload import Resources, WorkloadSpec
from mlaas.kinds.task.plan import Place, requested, resolved_of, workload_of
from mlaas.kinds.task.schema import parse

MACHINE = Resources(cpu=8, memory=64 << 30)
PREDICT = {"recipe": "predict", "model": {"path": "m"}, "predict_input": {"input_text": ["a"]}}
SCRIPT = {"recipe": "script", "command": ["true"], "inputs": {"a.b": {"path": "x"}}, "retries": 2}
TRAIN = {"recipe": "finetune", "model": {"path": "m"}, "dataset": {"path": "d"}, "model_train": {}}


def plan(spec, resolved):
    task = Resource("task", Meta("t", "p", uid="u-1"), spec)
    return workload_of(task, parse(spec), resolved, {}, MACHINE, Place("/cache", "file:///blobs"))


@pytest.mark.parametrize(("spec", "field"), [(PREDICT, "model"), (SCRIPT, "inputs.a.b")])
def test_a_workload_says_what_it_reads(spec, field):
    resolved = {field: {"uri": "file:///x", "hash": "h"}}
    assert resolved_of(plan(spec, resolved)) == resolved


def test_its_name_and_owner_follow_from_the_task():
    made = plan(SCRIPT, {"inputs.a.b": {"uri": "file:///x", "hash": ""}})
    assert made.meta.name == "task-u-1"
    assert made.meta.owner == {"kind": "task", "name": "t", "uid": "u-1"}
    spec = WorkloadSpec.model_validate(made.spec)
    assert (spec.trusted, spec.interactive, spec.backoff_limit) == (False, False, 2)


def test_what_is_asked_for_by_default():
    assert requested(parse(TRAIN), MACHINE) == MACHINE
    assert requested(parse(SCRIPT), MACHINE) == Resources(cpu=1, memory=1 << 30)
    assert requested(parse({**TRAIN, "resources": {"cpu": 2}}), MACHINE).cpu == 2
    assert plan(PREDICT, {"model": {"uri": "file:///x", "hash": ""}}).spec["interactive"]
