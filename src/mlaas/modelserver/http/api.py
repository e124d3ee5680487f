"""The application behind the HTTP port: from a request to its route, and every error to its reply."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from mlaas.kernel.errors import Error, Malformed, NotFound
from mlaas.modelserver.dispatch import DEFAULT_PROJECT, Dispatch, digest_of_authorization
from mlaas.modelserver.http.message import HttpRequest, MethodNotAllowed, Reply, error_reply
from mlaas.modelserver.http.port import Limits
from mlaas.modelserver.http.tracing import continued
from mlaas.modelserver.repository import Served

_log = logging.getLogger(__name__)

Answer = Reply | Awaitable[Reply]


class Call:
    """One request at its route: who asks, of which project, for which model."""

    __slots__ = ("api", "digest", "project", "request", "target")

    def __init__(self, api: "Api", request: HttpRequest, target: "Target", project: str, digest: str) -> None:
        self.api = api
        self.request = request
        self.target = target
        self.project = project
        self.digest = digest

    def served(self) -> Served:
        """The addressed version. Raises NotFound, the same for unknown and forbidden."""
        return self.api.dispatch.find(self.project, self.target.name, self.digest).version(self.target.version)


Handler = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Target:
    """What a path means: its handlers by method, and the names in it."""

    handlers: dict[bytes, Handler]
    name: str = ""
    version: str = ""
    project: str = ""
    extra: str = ""  # a further name in the path: a memory region, a repository


@dataclass(slots=True)
class _Known:
    """Paths seen before; forgotten all at once when there are too many."""

    targets: dict[bytes, Target] = field(default_factory=dict)

    def add(self, path: bytes, target: Target) -> None:
        if len(self.targets) >= 4096:
            self.targets.clear()
        self.targets[path] = target


Resolver = Callable[[list[str]], Target | None]
"""From the decoded segments of a path (after the prefix) to a target; None where it is not one of its own."""


class Api:
    """Routes requests. A module adds its routes with `register`: longer prefixes are asked first, and a resolver that answers
    None leaves the path to the next one."""

    def __init__(self, dispatch: Dispatch, limits: Limits | None = None) -> None:
        self.dispatch = dispatch
        self.limits = limits or Limits()
        self.gauges: dict[str, Callable[[], float]] = {}  # further metrics of this server
        self._resolvers: list[tuple[tuple[str, ...], Resolver]] = []
        self._known = _Known()
        self._digests: dict[bytes, str] = {}

    def register(self, prefix: str, resolver: Resolver) -> None:
        """Let `resolver` say what the paths below `prefix` mean (`/openai/v1`, say). Segments are split before they are
        decoded, so a name may hold `%2F`."""
        parts = tuple(part for part in prefix.split("/") if part)
        self._resolvers.append((parts, resolver))
        self._resolvers.sort(key=lambda item: -len(item[0]))
        self._known.targets.clear()

    def __call__(self, request: HttpRequest) -> Answer:
        """The reply to a request; raises nothing."""
        try:
            answer = self._route(request)
        except Exception as error:
            answer = self._failed(request, error)
        if type(answer) is not Reply:
            return self._guarded(request, answer)  # type: ignore[arg-type]
        if b"traceparent" in request.headers:
            _trace(request, answer)
        return answer

    def _route(self, request: HttpRequest) -> Answer:
        target = self._known.targets.get(request.path)
        if target is None:
            target = self.resolve(request.path)
        method = request.method
        handler = target.handlers.get(method)
        if handler is None:
            if method == b"HEAD" and b"GET" in target.handlers:
                handler = target.handlers[b"GET"]
            else:
                allowed = ", ".join(sorted(method.decode() for method in target.handlers))
                raise MethodNotAllowed(method.decode("latin-1"), allowed)
        headers = request.headers
        authorization = headers.get(b"authorization")
        digest = self._digest(authorization) if authorization is not None else ""
        project = target.project
        if not project:
            named = headers.get(b"mlaas-project")
            if named is None and not digest and not self.dispatch.domain:
                project = DEFAULT_PROJECT
            else:
                host = headers.get(b"host", b"").decode("latin-1")
                project = self.dispatch.project(digest, "", (named or b"").decode("latin-1"), host)
        return handler(Call(self, request, target, project, digest))

    def resolve(self, path: bytes) -> Target:
        """What a path means. Raises NotFound, Malformed for one that is no UTF-8."""
        try:
            segments = [unquote_to_bytes(part).decode() for part in path.split(b"/")[1:]]
        except UnicodeDecodeError:
            raise Malformed("The path is not UTF-8.") from None
        if len(segments) > 1 and segments[-1] == "":
            segments.pop()  # a trailing slash means nothing
        project, rest = "", segments
        if len(rest) > 2 and rest[0] == "projects" and rest[1]:
            project, rest = rest[1], rest[2:]
        for prefix, resolver in self._resolvers:
            if tuple(rest[: len(prefix)]) == prefix:
                target = resolver(rest[len(prefix) :])
                if target is not None:
                    if project:
                        target = Target(target.handlers, target.name, target.version, project, target.extra)
                    self._known.add(path, target)
                    return target
        raise NotFound(
            f"There is nothing at '{path.decode('utf-8', 'replace')[:200]}'.",
            hint="GET /openapi.json lists the addresses.",
        )

    def _digest(self, authorization: bytes) -> str:
        """The caller's token digest; the last few are remembered, for hashing costs more than looking up."""
        digest = self._digests.get(authorization)
        if digest is None:
            if len(self._digests) >= 1024:
                self._digests.clear()
            digest = self._digests[authorization] = digest_of_authorization(authorization)
        return digest

    async def _guarded(self, request: HttpRequest, answer: Awaitable[Reply]) -> Reply:
        try:
            reply = await answer
        except Exception as error:
            reply = self._failed(request, error)
        if b"traceparent" in request.headers:
            _trace(request, reply)
        return reply

    def _failed(self, request: HttpRequest, error: Exception) -> Reply:
        if not isinstance(error, Error):
            _log.error("%s %r failed", request.method.decode("latin-1"), request.path, exc_info=error)
            error = Error("The server failed on this request; its log says more.")
        return error_reply(error)


def _trace(request: HttpRequest, reply: Reply) -> None:
    """Answer in the trace that the request names (W3C trace context)."""
    found = continued(request.headers[b"traceparent"])
    if found is not None:
        reply.headers = (*reply.headers, (b"traceparent", found))
