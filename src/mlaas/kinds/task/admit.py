"""What is checked of a new task before it is stored, beyond its spec's own shape; and the status that it begins with."""

from mlaas.kernel.context import Context
from mlaas.kernel.engine import Engine
from mlaas.kernel.errors import Error, Invalid, Unavailable
from mlaas.kernel.resource import Resource, now
from mlaas.kernel.workload import Resources
from mlaas.kinds.task.life import PENDING
from mlaas.kinds.task.plan import requested
from mlaas.kinds.task.references import check_readable, check_targets
from mlaas.kinds.task.schema import AnySpec, parse


async def admit_create(context: Context, task: Resource) -> None:
    """Raises from the error tree, naming the field below `spec`, for what would certainly fail: more than the machine has, an
    engine, queue or environment that is not here, a source that is missing, a target that is taken."""
    spec = parse(task.spec)
    try:
        engine = engine_of(context, spec)
        _only_default(context, spec)
        if engine is not None:
            check_size(requested(spec, capacity := await engine.capacity()), capacity, engine.name)
        await check_readable(context, task.meta.project, spec)
        await check_targets(context, spec)
    except Unavailable:
        pass  # what cannot be looked at now is looked at when the task is worked on
    except Error as error:
        raise below_spec(error) from None
    task.status.update(phase=PENDING, timestamps={"submitted": now()})


def engine_of(context: Context, spec: AnySpec) -> Engine | None:
    """The engine that the task will run on; None when the platform has none. Raises Invalid for one that is not here."""
    engine = context.engine_named(spec.engine)
    if engine is None and spec.engine is not None:
        here = ", ".join(sorted(context.engines)) or "none"
        raise Invalid(
            f"There is no engine '{spec.engine}' here.",
            field="engine",
            hint=f"Engines here: {here}. Leave engine out to take the one that fits.",
        )
    return engine


def _only_default(context: Context, spec: AnySpec) -> None:
    if spec.queue is not None and "queue" not in context.kinds.by_name:
        raise Invalid(
            f"There is no queue '{spec.queue}': this platform has no queues.",
            field="queue",
            hint="Leave queue out: tasks wait for free cores and memory, those of higher priority first.",
        )
    if spec.environment is not None:
        raise Invalid(
            f"There is no environment '{spec.environment}': this platform has its own one only.",
            field="environment",
            hint="Leave environment out: recipes run in the platform's own Python. A script brings its own by starting it, "
            "for example with the command [env/bin/python, train.py].",
        )


def check_size(wanted: Resources, capacity: Resources, engine: str) -> None:
    """Raises Invalid, naming `resources.cpu`, `.memory` or `.gpu`, for what would wait for ever."""
    for name, asked, there in (
        ("cpu", wanted.cpu, capacity.cpu),
        ("memory", wanted.memory, capacity.memory),
        ("gpu", wanted.gpu, capacity.gpu),
    ):
        if asked > there + 1e-6:
            raise Invalid(
                f"resources.{name}: {asked:g} is more than the engine '{engine}' has in all, {there:g}.",
                field=f"resources.{name}",
                hint=f"Ask for at most {there:g}.",
            )


def below_spec(error: Error) -> Error:
    """The same error with its fields as the generic API names them."""
    if error.field and not error.field.startswith(("spec", "meta")):
        error.field = f"spec.{error.field}"
        error.errors = [{**item, "field": f"spec.{item['field']}"} for item in error.errors]
    return error
