"""Children of a resource: they go before it does."""

from mlaas.kernel.errors import NotFound
from mlaas.kernel.resource import Resource
from mlaas.kernel.store.base import Query, Store


async def children(store: Store, owner: Resource, kind: str | None = None) -> list[Resource]:
    """The resources (of `kind`) that `owner` owns, in order of creation."""
    query = Query(kind, projects=frozenset({owner.meta.project}), owner=owner.meta.uid, order="created")
    return (await store.list(query)).items


async def delete_children(store: Store, owner: Resource, fence: int | None) -> bool:
    """Ask for the deletion of all that `owner` owns; True while any is left. Call again when one of them changed.

    A kind with children has a finalizer, and takes it away once this is False. Raises Fenced.
    """
    for child in await children(store, owner):
        if not child.meta.deleted:
            try:
                await store.delete(child.kind, child.meta.project, child.meta.name, fence=fence)
            except NotFound:
                pass  # it went meanwhile
    return bool(await children(store, owner))
