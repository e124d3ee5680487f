"""The kind `workload`: users read it, its owner creates it, only its reconciler starts and stops its processes.

Status fields and their one writer:

    phase, conditions, attempt, attempts, interruptions, failures, next_attempt_at, history, exit   the life (`reconcile`)
    replicas, progress                                         the life, from what the engine observes
    admission, condition Admitted                              admission (`admission`)
"""

from mlaas.kernel.resource import Kind
from mlaas.kernel.workload import WorkloadSpec

FINALIZER = "workload/processes"
PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED = "Pending", "Running", "Succeeded", "Failed", "Cancelled"
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})

KIND = Kind(
    name="workload",
    plural="workloads",
    spec_type=WorkloadSpec,
    mutable=frozenset({"suspend", "priority", "cancel"}),
    finalizers=(FINALIZER,),
    columns=(
        ("PHASE", "status.phase"),
        ("ATTEMPT", "status.attempt"),
        ("OWNER", "meta.owner.name"),
        ("QUEUED", "status.admission.message"),
    ),
    creatable=False,
    description="A gang of processes that a task owns; a queue admits it and an engine runs it.",
)
