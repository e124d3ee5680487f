"""The query and header parameters of the generic routes, as dependencies."""

import re
from typing import Annotated, Literal

from fastapi import Header, Path, Query
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from mlaas.api.watch import Selector
from mlaas.kernel.errors import Invalid, Malformed
from mlaas.kernel.resource import PLATFORM, Kind
from mlaas.kernel.store.base import Query as StoreQuery
from mlaas.kernel.validation import nearest

ALL = "-"
"""In the place of a project: all of them."""
MAX_PAGE = 5000
_VERSION = re.compile(r'(?:W/)?"(\d{1,18})"')
# In the document only: a name that cannot exist is not found, as any other that does not.
_NAME = {"pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 50}

ProjectPath = Annotated[str, Path(description="The project's name.", json_schema_extra=_NAME)]
NamePath = Annotated[str, Path(description="The resource's name.", json_schema_extra=_NAME)]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description='The version that was read, as its ETag: `"42"`. `*`: any.', max_length=200),
]


def in_project(project: ProjectPath) -> str:
    """The project of a route of a kind of scope project."""
    return project


def on_platform() -> str:
    """The project of a route of a kind of scope platform."""
    return PLATFORM


def known_query(request: HTTPConnection) -> None:
    """Refuse query parameters that the route does not know: a misspelt filter must not list everything."""
    route = request.scope.get("route")
    if request.path_params.get("project") == ALL and "name" not in request.path_params:
        raise HTTPException(405)  # "all projects" can be listed; nothing is created in all of them
    if not isinstance(route, APIRoute) or not request.query_params:
        return
    if (route.openapi_extra or {}).get("x-any-query"):
        return  # what they mean is decided behind it
    known = _query_parameters(route.dependant)
    for key in request.query_params:
        if key not in known:
            meant = nearest(key, known)
            message = f"there is no query parameter '{key[:80]}'" + (f"; did you mean '{meant}'?" if meant else "")
            raise Invalid(message, field=key[:80], hint=f"Known here: {', '.join(sorted(known)) or 'none'}.")


def _query_parameters(dependant: Dependant) -> list[str]:
    names = [field.alias for field in dependant.query_params]
    return names + [name for inner in dependant.dependencies for name in _query_parameters(inner)]


class Watching:
    """Whether to watch, and from where."""

    def __init__(
        self,
        watch: Annotated[bool, Query(include_in_schema=False)] = False,
        since: Annotated[int | None, Query(ge=0, lt=1 << 63, include_in_schema=False)] = None,
        last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", include_in_schema=False)] = None,
    ) -> None:
        self.watch = watch
        self.since = revision_of(last_event_id) if last_event_id else since


class Listing:
    """The query of a list, as a dependency. Text filters are exact; a list of values means any of them."""

    def __init__(
        self,
        labels: Annotated[str, Query(description="`key=value`, several with commas: all must match.")] = "",
        label: Annotated[list[str] | None, Query(include_in_schema=False)] = None,
        label_selector: Annotated[str, Query(alias="labelSelector", include_in_schema=False)] = "",
        phase: Annotated[str, Query(description="A phase, several with commas: any of them.")] = "",
        prefix: Annotated[str, Query(description="Names that begin so.", max_length=50)] = "",
        name: Annotated[str, Query(include_in_schema=False, max_length=50)] = "",
        owner: Annotated[str | None, Query(description="The uid of the owner.", max_length=100)] = None,
        order: Annotated[Literal["created", "-created", "name"], Query(description="`-`: newest first.")] = "name",
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Resources a page.")] = 1000,
        after: Annotated[str | None, Query(description="`next` of the page before.", max_length=1000)] = None,
    ) -> None:
        self.labels = _labels([labels, label_selector, *(label or [])])
        self.phases = frozenset(part.strip().capitalize() for part in phase.split(",") if part.strip())
        self.prefix = prefix or name
        self.owner = owner
        self.order = order
        self.limit = limit
        self.after = after

    def query(self, kind: Kind, projects: frozenset[str] | None) -> StoreQuery:
        return StoreQuery(
            kind=kind.name,
            projects=projects,
            prefix=self.prefix,
            labels=self.labels,
            owner=self.owner,
            phases=self.phases,
            order=self.order,
            limit=self.limit,
            after=self.after,
        )

    def selector(self, kind: Kind, projects: frozenset[str] | None, names: frozenset[str] | None) -> Selector:
        return Selector(kind.name, projects, names, self.prefix, self.labels, self.owner, self.phases)


def revision_of(text: str) -> int:
    """The revision in a `Last-Event-ID`."""
    if not text.isdecimal() or len(text) > 18:
        raise Malformed(f"'{text[:40]}' is no event id of a watch.", field="Last-Event-ID", hint="Leave it out.")
    return int(text)


def version_of(if_match: str | None) -> int | None:
    """The version that `If-Match` names; None for none or `*`. Raises Malformed."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _VERSION.fullmatch(if_match.strip())
    if found is None:
        raise Malformed(f"If-Match is '{if_match[:80]}', which is no version.", field="If-Match", hint='Like "42".')
    return int(found[1])


def _labels(selectors: list[str]) -> dict[str, str]:
    labels = {}
    for part in ",".join(selectors).split(","):
        key, equals, value = part.partition("=")
        if not part.strip():
            continue
        if not equals or key.endswith("!"):
            raise Invalid(f"'{part[:80]}' is no label selector.", field="labels", hint="Like key=value,other=value.")
        labels[key.strip()] = value.removeprefix("=").strip()
    return labels
