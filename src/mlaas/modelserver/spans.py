"""OpenTelemetry spans of requests (extra `otel`): one for the request, one below it for each part that answers it.

Switched on by OpenTelemetry's own environment variables, OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
(opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables); where they are not set, nothing is imported and no
part is wrapped. The context travels in the request's header `traceparent` (W3C trace context), as it does between servers: a
part behind a URL, or a user's class in a worker, needs nothing else to go on with it.
"""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from types import TracebackType
from typing import Any, Literal

from mlaas.kernel.errors import Error
from mlaas.modelserver.errors import http_status
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature

_log = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE = "mlaas-modelserver"
_CONTEXT = ("traceparent", "tracestate")

Kind = Literal["server", "internal", "client"]


class _Tracing:
    """What is switched on in this process."""

    provider: Any = None
    tracer: Any = None
    propagator: Any = None


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names a collector, and does not switch the SDK off."""
    named = any(environment.get(name) for name in _ENDPOINTS)
    return named and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"


def start() -> None:
    """Send spans to the collector that the environment names; nothing without one. A missing extra is said in the log: a server
    without spans is better than none."""
    if not wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("No spans are sent: OpenTelemetry is not installed here (pip install 'mlaas[otel]').")
        return
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": _SERVICE}
    provider = TracerProvider(resource=Resource.create(name))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)


def use(provider: Any) -> None:
    """Make spans with this `TracerProvider`; None: no more."""
    _Tracing.provider = provider
    if provider is None:
        _Tracing.tracer = None
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    _Tracing.tracer = provider.get_tracer("mlaas.modelserver")
    _Tracing.propagator = TraceContextTextMapPropagator()


def stop() -> None:
    """Send what is left. Blocks until it is sent, or has failed."""
    if _Tracing.provider is not None:
        _Tracing.provider.shutdown()
        use(None)


def active() -> bool:
    return _Tracing.tracer is not None


class Span:
    """A span around a block, below the one that `request.headers` names. `headers` are the request's with this span in its place:
    what is asked for inside goes on from there. Does nothing where spans are off."""

    __slots__ = ("_span", "headers")

    def __init__(self, name: str, request: Request, kind: Kind = "internal", **attributes: str | int) -> None:
        self.headers = request.headers
        self._span: Any = None
        if _Tracing.tracer is None:
            return
        from opentelemetry import trace

        context = _Tracing.propagator.extract({key: request.headers.get(key, "") for key in _CONTEXT})
        self._span = _Tracing.tracer.start_span(
            name,
            context,
            trace.SpanKind[kind.upper()],
            {f"mlaas.{key}": value for key, value in attributes.items()},
        )
        carrier: dict[str, str] = {}
        _Tracing.propagator.inject(carrier, trace.set_span_in_context(self._span))
        self.headers = {**request.headers, **carrier}

    def annotate(self, **attributes: str | int | float) -> None:
        """Add attributes under the prefix `mlaas.`."""
        if self._span is not None:
            self._span.set_attributes({f"mlaas.{key}": value for key, value in attributes.items()})

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        if error is not None:
            self._fail(error)
        self._span.end()

    def _fail(self, error: BaseException) -> None:
        """What a client did wrong is no error of the server's span (semantic conventions for HTTP spans, "Status")."""
        from opentelemetry.trace import StatusCode

        status = http_status(error) if isinstance(error, Error) else 500
        if not isinstance(error, Exception):
            self.annotate(cancelled="the client went away")
            return
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("error.type", type(error).__name__)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR, error.message if isinstance(error, Error) else str(error))


def spanned(inner: Predictor, name: str, **attributes: str) -> Predictor:
    """`inner` with a span around each of its answers; `inner` itself where spans are off."""
    return _Spanned(inner, name, attributes) if active() else inner


class _Spanned(Predictor):
    """Everything is the inner predictor's."""

    def __init__(self, inner: Predictor, name: str, attributes: dict[str, str]) -> None:
        self._inner = inner
        self._name = name
        self._attributes: dict[str, Any] = dict(attributes)

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._inner.signature

    def ready(self) -> bool:
        return self._inner.ready()

    def wake(self) -> Awaitable[None] | None:
        return self._inner.wake()

    async def infer(self, request: Request) -> Response:
        with Span(self._name, request, **self._attributes) as span:
            answer = self._inner.infer(below(request, span))
            response = answer if isinstance(answer, Response) else await answer
            if response.timing is not None:
                queue, compute = response.timing
                span.annotate(queue_seconds=queue / 1e9, compute_seconds=compute / 1e9)
            return response

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        with Span(self._name, request, **self._attributes) as span:
            async for piece in self._inner.stream(below(request, span)):
                yield piece

    async def explain(self, request: Request) -> Response:
        with Span(f"explain {self._name}", request, **self._attributes) as span:
            answer = self._inner.explain(below(request, span))
            return answer if isinstance(answer, Response) else await answer

    def status(self) -> dict[str, Any]:
        return self._inner.status()

    def tails(self) -> dict[str, Any]:
        return self._inner.tails()

    def memory(self) -> int:
        return self._inner.memory()

    async def close(self) -> None:
        await self._inner.close()


def below(request: Request, span: Span) -> Request:
    """The request as a part inside `span` gets it."""
    return Request(
        request.inputs,
        request.outputs,
        request.id,
        request.parameters,
        span.headers,
        request.deadline,
        request.protocol,
    )
