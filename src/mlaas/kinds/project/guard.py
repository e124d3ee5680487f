"""What may happen to a project."""

from typing import Any

from mlaas.kernel.errors import Conflict, Immutable
from mlaas.kernel.resource import Kind, Resource
from mlaas.kernel.store.base import Query

DEFAULT = "default"


async def check_delete(context: Any, project: Resource) -> None:
    """Refuse to delete `default`, and a project that still holds something; the answer says what."""
    name = project.meta.name
    if name == DEFAULT:
        raise Immutable("The project 'default' is always there.", field="meta.name")
    held = []
    kinds: list[Kind] = list(context.kinds)
    for kind in kinds:
        if kind.scope != "project" or not kind.creatable:
            continue
        page = await context.database.list(Query(kind=kind.name, projects=frozenset({name}), limit=4))
        if page.items:
            names = ", ".join(item.meta.name for item in page.items[:3])
            held.append(f"{kind.plural} ({names}{', ...' if len(page.items) > 3 else ''})")
    if held:
        raise Conflict(
            f"The project '{name}' is not empty: it holds {'; '.join(held)}.",
            field="meta.name",
            hint="Delete these first.",
        )
