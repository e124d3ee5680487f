"""What every protocol does with a request once it is parsed: find the model that the caller may call, bring the tensors to
what it takes, ask it, count. HTTP and gRPC are codecs in front of this.

The path of a model that answers at once has no coroutine in it: `infer` returns the Response itself. Everything else returns
something to wait for, with the deadline and the counting already around it.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from time import perf_counter_ns
from typing import Protocol

from mlaas.kernel.errors import Error, NotFound
from mlaas.modelserver import spans
from mlaas.modelserver.conform import conform
from mlaas.modelserver.errors import Failed, TimedOut, Unsupplied, http_status
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.regions import Regions
from mlaas.modelserver.repository import Model, Repository, Served, unknown
from mlaas.modelserver.statistics import Measured, Statistics

_log = logging.getLogger(__name__)

DEFAULT_PROJECT = "default"
"""Whose models are asked for where nothing says another project."""

CANCELLED = 499
"""What a request counts as whose client went away before the answer (nginx's word for it)."""


class Control(Protocol):
    """Loads and unloads models on a client's request (the repository extension). Both return when it is done.

    Raise Forbidden where somebody reconciles the serving table, NotFound, Invalid where the model does not load. Whether the
    caller may is `Dispatch`'s affair.
    """

    async def load(self, project: str, name: str, parameters: Mapping[str, object]) -> None: ...

    async def unload(self, project: str, name: str, parameters: Mapping[str, object]) -> None: ...


class Dispatch:
    """The one way from a codec to the models. `digest` is `digest_of` the caller's bearer token, "" without one."""

    def __init__(self, repository: Repository, control: Control | None = None) -> None:
        self.repository = repository
        self.control = control
        self.regions = Regions()  # shared memory that clients registered, over whichever protocol
        self.peers: Callable[[], Awaitable[Measured]] | None = None
        """Where there are several fronts: what all of them counted, together."""
        self.domain = ""
        self.started = False  # the first serving table is applied
        self.draining = False  # no new work: the server stops
        self._members: dict[str, frozenset[str]] = {}
        self._callers: dict[tuple[str, str], frozenset[str]] = {}
        self._expires: dict[str, float] = {}
        self._projects: dict[str, tuple[str, ...]] = {}
        self._strangers: dict[str, tuple[str, ...]] = {}

    # -- who asks ---------------------------------------------------------------------------------------------------

    def admit(
        self,
        project_tokens: Mapping[str, Iterable[str]],
        domain: str = "",
        service_tokens: Mapping[str, Mapping[str, Iterable[str]]] | None = None,
        expires: Mapping[str, float] | None = None,
    ) -> None:
        """Take the serving table's token digests, by project and by project and service, the times at which they end (seconds
        since the epoch), and its domain. Holds from the next request on."""
        self._members = {project: frozenset(digests) for project, digests in project_tokens.items()}
        self._callers = {
            (project, name): frozenset(digests)
            for project, services in (service_tokens or {}).items()
            for name, digests in services.items()
        }
        self._expires = dict(expires or {})
        self.domain = domain.strip(".").lower()
        projects: dict[str, set[str]] = {}
        for project, digests in self._members.items():
            for digest in digests:
                projects.setdefault(digest, set()).add(project)
        for (project, _), digests in self._callers.items():
            for digest in digests:
                projects.setdefault(digest, set()).add(project)
        self._projects = {digest: tuple(found) for digest, found in projects.items()}
        self._strangers = {}

    def project(self, digest: str, path: str = "", header: str = "", host: str = "") -> str:
        """The project of a request, in order: path prefix, `mlaas-project`, `Host: SERVICE.PROJECT.DOMAIN`, the token's
        only project, `default`."""
        if path or header:
            return path or header
        if self.domain and host:
            labels = (host.rpartition(":")[0] or host).removesuffix(".") if not host.startswith("[") else ""
            if labels.lower().endswith(f".{self.domain}"):
                service, _, project = labels[: -len(self.domain) - 1].rpartition(".")
                if service and project:
                    return project.lower()
        if digest:
            projects = self._projects.get(digest) or self._stranger(digest)
            if len(projects) == 1:
                return projects[0]
        return DEFAULT_PROJECT

    def _stranger(self, digest: str) -> tuple[str, ...]:
        """The projects with models that name this token themselves. Remembered until the next `admit`: who sends tokens that
        nobody gave must not make the server look through all its models each time."""
        projects = self._strangers.get(digest)
        if projects is None:
            if len(self._strangers) >= 4096:
                self._strangers.clear()
            projects = tuple({model.project for model in self.repository.models() if digest in model.access.tokens})
            self._strangers[digest] = projects
        return projects

    def allowed(self, model: Model, digest: str) -> bool:
        """Whether the caller may call the model: it is public, or the token is one of its own or of its project, and has not
        ended."""
        access = model.access
        if access.public:
            return True
        if not digest or (digest in self._expires and self._expires[digest] <= time.time()):
            return False
        return (
            digest in self._members.get(model.project, ())
            or digest in access.tokens
            or digest in self._callers.get((model.project, model.name), ())
        )

    # -- what there is ----------------------------------------------------------------------------------------------

    def find(self, project: str, name: str, digest: str = "") -> Model:
        """The model. Raises NotFound with the same words whether it is unknown or not the caller's to see."""
        try:
            model = self.repository.find(project, name)
        except NotFound:
            raise self._unknown(name, digest) from None
        if not model.access.public and not self.allowed(model, digest):
            raise self._unknown(name, digest)
        return model

    def models(self, project: str, digest: str = "") -> Iterator[Model]:
        """The models of a project that the caller may call, by name."""
        return (model for model in self.repository.models(project) if self.allowed(model, digest))

    def ready(self) -> bool:
        """Whether the server takes requests: its first table is applied, and it does not stop."""
        return self.started and not self.draining

    def model_ready(self, served: Served) -> bool:
        """Whether a request now would be answered (a model that loads on its first request is ready)."""
        return self.ready() and served.shown[0] == "READY" and served.predictor is not None

    def _unknown(self, name: str, digest: str) -> NotFound:
        if digest or not self._members:
            return unknown(name)
        return NotFound(
            f"Request for unknown model '{name}': there is none of this name for callers without a token.",
            hint="Send the header Authorization: Bearer TOKEN.",
        )

    async def load(self, project: str, name: str, parameters: Mapping[str, object], digest: str = "") -> None:
        """The repository extension's load, of a model that the caller may call. Raises NotFound, and what `Control` raises."""
        try:
            self.find(project, name, digest)
        except NotFound as error:
            raise NotFound(f"The server failed to load '{name}': there is no such model.", hint=error.hint) from None
        await self._control().load(project, name, parameters)

    async def unload(self, project: str, name: str, parameters: Mapping[str, object], digest: str = "") -> None:
        """The repository extension's unload: returns when the requests in the model have ended."""
        self.find(project, name, digest)
        await self._control().unload(project, name, parameters)

    def _control(self) -> Control:
        if self.control is None:
            raise Unsupplied("This server loads and unloads no models on request.")
        return self.control

    # -- requests ---------------------------------------------------------------------------------------------------

    def predictor(self, served: Served) -> Predictor | Awaitable[Predictor]:
        """The predictor with its signature, for codecs that need it to parse; to be awaited while it loads.

        Raises NotReady while there is none.
        """
        predictor = served.ready()
        waiting = predictor.wake()
        return predictor if waiting is None else _woken(predictor, waiting)

    def infer(self, served: Served, request: Request) -> Response | Awaitable[Response]:
        """The answer of one version, counted under `request.protocol`. `request.inputs` may be as the client sent them.

        Raises (at once or when awaited) kernel errors only: Invalid for what the client sent, NotReady, TimedOut, Failed.
        """
        if spans.active():
            return self._traced("infer", served, request, Predictor.infer)
        return self._ask(served, request, Predictor.infer)

    def explain(self, served: Served, request: Request) -> Response | Awaitable[Response]:
        """Attributions, the same way as `infer`. Raises Unexplained where there is no explainer."""
        if spans.active():
            return self._traced("explain", served, request, Predictor.explain)
        return self._ask(served, request, Predictor.explain)

    async def _traced(
        self,
        name: str,
        served: Served,
        request: Request,
        verb: Callable[[Predictor, Request], Response | Awaitable[Response]],
    ) -> Response:
        with _span(name, served, request) as span:
            request.headers = span.headers
            answer = self._ask(served, request, verb)
            response = answer if isinstance(answer, Response) else await answer
            span.annotate(answered_by=response.version or served.version)
            return response

    def _ask(
        self,
        served: Served,
        request: Request,
        verb: Callable[[Predictor, Request], Response | Awaitable[Response]],
    ) -> Response | Awaitable[Response]:
        started = perf_counter_ns()
        statistics = served.statistics.get(request.protocol) or served.counted(request.protocol)
        try:
            predictor = served.ready()
            waiting = predictor.wake()
            if waiting is None:
                conform(request, predictor.signature)
                answer = predictor.infer(request) if verb is Predictor.infer else predictor.explain(request)
                if isinstance(answer, Response):
                    _succeeded(statistics, predictor, request, answer, started)
                    return answer
            else:
                answer = _after(predictor, waiting, request, verb)
        except Exception as error:
            raise self.failed(served, request.protocol, error) from error
        return self._wait(served, statistics, predictor, request, answer, started)

    async def _wait(
        self,
        served: Served,
        statistics: Statistics,
        predictor: Predictor,
        request: Request,
        answer: Awaitable[Response],
        started: int,
    ) -> Response:
        statistics.in_flight += 1
        try:
            limit = _limit(served, request)
            if limit is None:
                response = await answer
            else:
                async with asyncio.timeout(limit):
                    response = await answer
        except TimeoutError:
            raise self.failed(served, request.protocol, _late(served, limit)) from None
        except asyncio.CancelledError:
            statistics.failed[CANCELLED] = statistics.failed.get(CANCELLED, 0) + 1
            raise
        except Exception as error:
            raise self.failed(served, request.protocol, error) from error
        finally:
            statistics.in_flight -= 1
        _succeeded(statistics, predictor, request, response, started)
        return response

    async def stream(self, served: Served, request: Request) -> AsyncIterator[Response]:
        """The answer piece by piece; counted as one request when it ends. The deadline holds for each piece."""
        with _span("stream", served, request) as span:
            request.headers = span.headers
            async for piece in self._stream(served, request):
                yield piece

    async def _stream(self, served: Served, request: Request) -> AsyncIterator[Response]:
        started = perf_counter_ns()
        statistics = served.counted(request.protocol)
        statistics.in_flight += 1
        last: Response | None = None
        try:
            predictor = served.ready()
            waiting = predictor.wake()
            if waiting is not None:
                await waiting
            conform(request, predictor.signature)
            pieces = predictor.stream(request)
            while True:
                limit = _limit(served, request)
                async with asyncio.timeout(limit):
                    try:
                        last = await anext(pieces)
                    except StopAsyncIteration:
                        break
                yield last
        except (asyncio.CancelledError, GeneratorExit):
            statistics.failed[CANCELLED] = statistics.failed.get(CANCELLED, 0) + 1
            raise
        except TimeoutError:
            raise self.failed(served, request.protocol, _late(served, limit)) from None
        except Exception as error:
            raise self.failed(served, request.protocol, error) from error
        finally:
            statistics.in_flight -= 1
        _succeeded(statistics, predictor, request, last, started)

    def failed(self, served: Served, protocol: str, error: BaseException) -> Error:
        """Count a failure (also one that the codec met while it parsed a request for this model); the error to answer with.

        What is no kernel error is the model's fault: its trace goes to the log, the caller reads what it said.
        """
        if not isinstance(error, Error):
            _log.error("Model '%s' (version %s) failed", served.name, served.version, exc_info=error)
            error = Failed(f"Model '{served.name}' failed: {type(error).__name__}: {str(error)[:500]}")
        statistics = served.counted(protocol)
        status = http_status(error)
        statistics.failed[status] = statistics.failed.get(status, 0) + 1
        return error


def digest_of(token: str | bytes) -> str:
    """The SHA-256 hex digest of a bearer token, as the serving table holds it."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).hexdigest()


def digest_of_authorization(value: str | bytes | None) -> str:
    """The digest of an `Authorization` header or gRPC metadata value; "" where it is no bearer token.

    Comparing digests in constant time is not needed: whoever finds a digest's prefix has found no token.
    """
    if not value:
        return ""
    raw = value.encode() if isinstance(value, str) else value
    scheme, _, token = raw.partition(b" ")
    token = token.strip()
    return digest_of(token) if token and scheme.lower() == b"bearer" else ""


def deadline_after(microseconds: object) -> float | None:
    """The `deadline` of a request from its parameter `timeout` (µs, Triton's unit); None without a positive one."""
    if isinstance(microseconds, int) and not isinstance(microseconds, bool) and microseconds > 0:
        return time.monotonic() + microseconds / 1e6
    return None


def _span(name: str, served: Served, request: Request) -> spans.Span:
    """The server's span of a request."""
    return spans.Span(
        f"{name} {served.name}", request, "server", model=served.name, version=served.version, protocol=request.protocol
    )


def _limit(served: Served, request: Request) -> float | None:
    """Seconds left for a request: the shorter of the model's own limit and the client's deadline."""
    limit = served.timeout if served.timeout > 0 else None
    if request.deadline is not None:
        left = max(request.deadline - time.monotonic(), 0.0)
        limit = left if limit is None else min(limit, left)
    return limit


def _late(served: Served, limit: float | None) -> TimedOut:
    within = "in time" if limit is None else f"within {round(limit, 3):g} s"
    return TimedOut(f"Model '{served.name}' did not answer {within}.")


async def _woken(predictor: Predictor, waiting: Awaitable[None]) -> Predictor:
    await waiting
    return predictor


async def _after(
    predictor: Predictor,
    waiting: Awaitable[None],
    request: Request,
    verb: Callable[[Predictor, Request], Response | Awaitable[Response]],
) -> Response:
    await waiting
    conform(request, predictor.signature)
    answer = predictor.infer(request) if verb is Predictor.infer else predictor.explain(request)
    return answer if isinstance(answer, Response) else await answer


def _succeeded(
    statistics: Statistics, predictor: Predictor, request: Request, response: Response | None, started: int
) -> None:
    elapsed = perf_counter_ns() - started
    rows = 1
    if predictor.signature.batched and request.inputs and request.inputs[0].array.ndim:
        rows = request.inputs[0].array.shape[0]
    batch = rows
    if response is not None and response.batch is not None:
        batch = response.batch
    if response is not None and response.timing is not None:
        queue, compute = response.timing
    else:
        queue, compute = 0, elapsed
    statistics.succeeded += 1
    statistics.rows += rows
    if batch or rows == 0:
        statistics.batches[batch] = statistics.batches.get(batch, 0) + 1
    statistics.last = time.time_ns() // 1_000_000
    statistics.observe(queue / 1e9, compute / 1e9, elapsed / 1e9)
