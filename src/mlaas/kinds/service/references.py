"""What a service serves, resolved to exact content."""

import asyncio
import re
from typing import Any

from mlaas.kernel.context import Context
from mlaas.kernel.errors import Error, Invalid, NotFound, Unavailable
from mlaas.kernel.resource import NAME, Json, Resource
from mlaas.kernel.taskoutput import task_output
from mlaas.kinds.service.schema import Predictor, ServiceSpec

TASK = "task:"
_CATALOG = re.compile(rf"({NAME.pattern})(@[^/]+|/[^/]+)?")


def sources(spec: ServiceSpec) -> dict[str, str]:
    """Dotted field -> reference, for all that lies somewhere (remote servers do not)."""
    found: dict[str, str] = {}
    for field, predictor in predictors(spec).items():
        if predictor.model:
            found[f"{field}.model"] = predictor.model
        if predictor.int8 is not None:
            found[f"{field}.int8.rows"] = predictor.int8.rows
    if spec.transformer is not None and spec.transformer.source:
        found["transformer.source"] = spec.transformer.source
    if spec.explainer is not None and spec.explainer.source:
        found["explainer.source"] = spec.explainer.source
    return found


def predictors(spec: ServiceSpec) -> dict[str, Predictor]:
    """Dotted field -> predictor."""
    found = {"predictor": spec.predictor, "rollout.shadow": spec.rollout.shadow}
    found |= {f"rollout.canary.{place}.predictor": each.predictor for place, each in enumerate(spec.rollout.canary)}
    return {field: predictor for field, predictor in found.items() if predictor is not None}


async def resolve_all(context: Context, project: str, spec: ServiceSpec) -> Json:
    """Field -> `{uri, hash}`. Raises from the error tree with the field of the first that fails."""
    return {field: await resolve(context, project, reference, field) for field, reference in sources(spec).items()}


async def resolve(context: Context, project: str, reference: str, field: str) -> dict[str, str]:
    """`{uri, hash}` of one reference. Raises Invalid, NotFound, Conflict or Unavailable naming `field`."""
    try:
        if reference.startswith(TASK):
            return await task_output(context.database, project, reference.removeprefix(TASK))
        resolver: Any = context.resolver
        if resolver is None:
            raise Unavailable("References cannot be resolved yet.", hint="Try again.")
        found = await asyncio.to_thread(resolver.resolve, reference, "local", field, purpose="model", project=project)
        return {"uri": found.uri, "hash": found.hash}
    except Invalid as error:
        named = _CATALOG.fullmatch(reference)
        if named is not None:
            raise NotFound(
                f"There is no model '{reference}'.",
                field=field,
                hint="Name a folder, a URI (s3://, hf://) or task:NAME; `mlaas get tasks` lists tasks.",
            ) from None
        raise _at(error, field) from None
    except Error as error:
        raise _at(error, field) from None


async def find(context: Context, project: str, name: str) -> Resource:
    """The service. Raises NotFound, saying where the others are listed."""
    try:
        return await context.database.get("service", project, name)
    except NotFound:
        raise NotFound(
            f"There is no service '{name[:80]}' in project '{project[:80]}'.", hint="`mlaas get services` lists them."
        ) from None


def _at(error: Error, field: str) -> Error:
    if error.field is None:
        error.field = field
        error.errors = [{"field": field, "message": error.message}]
    return error
