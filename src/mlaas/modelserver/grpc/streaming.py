"""ModelStreamInfer: requests in, answers out on one stream, several for one request where the model is decoupled.

Requests are worked on at the same time. The answers of models that give one each come in the order of the requests; those of a
decoupled model come as they are made. A request that fails is answered with `error_message`, and the stream goes on.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from mlaas.kernel.errors import Error
from mlaas.modelserver.grpc.call import Call
from mlaas.modelserver.grpc.codec import Buffer, Decoded, Parts, decode, length_prefix, set_parameters
from mlaas.modelserver.grpc.messages import message
from mlaas.modelserver.grpc.service import InferenceService
from mlaas.modelserver.grpc.status import text_of
from mlaas.modelserver.predictor import Predictor, Response
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
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


class _Conversation:
    def __init__(self, service: InferenceService, call: Call) -> None:
        self._service = service
        self._call = call
        self._slots = asyncio.Semaphore(_AT_ONCE)
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
        try:
            decoded = decode(payload)
            identity = decoded.request.id
            served = self._service.addressed(decoded, self._call)
            predictor = self._service.dispatch.predictor(served)
            if not isinstance(predictor, Predictor):
                predictor = await predictor
            if predictor.streams():
                done.set()  # its answers keep nobody waiting
                await self._pieces(decoded, served)
                return
            parts = await self._single(decoded, served)
            if earlier is not None:
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
            self._slots.release()

    async def _single(self, decoded: Decoded, served: Served) -> Parts:
        answer = self._service.dispatch.infer(served, decoded.request)
        response = answer if isinstance(answer, Response) else await answer
        if decoded.request.parameters.get(_ASKS_FOR_END):
            response.parameters = {**response.parameters, _IS_END: True}
        return self._wrapped(response, decoded, served)

    async def _pieces(self, decoded: Decoded, served: Served) -> None:
        marked = bool(decoded.request.parameters.get(_ASKS_FOR_END))
        async for response in self._service.dispatch.stream(served, decoded.request):
            if marked:
                response.parameters = {**response.parameters, _IS_END: False}
            await self.answers.put(self._wrapped(response, decoded, served))
        if marked:
            last = message("ModelStreamInferResponse")()
            last.infer_response.model_name, last.infer_response.model_version = served.name, served.version
            last.infer_response.id = decoded.request.id
            set_parameters(last.infer_response.parameters, {_IS_END: True})
            await self.answers.put([last.SerializeToString()])

    def _wrapped(self, response: Response, decoded: Decoded, served: Served) -> Parts:
        """ModelStreamInferResponse around a ModelInferResponse, which stays in its parts."""
        parts = self._service.encoded(response, decoded, served)
        return [length_prefix(_INFER_RESPONSE, sum(len(part) for part in parts)), *parts]
