"""What `task:NAME` means to whoever reads it: the output of an ended task."""

from mlaas.kernel.errors import Conflict, Invalid, NotFound
from mlaas.kernel.store.base import Database


async def task_output(database: Database, project: str, name: str) -> dict[str, str]:
    """`{uri, hash}` of what the ended task `name` of this project left. Raises NotFound, Conflict or Invalid."""
    try:
        task = await database.get("task", project, name)
    except NotFound:
        raise NotFound(
            f"There is no task '{name[:80]}' in project '{project}'.", hint="`mlaas get tasks` lists them."
        ) from None
    if task.phase != "Succeeded":
        over = task.phase in ("Failed", "Cancelled")
        raise Conflict(
            f"The task '{name}' {'ended as' if over else 'is still'} {task.phase or 'Pending'}; "
            "only one that succeeded has an output.",
            hint=f"Why: mlaas describe task {name}." if over else f"Wait for it: mlaas wait {name}.",
        )
    output = task.status.get("output")
    if not output:
        raise Invalid(f"The task '{name}' left no output.", hint="A script's output is what it writes to output/.")
    return {"uri": output["uri"], "hash": output["hash"]}
