"""The composition root, and the process behind `mlaas up`: the only module that imports kinds and engines.

One process, one event loop: the HTTP server, the reconcile loop and the engine. Whatever they start outlives them.
"""

import asyncio
import contextlib
import gc
import importlib
import importlib.util
import logging
import os
import pkgutil
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mlaas import kinds as kinds_package
from mlaas.engines.local import serving
from mlaas.kernel import listen
from mlaas.kernel.auth import Authenticator
from mlaas.kernel.blobs.claims import claims
from mlaas.kernel.blobs.hashes import Hashes
from mlaas.kernel.blobs.open import open_blobs
from mlaas.kernel.blobs.resolve import Resolver
from mlaas.kernel.bus.embedded import EmbeddedBus
from mlaas.kernel.context import Context
from mlaas.kernel.datafolder import DataFolder
from mlaas.kernel.engine import Engine
from mlaas.kernel.errors import Error, Exists, Invalid
from mlaas.kernel.housekeeping import keep_house
from mlaas.kernel.loop import Loop
from mlaas.kernel.resource import PLATFORM, Kind, Kinds, Meta, Resource
from mlaas.kernel.settings import Settings, runtime_folder, state_file
from mlaas.kernel.store.base import Database
from mlaas.kernel.store.open import open_database
from mlaas.kernel.workload import Mount

log = logging.getLogger("mlaas")
PRELOAD = ("mlaas.runtimes.child", "mlaas.runtimes.transformers.warm")
"""What the warm fork server imports: all that a recipe needs before it touches data."""
DEFAULT_PROJECT = "default"
GRACE = 2.0
"""Seconds that open requests get at the end; streams end at once."""


def find_kinds() -> Kinds:
    """The registry of all kinds in the package: each folder's `spec.KIND`."""
    found: list[Kind] = [module.KIND for module in _modules("spec")]
    return Kinds(found)


def _modules(name: str) -> Iterator[ModuleType]:
    """The module `name` of each kind that has it."""
    for folder in sorted(pkgutil.iter_modules(kinds_package.__path__), key=lambda each: each.name):
        path = f"{kinds_package.__name__}.{folder.name}.{name}"
        if folder.ispkg and importlib.util.find_spec(path) is not None:
            yield importlib.import_module(path)


class Platform:
    """Everything of a running platform but the HTTP server. Open it, serve its `app`, close it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kinds = find_kinds()
        self.tasks: list[asyncio.Task[None]] = []
        self.engines: list[Engine] = []
        self.bus = EmbeddedBus()
        self.database: Database | None = None

    async def open(self) -> None:
        """Open store, blobs and engines, take over what runs, make what must exist. Raises from the error tree."""
        settings = self.settings
        engines = self.engines = _engines(settings)
        opening = [asyncio.create_task(engine.open(), name=f"open-{engine.name}") for engine in engines]
        await asyncio.sleep(0)  # its processes start while the rest is imported

        from mlaas.api.app import create_app
        from mlaas.api.watch import Hub

        database = self.database = await open_database(settings.data / "mlaas.db", self.kinds)
        self.context = Context(settings, database, self.kinds, await asyncio.to_thread(_blobs, settings))
        self.context.bus = self.bus
        self.context.auth = Authenticator(database)
        await self.context.auth.ensure_administrator(settings.data / "admin-token")
        await _ensure_project(database, DEFAULT_PROJECT)
        self.context.resolver = await asyncio.to_thread(_resolver, settings)
        for engine, opened in zip(engines, opening, strict=True):
            self.context.engines[engine.name] = engine
            await opened
        reconcilers = [each for module in _modules("reconcile") for each in module.reconcilers(self.context)]
        self.loop = Loop(database, reconcilers, holder=_holder(settings.data))
        self.context.hint = self.loop.hint
        self.context.fence = self.loop.fence
        self.hub = Hub(database)
        routers = [module.router(self.context) for module in _modules("routes")]
        self.app = create_app(self.context, self.hub, self.loop, routers)

    def start(self) -> None:
        """Begin to act."""
        self._spawn(self.hub.run(), "watch-hub")
        self._spawn(self.loop.run(), "reconcile-loop")
        if self.context.services is not None:
            self._spawn(self.context.services.run(), "model-server")
        self._spawn(keep_house(self.context, lambda: self.loop.leading), "housekeeping")

    async def close(self) -> None:
        """Let go: what runs goes on running."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.database is not None:
            await self.context.gateway.close()
        for engine in self.engines:
            await engine.close()
        await self.bus.close()
        if self.database is not None:
            await self.database.close()

    def _spawn(self, work: Any, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=name)
        task.add_done_callback(_ended)
        self.tasks.append(task)


