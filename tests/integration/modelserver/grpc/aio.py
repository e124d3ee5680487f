"""The same methods on grpcio's own asyncio server: what the product's transport is compared with."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
from grpc import aio

from mlaas.kernel.errors import Error
from mlaas.modelserver.dispatch import digest_of_authorization
from mlaas.modelserver.grpc.call import Call, Method
from mlaas.modelserver.grpc.status import code_of, text_of

CODES = {code.value[0]: code for code in grpc.StatusCode}
LIMIT = 64 * 1024 * 1024


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, methods: dict[str, Method]) -> None:
        self._methods = methods

    def service(self, details: Any) -> Any:
        method = self._methods.get(details.method)
        if method is None:
            return None
        if method.unary:
            return grpc.unary_unary_rpc_method_handler(_unary(method))
        return grpc.stream_stream_rpc_method_handler(_streaming(method))


def _call(context: Any) -> Call:
    headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
    return Call(headers, digest_of_authorization(headers.get("authorization")), headers.get("mlaas-project", ""))


def _unary(method: Method) -> Any:
    async def handle(payload: bytes, context: Any) -> bytes:
        try:
            answer = method.unary(payload, _call(context))
            return b"".join(await answer if isinstance(answer, Awaitable) else answer)
        except Error as error:
            await context.abort(CODES[code_of(error)], text_of(error))

    return handle


def _streaming(method: Method) -> Any:
    async def handle(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for answer in method.streaming(messages, _call(context)):
                yield b"".join(answer)
        except Error as error:
            await context.abort(CODES[code_of(error)], text_of(error))

    return handle


async def serve(methods: dict[str, Method]) -> tuple[aio.Server, int]:
    """A started server on a free loopback port."""
    server = aio.server(options=[("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT)])
    server.add_generic_rpc_handlers((_Handler(methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port
