"""What an engine is: it runs workloads somewhere. What not every engine can do is a class of its own beside it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from mlaas.kernel.resource import Resource
from mlaas.kernel.workload import Collected, Observed, Resources, WorkloadSpec


class Engine(ABC):
    """Runs workloads. Every operation is idempotent by the workload's uid and attempt, and may be repeated after a crash.

    Files and processes (or cluster objects) are the truth: an engine that has just started knows, by looking, all that an
    earlier one started.
    """

    name: str

    async def open(self) -> None:
        """Take over what an earlier platform left running. Called once, before anything else."""

    async def close(self) -> None:
        """Let go; what runs goes on running."""

    @abstractmethod
    async def ensure(self, workload: Resource, attempt: int) -> None:
        """Have this attempt started. Nothing happens if it already was, whether it runs or has ended.

        Raises Invalid when it cannot ever start here, Unavailable when it cannot now.
        """

    @abstractmethod
    async def stop(self, uid: str, grace: float, reason: str) -> None:
        """TERM all replicas of the workload, KILL after `grace` seconds; `reason` goes into `Exit.reason`.

        Returns at once; `observe` tells when they are gone.
        """

    @abstractmethod
    async def observe(self, uid: str | None = None) -> list[Observed]:
        """All that runs or ended and was not yet removed (of one workload, or of all): the latest attempt of each."""

    @abstractmethod
    def hints(self) -> AsyncIterator[str]:
        """uids whose observation may have changed. May double, may lose: the caller sweeps as well."""

    @abstractmethod
    def logs(self, uid: str, role: str, index: int, offset: int, follow: bool) -> AsyncIterator[bytes]:
        """The log's bytes from `offset` on; with `follow`, on until the workload's end. All attempts, in order."""

    @abstractmethod
    async def capacity(self) -> Resources:
        """What this engine has in all for workloads."""

    @abstractmethod
    async def collect(self, uid: str, attempt: int) -> Collected:
        """What an ended attempt left. Can be repeated until `remove`."""


class CanTidy(ABC):
    """The engine keeps files of ended workloads."""

    @abstractmethod
    async def tidy(self, uid: str, keep_checkpoints: bool) -> None:
        """Keep only log and exit record of an ended workload."""

    @abstractmethod
    async def remove(self, uid: str) -> None:
        """Forget an ended workload and all its files."""


class CanReport(ABC):
    """The engine keeps every metric that a workload reported, not only the latest."""

    @abstractmethod
    async def points(self, uid: str, attempt: int, offset: int) -> tuple[list[dict[str, Any]], int]:
        """What the attempt reported from `offset` (0 at first) on: each `{"time": ISO 8601, "metrics": {name: value}}`;
        and the offset to go on from."""


class CanSuspend(ABC):
    """The engine can stop a workload so that a later attempt goes on where it was."""


class CanExec(ABC):
    """The engine can run a command beside a running replica."""

    @abstractmethod
    async def execute(self, uid: str, role: str, index: int, command: list[str]) -> int:
        """Exit code of `command`, run in the replica's working folder and confinement."""


class CanServe(ABC):
    """The engine keeps services answering inference requests.

    Services are documents as the model server's table has them (`mlaas.modelserver.table`); sources may be any resolved uri,
    with its hash.
    """

    @abstractmethod
    def server(self) -> WorkloadSpec | None:
        """The one workload that must run for services to answer; None where services have servers of their own."""

    @abstractmethod
    async def serve(self, table: dict[str, Any]) -> dict[tuple[str, str], str]:
        """Have exactly this table served. Returns when it is accepted; loading goes on. Raises Unavailable while there is no
        server, Invalid for a table that contradicts itself.

        Returns (project, name) -> why not yet, for the services whose content is still on its way or cannot be had: what they
        served before goes on. While there are any, the caller asks again.
        """

    @abstractmethod
    async def admit(self, admission: dict[str, Any]) -> None:
        """Change who may call what, at once: the keys of a table that say so (`project_tokens`, `service_tokens`, `expires`,
        `domain`). Raises Unavailable."""

    @abstractmethod
    async def serving(self) -> dict[str, Any]:
        """What is served and how that goes: `{services: [{project, name, ready, versions, units, ...}], memory, fronts}`.

        Raises Unavailable."""

    @abstractmethod
    async def tails(self, project: str, name: str) -> dict[str, Any]:
        """The last lines of a service's processes: `{process: {total, lines}}`, where `total` counts all lines that it wrote.
        A compiled model has no process of its own. Raises Unavailable."""

    def listen(self, publish: Callable[[list[str]], Awaitable[None]]) -> None:
        """Where events go that services log to `bus://`, each in the JSON format of CloudEvents. An engine whose servers do not
        send theirs through it ignores it."""

    @abstractmethod
    def addresses(self) -> dict[str, str]:
        """`{"http": url, "grpc": host:port}` for clients."""
