"""Every address of the HTTP port, and the methods it takes.

Served names may hold `/`: the words after the name (`infer`, `versions/3`, `:predict`) are read from the end of the path. A name
that ends like one of these words is addressed with `%2F`.
"""

from mlaas.modelserver.http import generate, memory, metadata, openapi, repository, settings, statistics, v1, v2
from mlaas.modelserver.http.api import Api, Handler, Target

_MODEL: dict[str, dict[bytes, Handler]] = {
    "infer": {b"POST": v2.infer},
    "ready": {b"GET": metadata.model_ready},
    "config": {b"GET": metadata.config},
    "stats": {b"GET": statistics.statistics},
    "generate": {b"POST": generate.generate},
    "generate_stream": {b"POST": generate.generate_stream},
}
_VERBS: dict[str, dict[bytes, Handler]] = {"predict": {b"POST": v1.predict}, "explain": {b"POST": v1.explain}}


def install(api: Api) -> None:
    """Add the routes of this package to an application."""
    api.register("/", _root)
    api.register("/v1/models", _v1)
    api.register("/v2", _v2)


def _root(rest: list[str]) -> Target | None:
    match rest:
        case [] | [""]:
            return Target({b"GET": metadata.alive})
        case ["metrics"]:
            return Target({b"GET": statistics.metrics})
        case ["openapi.json"]:
            return Target({b"GET": openapi.document})
    return None


def _v1(rest: list[str]) -> Target | None:
    if not rest:
        return Target({b"GET": v1.models})
    last, _, verb = rest[-1].rpartition(":")
    if verb in _VERBS and (last or len(rest) > 1):
        name, version = _named([*rest[:-1], last])
        return Target(_VERBS[verb], name, version) if name else None
    name, version = _named(rest)
    return Target({b"GET": v1.status}, name, version) if name else None


def _v2(rest: list[str]) -> Target | None:
    match rest:
        case []:
            return Target({b"GET": metadata.server})
        case ["health", "live"]:
            return Target({b"GET": metadata.live})
        case ["health", "ready"]:
            return Target({b"GET": metadata.ready})
        case ["models"]:
            return Target({b"GET": metadata.models})
        case ["models", "stats"]:
            return Target({b"GET": statistics.statistics})
        case ["models", *path, "trace", "setting"] if path:
            return Target({b"GET": settings.trace, b"POST": settings.change_trace}, "/".join(path))
        case ["models", *path]:
            return _model(path)
        case ["trace", "setting"]:
            return Target({b"GET": settings.trace, b"POST": settings.change_trace})
        case ["logging"]:
            return Target({b"GET": settings.log, b"POST": settings.change_log})
        case ["systemsharedmemory" | "cudasharedmemory" as kind, *path]:
            return _memory(kind, path)
        case ["repository", "index"] | ["repository", _, "index"]:
            return Target({b"POST": repository.index})
        case ["repository", "models", *path, "load"] | ["repository", _, "models", *path, "load"] if path:
            return Target({b"POST": repository.load}, "/".join(path))
        case ["repository", "models", *path, "unload"] | ["repository", _, "models", *path, "unload"] if path:
            return Target({b"POST": repository.unload}, "/".join(path))
        case _:
            return None


def _memory(kind: str, path: list[str]) -> Target | None:
    system = kind == "systemsharedmemory"
    region = ""
    if len(path) == 3 and path[0] == "region" and path[1]:
        region, path = path[1], path[2:]
    match path:
        case ["status"]:
            return Target({b"GET": memory.status if system else memory.cuda_status}, extra=region)
        case ["register"] if region:
            return Target({b"POST": memory.register if system else memory.cuda_register}, extra=region)
        case ["unregister"]:
            return Target({b"POST": memory.unregister if system else memory.cuda_unregister}, extra=region)
        case _:
            return None


def _model(path: list[str]) -> Target | None:
    handlers = _MODEL.get(path[-1]) if len(path) > 1 else None
    if handlers is not None:
        name, version = _named(path[:-1])
        return Target(handlers, name, version) if name else None
    name, version = _named(path)
    return Target({b"GET": metadata.model}, name, version) if name else None


def _named(path: list[str]) -> tuple[str, str]:
    """Name and version of `name/with/slashes[/versions/3]`."""
    if len(path) > 2 and path[-2] == "versions" and path[-1]:
        return "/".join(path[:-2]), path[-1]
    return "/".join(path), ""
