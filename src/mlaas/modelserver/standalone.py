"""`mlaas serve`: from what is said on the command line to a front that serves it."""

import asyncio
import os
import re
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlaas.kernel.errors import Error, Invalid
from mlaas.kernel.listen import is_loopback
from mlaas.modelserver.cache import cache_folder
from mlaas.modelserver.dispatch import digest_of
from mlaas.modelserver.parent import Parent, serve
from mlaas.modelserver.sources.fetch import locate
from mlaas.modelserver.table import Access, Deployment, Explainer, Int8, Service, Table


@dataclass(slots=True)
class Arguments:
    """What was asked for. `sources` are folders, files or URIs; `name` is for a single one."""

    sources: list[str]
    name: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int = 8001
    public: bool = False
    token_file: Path | None = None
    access_log: bool = False
    format: str = ""
    trust: bool = False
    requirements: list[str] = field(default_factory=list)  # of the models' own Python environment
    max_body: int = 64 << 20
    workers: int = 1
    explain: Literal["", "shap", "attribution"] = ""
    int8: Path | None = None  # rows on which text encoders have to stay as good as they are
    max_drop: float = 0.01


def table(arguments: Arguments) -> Table:
    """The serving table: one service for each source, with all its versions. What is elsewhere is fetched first.

    Raises Invalid for a source that is not there, a name for several sources, and two sources of one name; and what `locate`
    raises.
    """
    if not arguments.sources:
        raise Invalid("There is nothing to serve.", hint="mlaas serve FOLDER")
    if arguments.name and len(arguments.sources) > 1:
        raise Invalid(
            "--name is for a single model.", field="name", hint="Serve several under the names of their folders."
        )
    tokens = access_tokens(arguments)
    access = Access(public=not tokens)
    services: dict[str, Service] = {}
    for source in arguments.sources:
        service = _service(source, arguments, access)
        if service.name in services:
            raise Invalid(
                f"Two models would be called '{service.name}'.",
                hint="Rename a folder, or start a server for each with --name.",
            )
        services[service.name] = service
    return Table(list(services.values()), project_tokens={"default": tokens} if tokens else {})


def access_tokens(arguments: Arguments) -> list[str]:
    """The digests of the tokens that callers need; none where anybody may call.

    A token file has a token a line; one that does not exist is made, readable by its owner only. Raises Invalid for an address
    that other machines reach without either a token file or `--public`.
    """
    path = arguments.token_file
    if path is None:
        if arguments.public or is_loopback(arguments.host):
            return []
        raise Invalid(
            f"Other machines can reach {arguments.host}: callers need a token there.",
            field="host",
            hint="Add --token-file FILE (made with a new token when it is not there), or --public to let anybody call.",
        )
    if arguments.public:
        raise Invalid("--public and --token-file contradict each other.", field="public")
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        print(f"A new token was written to {path}.", file=sys.stderr)
    tokens = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not tokens:
        raise Invalid(f"There is no token in {path}.", field="token_file")
    return [digest_of(token) for token in tokens]


def _service(source: str, arguments: Arguments, access: Access) -> Service:
    found = locate(source, cache_folder())
    name = arguments.name or found.name
    folders = versions(found.path)
    deployments = [
        Deployment(
            revision=f"{name}-{version}",
            source=str(folder),
            version=version,
            format=arguments.format,
            trusted=arguments.trust,
            environment=arguments.requirements,
            int8=_int8(arguments),
        )
        for version, folder in folders.items()
    ]
    explainer = Explainer(method=arguments.explain) if arguments.explain else None
    return Service(name=name, predictor=deployments[-1], versions=deployments[:-1], access=access, explainer=explainer)


def _int8(arguments: Arguments) -> Int8 | None:
    if arguments.int8 is None:
        return None
    rows = arguments.int8.expanduser().absolute()
    if not rows.exists():
        raise Invalid(f"There are no rows at {rows}.", field="int8")
    return Int8(source=str(rows), max_drop=arguments.max_drop)


def versions(path: Path) -> dict[str, Path]:
    """Version -> folder, in ascending order. A folder that holds nothing but folders with whole numbers as names has these
    versions, of which the highest is the default; any other is version 1."""
    if path.is_dir():
        inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        if inside and all(entry.is_dir() and re.fullmatch(r"[1-9][0-9]{0,17}", entry.name) for entry in inside):
            return {entry.name: entry for entry in sorted(inside, key=lambda entry: int(entry.name))}
    return {"1": path}


async def run(arguments: Arguments) -> None:
    """Serve until SIGTERM or SIGINT. Raises Invalid or Unavailable before anything is served."""
    wanted = table(arguments)
    options = ["--max-body", str(arguments.max_body), *(["--access-log"] if arguments.access_log else [])]
    if is_loopback(arguments.host) and arguments.workers == 1:  # a region is registered with one front
        options.append("--shared-memory")
    parent = Parent(
        arguments.host, arguments.port, arguments.grpc_port, arguments.workers, options, msgspec.to_builtins(wanted)
    )

    async def announce() -> None:
        status = await parent.settled()
        for service in status["services"]:
            for version in service["versions"]:
                state = version["state"]
                said = "ready" if state == "READY" else f"{state.lower()}: {version['reason']}"
                print(f"{service['name']} (version {version['version']}) is {said}", file=sys.stderr)
            for unit in service["units"]:
                if "int8" in unit:
                    print(f"{unit['revision']}: {_of_int8(unit['int8'])}", file=sys.stderr)
        print(f"Serving at {parent.url}, gRPC at port {parent.grpc_port}", file=sys.stderr, flush=True)

    await serve(parent, None, announce)


def _of_int8(found: dict[str, Any]) -> str:
    """What came of int8, in a line."""
    if not found["served"]:
        return f"served in float, not int8: {found['reason']}"
    measured = (
        f"{found['float']:g} in float, {found['int8']:g} in int8" if "float" in found else f"{found['agreement']:g}"
    )
    return f"served in int8; {found['measure']} on {found['rows']} rows: {measured}"


def main(arguments: Arguments) -> None:
    """Run the server."""
    asyncio.run(run(arguments))


__all__ = ["Arguments", "Error", "main", "run", "table"]
