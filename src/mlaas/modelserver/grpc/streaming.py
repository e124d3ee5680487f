"""ModelStreamInfer: requests in, answers out on one stream, several for one request where the model is decoupled.

Requests are worked on at the same time. The answers of models that give one each come in the order of the requests; those of a
decoupled model come as they are made. A request with a `sequence_id` begins when the one before it in its sequence has ended: its
model may keep a state. A request that fails is answered with `error_message`, and the stream goes on.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from mlaas.kernel.errors import Error
from mlaas.modelserver.grpc.call import Call
from mlaas.modelserver.grpc.codec import Buffer, Decoded, Parts, decode, length_prefix
from mlaas.modelserver.grpc.messages import message
from mlaas.modelserver.grpc.service import InferenceService
from mlaas.modelserver.grpc.status import text_of
from mlaas.modelserver.http.metadata import decoupled
from mlaas.modelserver.predictor import Response
from mlaas.modelserver.repository import Served

_AT_ONCE = 64  # requests of one stream that are worked on; the next one waits
_AHEAD = 16  # answers that wait to be sent; a model that is faster than its reader waits
_INFER_RESPONSE = 2 << 3 | 2
_ASKS_FOR_END = "triton_enable_empty_final_response"
_IS_END = "triton_final_response"


class StreamInfer:
    """The method. Each call has its own `_Conversation`."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    async def __call__(self, messages: AsyncIterator[Buffer], call: Call) -> AsyncGenerator[Parts, None]:
        conversation = _Conversation(self._service, call)
        reader = asyncio.create_task(conversation.read(messages))
        try:
            while (parts := await conversation.answers.get()) is not None:
                yield parts
            try:
                await reader
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


class _Conversation:
    def __init__(self, service: InferenceService, call: Call) -> None:
        self._service = service
        self._call = call
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._sequences: dict[object, asyncio.Event] = {}  # by sequence_id: the end of its latest request
        self.answers: asyncio.Queue[Parts | None] = asyncio.Queue(_AHEAD)

    async def read(self, messages: AsyncIterator[Buffer]) -> None:
        """Take all requests; None into the answers when the last one is answered."""
        earlier: asyncio.Event | None = None
        try:
            async with asyncio.TaskGroup() as group:
                async for payload in messages:
                    await self._slots.acquire()
                    done = asyncio.Event()
                    group.create_task(self._answer(payload, earlier, done))
                    earlier = done
        finally:
            if not (task := asyncio.current_task()) or not task.cancelling():
                await self.answers.put(None)

    async def _answer(self, payload: Buffer, earlier: asyncio.Event | None, done: asyncio.Event) -> None:
        """One request. `earlier` is set once the request before it is answered, `done` once this one is."""
        identity = ""
        sequence: object = None
        ended = asyncio.Event()
        try:
            decoded = decode(payload, self._service.dispatch.regions)
            identity = decoded.request.id
            if sequence := decoded.request.parameters.get("sequence_id"):
                before = self._sequences.get(sequence)
                self._sequences[sequence] = ended
                if before is not None:
                    await before.wait()
            served = self._service.addressed(decoded, self._call)
            free = decoupled(await self._service.predictor(served))
            async with aclosing(self._pieces(decoded, served, free)) as pieces:
                if free:
                    done.set()  # its answers keep nobody waiting
                async for parts in pieces:
                    if earlier is not None and not free:
                        await earlier.wait()
                    await self.answers.put(parts)
        except Error as error:
            if earlier is not None and not done.is_set():
                await earlier.wait()
            failure = message("ModelStreamInferResponse")(error_message=text_of(error))
            failure.infer_response.id = identity
            await self.answers.put([failure.SerializeToString()])
        finally:
            done.set()
            ended.set()
            if self._sequences.get(sequence) is ended:
                del self._sequences[sequence]
            self._slots.release()

    async def _pieces(self, decoded: Decoded, served: Served, free: bool) -> AsyncGenerator[Parts, None]:
        """A request's answers. When it asks for the end to be marked, the last one is: of a decoupled model, whose pieces must
        not wait for the next one, by an empty answer after it."""
        marked = bool(decoded.request.parameters.get(_ASKS_FOR_END))
        held: Response | None = None
        async for response in self._service.dispatch.stream(served, decoded.request):
            if not marked:
                yield self._wrapped(response, decoded, served)
            elif free:
                yield self._wrapped(_marked(response, False), decoded, served)
            else:
                if held is not None:
                    yield self._wrapped(_marked(held, False), decoded, served)
                held = response
        if held is not None:
            yield self._wrapped(_marked(held, True), decoded, served)
        elif marked:
            yield self._wrapped(_marked(Response([]), True), decoded, served)

    def _wrapped(self, response: Response, decoded: Decoded, served: Served) -> Parts:
        """ModelStreamInferResponse around a ModelInferResponse, which stays in its parts."""
        parts = self._service.encoded(response, decoded, served)
        return [length_prefix(_INFER_RESPONSE, sum(len(part) for part in parts)), *parts]


def _marked(response: Response, last: bool) -> Response:
    response.parameters = {**response.parameters, _IS_END: last}
    return response
