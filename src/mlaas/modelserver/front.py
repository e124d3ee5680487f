"""A front as a process of its own: `python -m mlaas.modelserver.front`, started by the parent on sockets that it holds.

The parent gives it the serving table and asks for status and statistics over their channel; when the channel closes, the parent
is gone and the front ends.
"""

import argparse
import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from mlaas.kernel.channel import Channel, over
from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver import accesslog, sinks, spans
from mlaas.modelserver.commands import Commands
from mlaas.modelserver.control import Controller
from mlaas.modelserver.dispatch import Dispatch
from mlaas.modelserver.http.port import Limits
from mlaas.modelserver.load import Loading
from mlaas.modelserver.metrics import measure
from mlaas.modelserver.repository import Repository
from mlaas.modelserver.server import Front, Side, serve
from mlaas.modelserver.statistics import Measured
from mlaas.modelserver.table import Deployment, Table


class _Relayed:
    """Loads and unloads asked of one front happen in all of them: the parent passes them on."""

    def __init__(self) -> None:
        self.channel: Channel | None = None

    async def load(self, project: str, name: str, parameters: Mapping[str, object]) -> None:
        await self._ask("load", project, name, parameters)

    async def unload(self, project: str, name: str, parameters: Mapping[str, object]) -> None:
        await self._ask("unload", project, name, parameters)

    async def _ask(self, op: str, project: str, name: str, parameters: Mapping[str, object]) -> None:
        assert self.channel is not None
        await self.channel.ask(op, timeout=600.0, project=project, name=name, parameters=dict(parameters))


class _Grpc:
    """gRPC beside HTTP."""

    def __init__(self, dispatch: Dispatch, sock: socket.socket, access_log: bool) -> None:
        from mlaas.modelserver.grpc.server import Server

        self._server = Server(dispatch, access=accesslog.call if access_log else None)
        self._socket = sock

    def connections(self) -> float:
        return float(len(self._server))

    async def start(self) -> None:
        await self._server.listen(sock=self._socket)

    async def drain(self, seconds: float) -> None:
        await self._server.close(seconds)


class Process:
    """This front: what the parent may ask of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.repository = Repository()
        self.loading = Loading()
        self.controller = Controller(self.repository, self.loading)
        self.commands = Commands(self.controller)
        self.relayed = _Relayed()
        self.dispatch = Dispatch(self.repository, self.relayed)
        sockets = [socket.socket(fileno=options.http_fd)]
        sides: list[Side] = []
        grpc: _Grpc | None = None
        if options.grpc_fd is not None:
            grpc = _Grpc(self.dispatch, socket.socket(fileno=options.grpc_fd), options.access_log)
            sides.append(grpc)
        limits = Limits(body_bytes=options.max_body)
        self.front = Front(self.dispatch, sockets, limits, options.access_log, sides)
        if grpc is not None:
            self.front.api.gauges["mlaas_grpc_connections"] = grpc.connections
        self.dispatch.regions.enabled = options.shared_memory
        self.channel: Channel | None = None
        self._socket = socket.socket(fileno=options.channel_fd)
        self._applied = asyncio.Event()
        self._several = options.several
        self._expecting: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until SIGTERM, or until the parent is gone."""
        channel = self.relayed.channel = self.channel = await over(self._socket, self.answer)
        sinks.bus = self._publish
        if self._several:
            self.dispatch.peers = self._peers
        serving = asyncio.get_running_loop().create_task(serve(self.front, self._loaded))
        gone = asyncio.get_running_loop().create_task(channel.closed.wait())
        try:
            await asyncio.wait([serving, gone], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            else:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
        finally:
            gone.cancel()
            await self.controller.close()
            self.loading.close()
            await asyncio.to_thread(spans.stop)
            await channel.close()

    async def answer(self, op: str, arguments: dict[str, Any]) -> Any:
        """`apply`, `admit`, `status`, `statistics`, `tails`, `load`, `unload`, `settled`."""
        if op == "apply":
            return self._apply(arguments["table"])
        if op == "admit":
            return self._admit(_table(arguments["admission"]))
        if op == "settled":
            return await self.controller.settled()
        if op == "status":
            return self.controller.status()
        if op == "statistics":
            return self._statistics()
        if op == "tails":
            return self.controller.tails(arguments["project"], arguments["name"])
        if op == "load":
            return await self.commands.load(arguments["project"], arguments["name"], arguments.get("parameters", {}))
        if op == "unload":
            return await self.commands.unload(arguments["project"], arguments["name"], arguments.get("parameters", {}))
        raise Invalid(f"There is no operation '{op}'.")

    async def _loaded(self) -> None:
        """Ready once the first table is applied; models may go on loading."""
        assert self.channel is not None
        self.controller.start()
        await self._applied.wait()
        await self.channel.ask("ready")

    def _apply(self, document: Any) -> None:
        table = _table(document)
        self.controller.apply(table)
        if self._expecting is not None:
            self._expecting.cancel()
        self._expecting = asyncio.get_running_loop().create_task(self.loading.expect(_at_zero(table)))
        self._admit(table)
        self._applied.set()

    def _admit(self, table: Table) -> None:
        self.dispatch.admit(table.project_tokens, table.domain, table.service_tokens, table.expires)

    def _statistics(self) -> dict[str, Any]:
        gauges = {name: read() for name, read in self.front.api.gauges.items()}
        return measure(self.repository.models(), gauges).export()

    async def _publish(self, events: list[str]) -> None:
        """Payload events for the bus of the platform that the parent is administrated by. Raises Unavailable without one."""
        assert self.channel is not None
        await self.channel.ask("events", timeout=10.0, events=events)

    async def _peers(self) -> Measured:
        """What all fronts counted, together."""
        assert self.channel is not None
        measured = Measured()
        for front in await self.channel.ask("statistics"):
            measured.absorb(front)
        return measured


def _table(document: Any) -> Table:
    try:
        return msgspec.convert(document, Table)
    except msgspec.ValidationError as error:
        raise Invalid(f"The serving table is not valid: {error}.", field="table") from None


def _at_zero(table: Table) -> list[Deployment]:
    """What is loaded on its first use only."""
    found = []
    for service in table.services:
        if service.scaling.min_replicas == 0:
            canaries = [canary.predictor for canary in service.rollout.canary]
            found += [*service.versions, *canaries, *([service.predictor] if service.predictor is not None else [])]
    return found


def main(arguments: list[str] | None = None) -> int:
    import uvloop

    parser = argparse.ArgumentParser(prog="python -m mlaas.modelserver.front")
    parser.add_argument("--http-fd", type=int, required=True)
    parser.add_argument("--grpc-fd", type=int)
    parser.add_argument("--channel-fd", type=int, required=True)
    parser.add_argument("--max-body", type=int, default=64 << 20)
    parser.add_argument("--access-log", action="store_true")
    parser.add_argument("--shared-memory", action="store_true", help="only clients of this machine reach the ports")
    parser.add_argument("--several", action="store_true", help="there are other fronts; statistics are those of all")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    spans.start()

    async def entry() -> None:
        await Process(options).run()

    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(entry())
    except Error as error:
        print(f"mlaas: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
