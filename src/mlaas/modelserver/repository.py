"""What is served: by project and name, each with its versions. Codecs find a model here and nowhere else.

States are Triton's words: LOADING, READY, UNLOADING, UNAVAILABLE.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mlaas.kernel.errors import NotFound
from mlaas.modelserver.errors import NotReady
from mlaas.modelserver.payloads import Payloads
from mlaas.modelserver.predictor import Predictor
from mlaas.modelserver.statistics import Statistics
from mlaas.modelserver.table import Access

State = Literal["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]


@dataclass(slots=True, eq=False)
class Served:
    """One version of one model. `predictor` is None until it is loaded for the first time."""

    name: str
    version: str
    predictor: Predictor | None = None
    state: State = "LOADING"
    reason: str = ""
    aside: str = (
        ""  # why it answers nothing for a while, because its workers keep dying; its own part refuses requests then
    )
    changed: float = field(default_factory=time.time)
    timeout: float = 60.0  # seconds one request may take; 0: no limit
    statistics: dict[str, Statistics] = field(default_factory=dict)  # by protocol: v1, v2, grpc, ...

    def ready(self) -> Predictor:
        """The predictor; of one that is loading too, for a request waits for the load (`wake`). Raises NotReady with the reason
        where there is none to wait for."""
        if self.predictor is None or self.state not in ("READY", "LOADING"):
            raise NotReady(
                f"Model '{self.name}' is not ready: {self.reason or self.state.lower()}.", hint="Try again shortly."
            )
        return self.predictor

    @property
    def shown(self) -> tuple[State, str]:
        """State and reason as clients are told."""
        return ("UNAVAILABLE", self.aside) if self.aside else (self.state, self.reason)

    def counted(self, protocol: str) -> Statistics:
        """The statistics of one protocol."""
        found = self.statistics.get(protocol)
        if found is None:
            found = self.statistics[protocol] = Statistics()
        return found


@dataclass(slots=True, eq=False)
class Model:
    """A served name: its versions in the order of registration, the last one being the default unless `default` says another."""

    project: str
    name: str
    access: Access = field(default_factory=lambda: Access(public=True))
    versions: dict[str, Served] = field(default_factory=dict)
    default: str = ""
    max_batch_size: int = 0  # rows of several requests that are worked on together; 0: none are
    payloads: Payloads | None = None  # its payload log

    def version(self, version: str = "") -> Served:
        """One version, or the default one. Raises NotFound naming those there are."""
        wanted = version or self.default or next(reversed(self.versions), "")
        found = self.versions.get(wanted)
        if found is None:
            raise NotFound(
                f"Model '{self.name}' has no version '{wanted}'; there are {', '.join(self.versions) or 'none'}."
            )
        return found


class Repository:
    """All served models. Only the event loop touches it."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], Model] = {}

    def find(self, project: str, name: str) -> Model:
        """The model of that name. Raises NotFound with the same words for an unknown and a forbidden one."""
        found = self._models.get((project, name))
        if found is None:
            raise unknown(name)
        return found

    def put(self, model: Model) -> None:
        self._models[(model.project, model.name)] = model

    def remove(self, project: str, name: str) -> Model | None:
        return self._models.pop((project, name), None)

    def models(self, project: str | None = None) -> Iterator[Model]:
        """All models, or one project's, by name."""
        for (owner, _), model in sorted(self._models.items(), key=lambda item: item[0]):
            if project is None or owner == project:
                yield model


def unknown(name: str) -> NotFound:
    """The one answer for a model that is not there or not the caller's to see. Its first words are Triton's, which programs
    look for."""
    return NotFound(
        f"Request for unknown model '{name}'.", hint="GET /v2/repository/index or /v1/models lists what there is."
    )
