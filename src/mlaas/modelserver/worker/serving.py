"""The worker's work: open the model as the front says, then answer its requests.

A synchronous model answers one request after the other on the main thread, without a second thread that would want the
interpreter lock. An asynchronous one answers many at once on an event loop.
"""

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Error, Invalid, OutOfMemory
from mlaas.modelserver import signature as signatures
from mlaas.modelserver.errors import Failed, Unexplained
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import METHOD, AsyncOriginal, Freeform, Opened, Original
from mlaas.modelserver.predictor import Signature
from mlaas.modelserver.tensors import DTYPES, datatype_of
from mlaas.modelserver.worker import frames
from mlaas.modelserver.worker.channel import Channel


def run(handle: int, arena: int) -> None:
    """Serve until the front closes the socket or says CLOSE."""
    channel = Channel(handle, arena)
    code = 0
    try:
        opening = channel.read()
        if opening.kind != frames.OPEN:
            return
        model = _open(channel, opening.json())
        if isinstance(model, Original | Freeform):
            _Sequential(channel, model).run()
        elif model is not None:
            asyncio.run(_Concurrent(channel, model).run())
    except (EOFError, ConnectionError):
        pass
    except Exception:
        traceback.print_exc()  # the last words of the log go into the answer
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)  # what a model's threads still do interests nobody


def _open(channel: Channel, order: dict[str, Any]) -> Original | AsyncOriginal | Freeform | None:
    since = time.perf_counter()
    try:
        options = dict(order["options"] or {})
        explainer = options.pop("explain", None)
        opened = Opened(Path(order["root"]), order["trusted"], order["device"], options)
        model = registry.open_model(registry.named(order["format"]), opened)
        if explainer is not None:
            model = _explaining(model, opened.root, explainer)
    except Exception as error:
        said = error.__cause__ if _expected(error) else error  # what the model's own code raised
        if said is not None:
            traceback.print_exception(said)
        channel.write(frames.document(frames.ERROR, 0, _error(error)))
        return None
    ready = {
        "signature": signatures.to_json(model.signature),
        "concurrent": isinstance(model, AsyncOriginal),
        "seconds": time.perf_counter() - since,
    }
    channel.write(frames.document(frames.READY, 0, ready))
    return model


def _explaining(model: Original | AsyncOriginal | Freeform, root: Path, options: dict[str, Any]) -> Original:
    """The model with an explainer that asks it. Raises Invalid."""
    if not isinstance(model, Original):
        raise Invalid("SHAP explains models with a plain `predict`.", field="explainer.method")
    from mlaas.modelserver.worker.shapley import Shapley

    return Shapley(model, root, options)


class _Call:
    """One request as it was read; `inputs` is emptied when they are let go of."""

    __slots__ = ("id", "inputs", "outputs", "parameters", "shared", "since", "verb")

    def __init__(self, frame: frames.Frame, signature: Signature, arena: Any) -> None:
        self.since = time.perf_counter_ns()
        self.id = frame.call
        inputs = [(spec.name, spec.datatype) for spec in signature.inputs]
        self.verb, outputs, self.parameters, self.inputs, self.shared = frames.read_request(frame.body, inputs, arena)
        self.outputs = [(place, signature.outputs[place]) for place in outputs]

    @property
    def names(self) -> list[str]:
        return [spec.name for _, spec in self.outputs]

    def settle(self, channel: Channel) -> bool:
        inputs, self.inputs = self.inputs, []
        return not self.shared or channel.settle(self.id, inputs)

    def answer(
        self, channel: Channel, kind: int, arrays: list[NDArray[Any]], parameters: Mapping[str, Any]
    ) -> bytearray:
        tensors = [
            (place, spec.name, spec.datatype, _plain(array, spec.datatype))
            for (place, spec), array in zip(self.outputs, arrays, strict=True)
        ]
        spent = time.perf_counter_ns() - self.since
        return frames.answer(kind, self.id, spent, False, parameters, tensors, channel.arena)

    def named(self, channel: Channel, found: dict[str, NDArray[Any]]) -> bytearray:
        named = [(name, datatype_of(array), array) for name, array in found.items()]
        tensors = [(i, name, kind, _plain(array, kind)) for i, (name, kind, array) in enumerate(named)]
        spent = time.perf_counter_ns() - self.since
        parameters = {"__outputs": [[name, kind] for name, kind, _ in named]}
        return frames.answer(frames.ANSWER, self.id, spent, False, parameters, tensors, channel.arena)

    def failed(self, channel: Channel, error: BaseException) -> bytes:
        document = _error(error)
        document["released"] = self.settle(channel)
        return frames.document(frames.ERROR, self.id, document)


