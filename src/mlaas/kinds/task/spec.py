"""The task: one gang of processes that runs to completion; its `recipe` says which.

Writers of a task's status: `cancel` is written by the route of that name; all else by the task's reconciler, after what a
create begins with (`phase`, `timestamps.submitted`).
"""

from mlaas.kernel.resource import Kind
from mlaas.kinds.task.admit import admit_create
from mlaas.kinds.task.life import FINALIZER
from mlaas.kinds.task.schema import TaskSpec

KIND = Kind(
    name="task",
    plural="tasks",
    spec_type=TaskSpec,
    mutable=frozenset({"suspend", "priority"}),
    finalizers=(FINALIZER,),
    columns=(
        ("RECIPE", "spec.recipe"),
        ("PHASE", "status.phase"),
        ("PROGRESS", "status.progress.percentage"),
        ("ATTEMPT", "status.attempts"),
    ),
    description="One gang of processes that runs to completion: train, fit, predict, build an index, search, run a script.",
    validate=admit_create,
)
