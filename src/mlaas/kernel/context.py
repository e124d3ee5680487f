"""What the parts of a running platform share. The composition root builds one; kinds and the API are handed it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.bus.base import Bus
from mlaas.kernel.engine import Engine
from mlaas.kernel.gateway import Gateway
from mlaas.kernel.resource import Kinds
from mlaas.kernel.settings import Settings
from mlaas.kernel.store.base import Database


def _nobody_listens(kind: str, project: str, name: str) -> None:
    """A hint may be lost: reconcilers sweep the store as well."""


@dataclass(slots=True)
class Context:
    """A kind's `reconcile.reconcilers(context)` and `routes.router(context)` take what they need from here.

    `engines` are by name, the machine's own first. `resolver` turns references into (uri, hash). `auth` holds the tokens.
    `services` looks after the model server; `gateway` forwards requests to what is behind the platform. `fence` is the epoch
    of the lease that reconcilers write under; None while this platform does not lead, and always None for writes on behalf of
    a user. `hint` says that a resource may have changed: cheap, never blocks, may be lost.
    """

    settings: Settings
    database: Database
    kinds: Kinds
    blobs: Blobs
    engines: dict[str, Engine] = field(default_factory=dict)
    bus: Bus | None = None
    resolver: Any = None
    auth: Any = None
    services: Any = None
    gateway: Gateway = field(default_factory=Gateway)
    hint: Callable[[str, str, str], None] = _nobody_listens
    fence: Callable[[], int | None] = lambda: None

    @property
    def engine(self) -> Engine:
        """The engine of workloads that name none."""
        return next(iter(self.engines.values()))

    def engine_named(self, wanted: str | None) -> Engine | None:
        """The engine that `wanted` names: by its full name, or by the part before its host id (`local`); None: not here.

        Without a name, the engine of workloads that name none.
        """
        if wanted is None:
            return self.engine if self.engines else None
        if wanted in self.engines:
            return self.engines[wanted]
        return next((engine for name, engine in self.engines.items() if name.startswith(f"{wanted}-")), None)
