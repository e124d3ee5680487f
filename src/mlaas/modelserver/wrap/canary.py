"""Canary, dark launch, sticky sessions and the automatic abort.

Which deployment answers is a pure function of the request's key and the weights, so that all fronts decide alike and a repeated
request meets the same version: the key is the sticky header where the service names one and the request has it, else the
request's id, else chance.
"""

import hashlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from mlaas.kernel.errors import Error, NotFound
from mlaas.modelserver.conform import conform
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature

HEADER = "mlaas-revision"
"""Names the deployment that is to answer, whatever the weights say: how a dark launch is reached."""


def share(key: str) -> float:
    """A number in [0, 100) that depends on the key alone (the first 8 bytes of its BLAKE2b hash)."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") * 100 / 2**64


class Watch:
    """Outcomes of one deployment over the last `window` seconds: how many, how many failed (5xx), the mean latency."""

    __slots__ = ("_events", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        self._events: deque[tuple[float, float, bool]] = deque(maxlen=100_000)

    def add(self, latency: float, failed: bool) -> None:
        self._events.append((time.monotonic(), latency, failed))

    def summary(self) -> tuple[int, float, float]:
        """(requests, share of failures, mean seconds of those that did not fail)."""
        horizon = time.monotonic() - self._window
        while self._events and self._events[0][0] < horizon:
            self._events.popleft()
        count = len(self._events)
        good = [latency for _, latency, failed in self._events if not failed]
        return count, (count - len(good)) / count if count else 0.0, sum(good) / len(good) if good else 0.0


class Side:
    """One deployment of a rollout and its share of the traffic."""

    __slots__ = ("predictor", "revision", "version", "watch", "weight")

    def __init__(self, revision: str, version: str, predictor: Predictor, weight: float, window: float) -> None:
        self.revision = revision
        self.version = version
        self.predictor = predictor
        self.weight = weight
        self.watch = Watch(window)


class Canary(Predictor):
    """Splits traffic between a stable deployment and canaries.

    `abort`: `error_rate` (share of 5xx above the stable's), `latency_ratio` (mean latency over the stable's), `window` seconds,
    `min_requests`. When a canary passes a limit it gets no more traffic, and `aborted` says why; promoting or changing it makes a
    new Canary. A canary that is not ready never takes traffic from the stable one.
    """

    def __init__(
        self, stable: Side, canaries: list[Side], sticky_header: str = "", abort: dict[str, float] | None = None
    ) -> None:
        self._stable = stable
        self._canaries = canaries
        self._sticky = sticky_header.lower()
        self._abort = abort or {}
        self._named = {side.revision: side for side in [*canaries, stable]}
        self.aborted: dict[str, str] = {}

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._stable.predictor.signature

    def wake(self) -> Awaitable[None] | None:
        return self._stable.predictor.wake()

    def ready(self) -> bool:
        return self._stable.predictor.ready()

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        side = self._choose(request)
        if side is not self._stable:
            request = conform(request, side.predictor.signature)
        started = time.perf_counter()
        try:
            answer = side.predictor.infer(request)
        except Error as error:
            self._note(side, started, error.status >= 500)
            raise
        if isinstance(answer, Response):
            self._note(side, started, failed=False)
            answer.version = answer.version or side.version
            return answer
        return self._follow(side, answer, started)

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        side = self._choose(request)
        async for piece in side.predictor.stream(request):
            piece.version = piece.version or side.version
            yield piece

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        return self._choose(request).predictor.explain(request)

    def status(self) -> dict[str, Any]:
        sides = [_side_status(side, self.aborted.get(side.revision)) for side in [self._stable, *self._canaries]]
        return self._stable.predictor.status() | {"traffic": sides}

    def memory(self) -> int:
        return sum(side.predictor.memory() for side in self._named.values())

    def _choose(self, request: Request) -> Side:
        named = request.headers.get(HEADER)
        if named is not None:
            found = self._named.get(named)
            if found is None:
                raise NotFound(f"There is no revision '{named}'.", hint=f"There are {', '.join(self._named)}.")
            return found
        key = (request.headers.get(self._sticky) if self._sticky else None) or request.id
        place = share(key) if key else random.random() * 100
        bound = 0.0
        for side in self._canaries:
            bound += side.weight
            if place < bound:
                usable = side.revision not in self.aborted and side.predictor.ready()
                return side if usable else self._stable
        return self._stable

    async def _follow(self, side: Side, answer: Awaitable[Response], started: float) -> Response:
        try:
            response = await answer
        except Error as error:
            self._note(side, started, error.status >= 500)
            raise
        self._note(side, started, failed=False)
        response.version = response.version or side.version
        return response

    def _note(self, side: Side, started: float, failed: bool) -> None:
        if not self._abort:
            return
        side.watch.add(time.perf_counter() - started, failed)
        if side is not self._stable and side.revision not in self.aborted:
            reason = self._verdict(side)
            if reason:
                self.aborted[side.revision] = reason

    def _verdict(self, side: Side) -> str:
        count, errors, latency = side.watch.summary()
        if count < self._abort.get("min_requests", 20):
            return ""
        _, stable_errors, stable_latency = self._stable.watch.summary()
        limit = self._abort.get("error_rate")
        if limit is not None and errors > stable_errors + limit:
            return f"{errors:.1%} of {count} requests failed, against {stable_errors:.1%} of the stable version's."
        limit = self._abort.get("latency_ratio")
        if limit is not None and stable_latency and latency > limit * stable_latency:
            return (
                f"Answers take {latency / stable_latency:.2f} times as long as the stable version's ({limit} allowed)."
            )
        return ""


def _side_status(side: Side, aborted: str | None) -> dict[str, Any]:
    count, errors, latency = side.watch.summary()
    found: dict[str, Any] = {"revision": side.revision, "percent": 0 if aborted else side.weight}
    if count:
        found |= {"requests": count, "error_rate": round(errors, 4), "latency": round(latency, 6)}
    if aborted:
        found["aborted"] = aborted
    return found
