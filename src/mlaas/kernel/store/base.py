"""The store's contract. `contract.py` beside this file is the test suite that every back end subclasses."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from mlaas.kernel.resource import Resource


@dataclass(frozen=True, slots=True)
class Query:
    """Which resources. Empty fields do not restrict. `projects` None: all of them."""

    kind: str | None = None
    projects: frozenset[str] | None = None
    prefix: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    owner: str | None = None  # uid
    uid: str | None = None
    phases: frozenset[str] = frozenset()
    order: Literal["created", "-created", "name"] = "name"
    limit: int | None = None
    after: str | None = None  # the opaque token of the page before


@dataclass(frozen=True, slots=True)
class Page:
    """`items` as they all were at `revision`; `next` is the token of the following page, or None."""

    items: list[Resource]
    revision: int
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change. A `delete` carries the resource as it last was; a `bookmark` only says which revision was reached."""

    type: Literal["put", "delete", "bookmark"]
    revision: int
    resource: Resource | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """Leadership: `epoch` grows with every new holder and is the *fence* of its writes. Times are seconds."""

    holder: str
    epoch: int
    ttl: float


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric of one owner."""

    owner: str  # uid
    metric: str
    step: int
    time: float  # seconds since the epoch
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a resource; repeats only raise `count` and `last_seen`."""

    owner: str  # uid
    project: str
    kind: str
    name: str
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    count: int = 1
    first_seen: str = ""
    last_seen: str = ""


class Store(ABC):
    """Resources under optimistic concurrency. Each operation touches one resource and is atomic and durable.

    Revisions are whole numbers that grow by one with every write and become visible in order: once a reader has seen N,
    nothing at or below N appears later. A write with a `fence` older than the current lease epoch raises Fenced.
    A returned resource is the caller's own copy.
    """

    @abstractmethod
    async def create(self, resource: Resource, *, fence: int | None = None) -> Resource:
        """Store a new resource; sets uid, created, version, generation 1, the kind's schema version and finalizers.

        Raises Exists when the name is taken, Invalid for a bad name, NotFound for an unknown kind, or Fenced.
        """

    @abstractmethod
    async def get(self, kind: str, project: str, name: str) -> Resource:
        """The resource, upgraded to its kind's schema version. Raises NotFound."""

    @abstractmethod
    async def list(self, query: Query) -> Page:
        """Raises Invalid for a token that is not one of its own."""

    @abstractmethod
    async def count(self, query: Query) -> dict[str, int]:
        """How many by phase."""

    @abstractmethod
    async def update(self, resource: Resource, *, fence: int | None = None) -> Resource:
        """Replace the document whose version is still `resource.meta.version`. Raises Conflict, NotFound or Fenced.

        A resource that is marked deleted and has no finalizers left is removed by this write.
        A write that would change nothing returns the stored resource and makes no revision. uid, created, deleted and
        generation (raised when `spec` changes) are the store's: what the argument says about them is not used.
        """

    @abstractmethod
    async def delete(
        self, kind: str, project: str, name: str, *, version: int | None = None, fence: int | None = None
    ) -> Resource | None:
        """Mark for deletion, or remove at once when it has no finalizers (then None). Repeating it changes nothing.

        Raises NotFound, Conflict when `version` is another one, or Fenced.
        """

    @abstractmethod
    def changes(self, since: int, *, follow: bool = True) -> AsyncIterator[Change]:
        """Every change after revision `since`, in order, bookmarks between. Raises Compacted below the horizon."""


class Leases(ABC):
    """One leader per store. A holder must stop before `ttl` seconds after its last renewal, on its own monotonic clock."""

    @abstractmethod
    async def acquire(self, holder: str, ttl: float) -> Lease | None:
        """The lease, or None while another holder's has not run out.

        The same holder gets it again at once, with a new epoch: so one that died and came back need not wait.
        """

    @abstractmethod
    async def renew(self, lease: Lease) -> bool:
        """False when it is no longer this holder's."""

    @abstractmethod
    async def release(self, lease: Lease) -> None:
        """Give it back so that the next one need not wait."""


class Series(ABC):
    """Metric points: appended in batches, kept by age and count, not part of the revisions."""

    @abstractmethod
    async def append(self, points: list[Point]) -> None: ...

    @abstractmethod
    async def points(
        self, owner: str, metric: str | None = None, after: int = 0, limit: int = 10_000
    ) -> list[tuple[int, Point]]:
        """(position, point) in the order of arrival; `after` is the last position seen."""


class Journal(ABC):
    """Events: one row per (owner, reason, message), with a count."""

    @abstractmethod
    async def record(self, event: Event) -> None: ...

    @abstractmethod
    async def events(
        self, projects: frozenset[str] | None = None, owner: str | None = None, after: int = 0, limit: int = 1000
    ) -> list[tuple[int, Event]]:
        """(position, event), newest position last; a repeat moves an event to a new position."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a bearer token; see `mlaas.kernel.auth`. `projects` None: all of them."""

    digest: str  # SHA-256 of the token, hexadecimal
    name: str
    role: str  # viewer, editor, admin, workload, caller
    projects: frozenset[str] | None
    created: str
    expires: float | None = None  # seconds since the epoch
    workload: str | None = None  # uid
    inputs: frozenset[str] = frozenset()  # hashes of the blobs that a workload may read
    service: str | None = None  # the one service of its only project that a caller may ask
    lifetime: float | None = None  # seconds that a renewal adds from its moment on; None: it cannot be renewed


class Tokens(ABC):
    """Bearer tokens, by their digest."""

    @abstractmethod
    async def add_token(self, token: Token) -> None:
        """Raises Exists when the name is taken."""

    @abstractmethod
    async def find_token(self, digest: str) -> Token | None: ...

    @abstractmethod
    async def tokens(self) -> list[Token]:
        """All of them, by name."""

    @abstractmethod
    async def prolong_token(self, digest: str, expires: float) -> Token:
        """Move its end (seconds since the epoch). Raises NotFound."""

    @abstractmethod
    async def remove_token(self, name: str) -> None:
        """Raises NotFound."""


class Maintenance(ABC):
    """What the platform's leader does now and then."""

    @abstractmethod
    async def compact(self, before: int) -> None:
        """Forget superseded revisions and tombstones at or below `before`: `changes(since < before)` raises Compacted."""

    @abstractmethod
    async def trim(self, *, points_age: float, points_per_owner: int, events_age: float) -> None:
        """Drop old points and events. Ages are seconds."""

    @abstractmethod
    async def revision(self) -> int:
        """The latest revision."""

    @abstractmethod
    async def close(self) -> None: ...


class Database(Store, Leases, Series, Journal, Tokens, Maintenance):
    """A back end: all of it over one database."""


def describe(event: Event) -> dict[str, Any]:
    """The event as the API shows it."""
    return {
        "owner": {"kind": event.kind, "name": event.name, "uid": event.owner, "project": event.project},
        "type": event.type,
        "reason": event.reason,
        "message": event.message,
        "count": event.count,
        "first_seen": event.first_seen,
        "last_seen": event.last_seen,
    }