def _ended(task: "asyncio.Task[None]") -> None:
    """A part of the platform that fails takes the whole process with it: a supervisor starts it anew, nothing is lost."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("%s failed", task.get_name(), exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


def _blobs(settings: Settings) -> Any:
    return open_blobs((settings.data / "blobs").as_uri())


def _resolver(settings: Settings) -> Resolver:
    resolver = Resolver(
        settings.roots(),
        settings.data,
        s3_bucket=settings.s3_bucket,
        hashes=Hashes(settings.data / "cache" / "hashes.db"),
    )
    resolver.register("pvc", claims(resolver, settings.data / "files"))
    return resolver


def _engines(settings: Settings) -> list[Engine]:
    """The engine of this machine, the only one so far."""
    from mlaas.engines.local.engine import LocalEngine

    has_torch = settings.warm and importlib.util.find_spec("torch") is not None
    return [
        LocalEngine(
            settings.data,
            _host_id(),
            roots=settings.roots(),
            cpus=settings.cpus,
            memory=settings.memory,
            preload=PRELOAD if has_torch else (),
            inference=(settings.host, settings.inference_port, settings.grpc_port),
            access_log=settings.access_log,
            fetch=_fetch(settings),
        )
    ]


def _host_id() -> str:
    """What stays the same for this machine: the engine's name carries it, and only the platform here acts on that engine."""
    try:
        text = Path("/etc/machine-id").read_text().strip()
    except OSError:
        text = ""
    if re.fullmatch(r"[0-9a-f]{8,64}", text):
        return text[:12]
    return re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()) or "host"


def _fetch(settings: Settings) -> Callable[[Mount, Path], None]:
    """Brings an input of a script into its working folder: a copy of its own, which it may write to."""

    def fetch(mount: Mount, target: Path) -> None:
        from mlaas.runtimes.data.fetch import fetch as fetch_input
        from mlaas.runtimes.taskfile import Input, TaskFile

        task = TaskFile(
            uid="",
            name="",
            project="",
            attempt=0,
            recipe="script",
            params={},
            inputs={"inputs": Input(mount.uri, mount.hash)},
            cache=str(settings.data / "cache"),
            blobs=(settings.data / "blobs").as_uri(),
        )
        source = fetch_input(task, "inputs")
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)

    return fetch


def _holder(data: Path) -> str:
    """Who takes the lease: whoever has this folder's lock. A successor may take over at once."""
    return f"{socket.gethostname()}:{data}"


async def _ensure_project(database: Database, name: str) -> None:
    with contextlib.suppress(Exists):
        await database.create(Resource("project", Meta(name, PLATFORM), {}, {}))


async def serve(settings: Settings) -> None:
    """Run the platform until SIGTERM or SIGINT. Raises from the error tree when it cannot start."""
    begin = time.monotonic()
    settings.data = settings.data.absolute()
    settings.roots()  # refuses a start in '/' before anything is made
    folder = DataFolder(settings.data)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.release)
        sock = stack.enter_context(listen.bind(settings.host, settings.port, "the platform", "--port"))
        for port, what, flag in (
            (settings.inference_port, "the model server (HTTP)", "--inference-port"),
            (settings.grpc_port, "the model server (gRPC)", "--grpc-port"),
        ):
            # The model server binds it, and may be there already, left by an earlier platform on this folder.
            if not serving.running(settings.data):
                stack.enter_context(listen.reserved(settings.host, port, what, flag, runtime_folder()))
        url = listen.url_of(sock, settings.host, settings.tls_cert is not None)
        folder.record({"pid": os.getpid(), "url": url})
        platform = Platform(settings)
        try:
            await platform.open()
            await _serve(platform, sock, url, begin)
        finally:
            await platform.close()


