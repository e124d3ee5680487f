"""What is checked of a new service before it is stored, beyond its spec's own shape."""

from mlaas.kernel.context import Context
from mlaas.kernel.engine import CanServe
from mlaas.kernel.errors import Conflict, Error, Invalid, Unavailable
from mlaas.kernel.resource import Resource, now
from mlaas.kinds.service.references import resolve_all
from mlaas.kinds.service.schema import ServiceSpec


async def admit_create(context: Context, service: Resource) -> None:
    """Raises from the error tree, naming the field below `spec`: a model that is not there, an engine that is not here or cannot
    serve, a log file outside the roots."""
    spec = ServiceSpec.model_validate(service.spec)
    try:
        check_engine(context, spec)
        check_logger(context, spec)
        await resolve_all(context, service.meta.project, spec)
    except (Unavailable, Conflict):
        pass  # looked at again when it is reconciled: a task that has not ended yet, a store that does not answer
    except Error as error:
        raise below_spec(error) from None
    service.status.update(phase="Pending", timestamps={"created": now()})


def check_engine(context: Context, spec: ServiceSpec) -> None:
    """Raises Invalid for an engine that is not here, or that cannot serve."""
    engine = context.engine_named(spec.engine)
    if engine is None and spec.engine is not None:
        here = ", ".join(sorted(context.engines)) or "none"
        raise Invalid(f"There is no engine '{spec.engine}' here.", field="engine", hint=f"Engines here: {here}.")
    if engine is not None and not isinstance(engine, CanServe):
        raise Invalid(f"The engine '{engine.name}' cannot serve.", field="engine")


def check_logger(context: Context, spec: ServiceSpec) -> None:
    """A log file lies where tasks may write."""
    if spec.logger is not None and spec.logger.url.startswith("file://") and context.resolver is not None:
        from mlaas.kernel.blobs.uri import file_path

        context.resolver.roots.locate(str(file_path(spec.logger.url)), "logger.url", write=True)


def below_spec(error: Error) -> Error:
    """The same error with its fields as the generic API names them."""
    if error.field and not error.field.startswith(("spec", "meta")):
        error.field = f"spec.{error.field}"
        error.errors = [{**item, "field": f"spec.{item['field']}"} for item in error.errors]
    return error