class _Sequential:
    """One request after the other."""

    def __init__(self, channel: Channel, model: Original | Freeform) -> None:
        self._channel = channel
        self._model = model
        self._signature = model.signature

    def run(self) -> None:
        channel = self._channel
        while True:
            frame = channel.read()
            if frame.kind == frames.REQUEST:
                call = _Call(frame, self._signature, channel.arena)
                del frame
                self._answer(call)
                channel.sweep()
            elif frame.kind == frames.CLOSE:
                return

    def _answer(self, call: _Call) -> None:
        channel = self._channel
        data: bytes | bytearray
        try:
            if call.verb == frames.STREAM:
                self._stream(call)
                return
            if isinstance(self._model, Freeform):
                made = call.named(channel, self._transformed(call))
            elif call.verb == frames.EXPLAIN:
                made = call.named(channel, self._model.explain(call.inputs))
            else:
                arrays, parameters = self._model.answer(call.inputs, call.names, call.parameters)
                made = call.answer(channel, frames.ANSWER, arrays, parameters)
                del arrays
            if call.settle(channel):
                frames.mark_released(made)
            data = made
        except Exception as error:
            data = call.failed(channel, error.with_traceback(None) if _expected(error) else _said(error))
        channel.write(data)

    def _transformed(self, call: _Call) -> dict[str, NDArray[Any]]:
        assert isinstance(self._model, Freeform)
        parameters = dict(call.parameters)
        names = [name for name, _ in parameters.pop(frames.INPUTS, [])]
        method = str(parameters.pop(METHOD, "preprocess"))
        return self._model.call(method, dict(zip(names, call.inputs, strict=True)), parameters)

    def _stream(self, call: _Call) -> None:
        channel = self._channel
        if isinstance(self._model, Freeform):
            raise Invalid("A transformer does not stream.")
        pieces = self._model.stream(call.inputs, call.names, call.parameters)
        credit, cancelled = frames.WINDOW, False
        try:
            for arrays in pieces:
                while not credit and not cancelled:
                    credit, cancelled = self._heard(call, channel.read(), credit)
                others = []
                for frame in channel.poll():
                    if frame.call == call.id and frame.kind in (frames.CREDIT, frames.CANCEL):
                        credit, cancelled = self._heard(call, frame, credit)
                    else:
                        others.append(frame)
                channel.put_back(others)
                if cancelled:
                    break
                channel.write(call.answer(channel, frames.PIECE, arrays, {}))
                credit -= 1
        finally:
            close = getattr(pieces, "close", None)
            if close:
                close()
        del pieces
        arrays = []
        released = call.settle(channel)
        channel.write(frames.document(frames.END, call.id, {"released": released}))

    def _heard(self, call: _Call, frame: frames.Frame, credit: int) -> tuple[int, bool]:
        if frame.kind == frames.CLOSE:
            os._exit(0)
        if frame.call != call.id:
            return credit, False
        return credit + (frames.WINDOW // 2 if frame.kind == frames.CREDIT else 0), frame.kind == frames.CANCEL


class _Concurrent:
    """Many requests at once, each a task."""

    def __init__(self, channel: Channel, model: AsyncOriginal) -> None:
        self._channel = channel
        self._model = model
        self._signature = model.signature
        self._tasks: dict[int, asyncio.Task[bytes | bytearray]] = {}
        self._credits: dict[int, asyncio.Semaphore] = {}
        self._ended = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(self._channel.socket, self._readable)
        await self._ended.wait()

    def _readable(self) -> None:
        try:
            received = self._channel.poll()
        except (EOFError, ConnectionError):
            os._exit(0)
        for frame in received:
            if frame.kind == frames.REQUEST:
                call = _Call(frame, self._signature, self._channel.arena)
                task = self._tasks[call.id] = asyncio.get_running_loop().create_task(self._answer(call))
                task.add_done_callback(partial(self._finished, call))
            elif frame.kind == frames.CANCEL:
                if frame.call in self._tasks:
                    self._tasks[frame.call].cancel()
            elif frame.kind == frames.CREDIT:
                for _ in range(frames.WINDOW // 2):
                    if frame.call in self._credits:
                        self._credits[frame.call].release()
            elif frame.kind == frames.CLOSE:
                self._ended.set()

    def _finished(self, call: _Call, task: asyncio.Task[bytes | bytearray]) -> None:
        """Also of a task that was cancelled before it began."""
        del self._tasks[call.id]
        self._credits.pop(call.id, None)
        self._channel.write(self._ended_frame(call) if task.cancelled() else task.result())
        self._channel.sweep()

    def _ended_frame(self, call: _Call) -> bytes:
        return frames.document(frames.END, call.id, {"released": call.settle(self._channel)})

    async def _answer(self, call: _Call) -> bytes | bytearray:
        channel = self._channel
        try:
            if call.verb == frames.STREAM:
                await self._stream(call)
                return self._ended_frame(call)
            if call.verb == frames.EXPLAIN:
                raise Unexplained()
            arrays = await self._model.predict(call.inputs, call.names, call.parameters)
            made = call.answer(channel, frames.ANSWER, arrays, {})
            del arrays
            if call.settle(channel):
                frames.mark_released(made)
            return made
        except Exception as error:
            return call.failed(channel, error.with_traceback(None) if _expected(error) else _said(error))

    async def _stream(self, call: _Call) -> None:
        credits = self._credits[call.id] = asyncio.Semaphore(frames.WINDOW)
        if isinstance(self._model, Freeform):
            raise Invalid("A transformer does not stream.")
        pieces = self._model.stream(call.inputs, call.names, call.parameters)
        try:
            async for arrays in pieces:
                await credits.acquire()
                self._channel.write(call.answer(self._channel, frames.PIECE, arrays, {}))
        finally:
            close = getattr(pieces, "aclose", None)
            if close:
                await close()


def _plain(array: NDArray[Any], datatype: str) -> NDArray[Any]:
    """An array as the wire has it: contiguous, of the datatype's dtype. Raises Failed when the model gave another kind."""
    if datatype == "BYTES" or (array.dtype == DTYPES[datatype] and array.flags.c_contiguous):
        return array
    try:
        return np.ascontiguousarray(array, dtype=DTYPES[datatype]).reshape(array.shape)
    except (TypeError, ValueError) as error:
        raise Failed(f"The model gave {array.dtype} where its signature says {datatype}: {error}.") from error


def _expected(error: BaseException) -> bool:
    return isinstance(error, Error)


def _said(error: Exception) -> Exception:
    """The error without its frames, which would keep the inputs alive; they are printed into the log before."""
    traceback.print_exception(error)
    error.__traceback__ = None
    error.__context__ = error.__cause__ = None
    return error


def _error(error: BaseException) -> dict[str, Any]:
    """How an error goes to the front."""
    if isinstance(error, MemoryError):
        error = OutOfMemory("The model needs more memory than there is.")
    if not isinstance(error, Error):
        text = (
            f"The model raised {type(error).__name__}: {error}" if str(error) else f"It raised {type(error).__name__}."
        )
        error = Failed(text[:2000])
    document: dict[str, Any] = error.summary()
    if hasattr(error, "retry_after"):
        document["retry_after"] = error.retry_after
    return json.loads(json.dumps(document, default=str))  # type: ignore[no-any-return]