def _websocket(**options: Any) -> Any:
    """The protocol of a WebSocket: imported with the first one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**options)


async def _serve(platform: Platform, sock: socket.socket, url: str, begin: float) -> None:
    import uvicorn

    settings = platform.settings

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # the platform has handlers of its own, which end the streams first

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                _announce(record, records, begin, settings)

    config = uvicorn.Config(
        platform.app,
        loop="none",
        http="httptools",
        ws=_websocket,  # type: ignore[arg-type]
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(GRACE),
        timeout_keep_alive=65,
        backlog=2048,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    server = Server(config)

    def stop(name: str) -> None:
        log.info("%s: ending; what runs goes on", name)
        platform.hub.close()
        server.should_exit = True

    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stop, number.name)
    platform.start()
    gc.freeze()  # what was imported stays: no collection looks at it again
    gc.enable()
    records = [settings.data / "current.json", state_file()]
    record = {
        "url": url,
        "token_file": str(settings.data / "admin-token"),
        "data": str(settings.data),
        "pid": os.getpid(),
    }
    try:
        await server.serve(sockets=[sock])
    finally:
        for path in records:
            listen.forget_record(path)


def _announce(record: dict[str, Any], records: list[Path], begin: float, settings: Settings) -> None:
    """Say where it is, now that it answers."""
    for path in records:
        try:
            listen.write_record(path, record)
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error.strerror)
    print(f"{record['url']}\ntoken: {record['token_file']}\ndata:  {record['data']}")
    print("stop:  Ctrl-C; tasks that run go on, and the next start takes them over", flush=True)
    log.info("ready after %.2f s at %s", time.monotonic() - begin, record["url"])
    if not listen.is_loopback(settings.host) and settings.tls_cert is None:
        log.warning(
            "listening on %s without TLS: tokens and data can be read on the way. Use --tls-cert and --tls-key.",
            settings.host,
        )


class _OneLine(logging.Formatter):
    """One line for each event, time in UTC; a stack trace is folded into it."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\\n")


def _configure_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn.error", "asyncio", "sqlalchemy", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run(settings: Settings) -> int:
    """`serve` in an event loop of its own; the exit code. Errors are told in words on stderr."""
    import uvloop

    _configure_logging()
    gc.disable()  # until it is ready: collecting while importing takes a tenth of the start
    try:
        _check_tls(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except Error as error:
        print(f"mlaas: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _check_tls(settings: Settings) -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise Invalid("TLS needs both a certificate and a key.", hint="Give --tls-cert and --tls-key.")
    for path, flag in ((settings.tls_cert, "--tls-cert"), (settings.tls_key, "--tls-key")):
        if path is not None and not os.access(path, os.R_OK):
            raise Invalid(f"{flag}: {path} cannot be read.", field=flag)


def main() -> int:
    """`python -m mlaas.app --data DIR --port N`: what tests use; people use `mlaas up`."""
    import argparse

    settings = Settings.from_environment()
    parser = argparse.ArgumentParser(prog="python -m mlaas.app")
    parser.add_argument("--data", type=Path, default=settings.data)
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port)
    parser.add_argument("--inference-port", type=int, default=settings.inference_port)
    parser.add_argument("--grpc-port", type=int, default=settings.grpc_port)
    parser.add_argument("--tls-cert", type=Path, default=settings.tls_cert)
    parser.add_argument("--tls-key", type=Path, default=settings.tls_key)
    for key, value in vars(parser.parse_args()).items():
        setattr(settings, key, value)
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
