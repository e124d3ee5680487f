"""One deployment as a predictor: loaded on first use or ahead of it, unloaded when idle or when memory is short.

A request that comes while the model is not in memory waits for the load and is answered. What is unloaded finishes the
requests it works on first.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

from mlaas.kernel.errors import Error, Unavailable
from mlaas.modelserver.errors import NotReady
from mlaas.modelserver.load import Loader
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.wrap.scale import Autoscaler, Demand

Phase = Literal["Cold", "Loading", "Ready", "Failed"]

_RETRY_FIRST, _RETRY_MOST = 1.0, 60.0  # seconds between attempts to load what failed


class Unit(Predictor):
    """A deployment that can be in memory or not.

    `make_room` is called with the unit after each load, so that others may be unloaded; `changed` after each change of phase.
    """

    def __init__(
        self,
        deployment: Deployment,
        loader: Loader,
        make_room: Callable[["Unit"], None] = lambda unit: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.deployment = deployment
        self.pinned = False  # stays in memory, also where it is short
        self.phase: Phase = "Cold"
        self.reason = ""
        self.used = time.monotonic()
        self.demand = Demand()
        self.container_concurrency = 0
        self.cold_starts = 0
        self.scaler: Autoscaler | None = None  # its window of demand ends with it
        self.load_seconds = 0.0
        self._loader = loader
        self._make_room = make_room
        self.changed = changed
        self._predictor: Predictor | None = None
        self._signature: Signature | None = None
        self._loading: asyncio.Task[None] | None = None
        self._error: Error | None = None
        self._written: dict[str, Any] = {}  # the logs of workers that are gone
        self._failures = 0  # lines about loads that failed
        self._retry_at = 0.0
        self._retry_after = _RETRY_FIRST
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        if self._signature is None:
            raise NotReady(f"The model is {self.phase.lower()}.")
        return self._signature

    @property
    def busy(self) -> bool:
        """Whether it is loading or working on a request."""
        return self._running > 0 or self._loading is not None

    def wake(self) -> Awaitable[None] | None:
        return None if self._predictor is not None else self.load()

    def ready(self) -> bool:
        return self._predictor is not None

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        predictor = self._predictor
        if predictor is None:
            return self._infer_cold(request)
        self.used = time.monotonic()
        self.demand.requests += 1
        answer = predictor.infer(request)
        return answer if type(answer) is Response else self._counted(answer)  # type: ignore[arg-type]

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        predictor = self._predictor
        if predictor is None:
            return self._explain_cold(request)
        answer = predictor.explain(request)
        return answer if isinstance(answer, Response) else self._counted(answer)

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        predictor = self._predictor
        if predictor is None:
            await self.load()
            predictor = self._present()
        self._enter()
        try:
            async for piece in predictor.stream(request):
                yield piece
        finally:
            self._leave()

    def due(self) -> bool:
        """Whether its last load failed and the back-off has passed."""
        return self._error is not None and self._loading is None and time.monotonic() >= self._retry_at

    def slots(self) -> int:
        return self._predictor.slots() if self._predictor is not None else 1

    def concurrency(self) -> int:
        """Requests that run or wait for it now; those that are answered at once are never seen here."""
        return max(self._running, self.demand.now)

    def aside(self) -> str:
        """Why its model is set aside; "" where it is not."""
        aside: Callable[[], str] | None = getattr(self._predictor, "aside", None)
        return aside() if aside is not None else ""

    def limit(self, container_concurrency: int) -> None:
        """Have each replica work on so many requests at once (0: no limit)."""
        self.container_concurrency = container_concurrency
        limit = getattr(self._predictor, "limit", None)
        if limit is not None:
            limit(container_concurrency)

    def resize(self, replicas: int) -> None:
        """Ask for this many worker processes; a model that runs in the front has none."""
        resize = getattr(self._predictor, "resize", None)
        if resize is not None:
            resize(replicas)

    async def load(self) -> None:
        """Have it in memory. Many callers share one load. Raises what loading raised; a failed load is not tried again by
        requests before its back-off has passed, and says when that is."""
        if self._predictor is not None:
            return
        if self._closed:
            raise NotReady("The model is being removed.")
        if self._loading is None:
            wait = self._retry_at - time.monotonic()
            if self._error is not None and wait > 0:
                raise self._refusal(wait)
            self._loading = asyncio.get_running_loop().create_task(self._load())
        await asyncio.shield(self._loading)

    async def unload(self) -> None:
        """Free its memory once the requests in it have ended; new ones load it again."""
        predictor, self._predictor = self._predictor, None
        if predictor is None:
            return
        self._set("Cold")
        await self._idle.wait()
        await predictor.close()
        self._written = predictor.tails()

    async def close(self) -> None:
        self._closed = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self.unload()

    def memory(self) -> int:
        return self._predictor.memory() if self._predictor is not None else 0

    def status(self) -> dict[str, Any]:
        """`{revision, phase, reason?, cold_starts, load_seconds, retry_in?, ...}` and what the loaded predictor says."""
        found: dict[str, Any] = {
            "revision": self.deployment.revision,
            "phase": self.phase,
            "cold_starts": self.cold_starts,
            "load_seconds": round(self.load_seconds, 4),
        }
        if self.reason:
            found["reason"] = self.reason
        if self._error is not None:
            found["retry_in"] = max(0.0, round(self._retry_at - time.monotonic(), 1))
        if self._predictor is not None:
            found |= self._predictor.status()
        return found

    def tails(self) -> dict[str, Any]:
        """Also of the workers that are gone: those of the last load, or of the attempt that failed."""
        return self._predictor.tails() if self._predictor is not None else self._written

    async def _load(self) -> None:
        started = time.monotonic()
        if self._error is None:  # what is tried again stays failed, with its reason, until it is there
            self._set("Loading")
        try:
            predictor = await self._loader.load(self.deployment)
        except Error as error:
            self._failed(error)
            raise
        except asyncio.CancelledError:
            self._loading = None
            self._set("Cold")
            raise
        except Exception as error:
            failure = Unavailable(f"Loading failed with {type(error).__name__}: {error}")
            self._failed(failure)
            raise failure from error
        self.load_seconds = time.monotonic() - started
        self.cold_starts += 1
        self.used = time.monotonic()
        self._loading, self._error, self._retry_after = None, None, _RETRY_FIRST
        self._predictor, self._signature = predictor, predictor.signature
        self.limit(self.container_concurrency)
        if hasattr(predictor, "changed"):
            predictor.changed = lambda: self.changed()
        self._set("Ready")
        self._make_room(self)

    def _failed(self, error: Error) -> None:
        self._loading, self._error = None, error
        self._retry_at = time.monotonic() + self._retry_after
        self._retry_after = min(2 * self._retry_after, _RETRY_MOST)
        lines = [*getattr(error, "__notes__", []), error.message]
        self._failures += len(lines)
        self._written = {"0": {"total": self._failures, "lines": lines}}
        self._set("Failed", error.message + (f" {error.hint}" if error.hint else ""))

    def _refusal(self, wait: float) -> NotReady:
        refusal = NotReady(
            f"The model could not be loaded: {self.reason}", hint=f"The next attempt is in {wait:.0f} s."
        )
        refusal.retry_after = max(1.0, wait)
        return refusal

    def _set(self, phase: Phase, reason: str = "") -> None:
        self.phase, self.reason = phase, reason
        self.changed()

    def _present(self) -> Predictor:
        if self._predictor is None:
            raise NotReady("The model was unloaded while the request waited; send it again.")
        return self._predictor

    async def _infer_cold(self, request: Request) -> Response:
        await self.load()
        self.demand.requests += 1
        answer = self._present().infer(request)
        return answer if isinstance(answer, Response) else await self._counted(answer)

    async def _explain_cold(self, request: Request) -> Response:
        await self.load()
        answer = self._present().explain(request)
        return answer if isinstance(answer, Response) else await self._counted(answer)

    async def _counted(self, answer: Awaitable[Response]) -> Response:
        self._enter()
        try:
            return await answer
        finally:
            self._leave()
            self.used = time.monotonic()

    def _enter(self) -> None:
        self._running += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()
