"""The asynchronous client: `mlaas.client.sync`, awaited."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import httpx2
import orjson

from mlaas.client import calls
from mlaas.client.calls import ENDED, Call, Json
from mlaas.client.connection import Connection, find
from mlaas.client.errors import TaskFailed, Unreachable, WaitTimeout
from mlaas.client.renewal import Renewal
from mlaas.client.transport import EventParser, arguments, headers, parse

list_ = list  # `list` is a verb of the client


class AsyncClient:
    """A platform, spoken to asynchronously.

    Without arguments it finds the platform of this machine (`mlaas.client.connection`). Raises ApiError for what the platform
    refuses, Unreachable when nothing answers. Use it as an asynchronous context manager, or close it.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str = "default",
        data: str | Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.connection: Connection = find(url, token, data)
        self.project = project
        self._renewal = Renewal(self.connection)
        self._http = httpx2.AsyncClient(
            base_url=self.connection.url,
            headers=headers(self.connection),
            timeout=httpx2.Timeout(timeout, connect=10.0),
            verify=self.connection.ca or True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        self._renewal.close()
        await self._http.aclose()

    async def send(self, call: Call) -> Any:
        """The answer's document."""
        try:
            response = await self._http.request(call.method, call.path, **arguments(call))
        except httpx2.TransportError as error:
            raise Unreachable(self.connection.url, str(error) or type(error).__name__) from None
        return parse(response.status_code, response.headers.get("content-type", ""), response.content)

    # Resources of any kind, by plural; `project` None means this client's, "-" all of them.

    async def create(self, plural: str, resource: Json, project: str | None = None) -> Json:
        return cast(Json, await self.send(calls.create(project or self.project, plural, resource)))

    async def get(self, plural: str, name: str, project: str | None = None) -> Json:
        return cast(Json, await self.send(calls.get(project or self.project, plural, name)))

    async def list(self, plural: str, project: str | None = None, **query: Any) -> Json:
        """One page: `{items, revision, next}`. Query: labels, phases, prefix, order, limit, after."""
        return cast(Json, await self.send(calls.listing(project or self.project, plural, **query)))

    async def replace(self, plural: str, resource: Json, project: str | None = None) -> Json:
        """PUT with the version that was read; raises ApiError 412 when it changed since."""
        return cast(Json, await self.send(calls.replace(project or self.project, plural, resource)))

    async def patch(
        self, plural: str, name: str, change: Json, version: int | None = None, project: str | None = None
    ) -> Json:
        """A merge patch (RFC 7396); with `version`, only onto that version."""
        return cast(Json, await self.send(calls.patch(project or self.project, plural, name, change, version)))

    async def delete(self, plural: str, name: str, project: str | None = None) -> None:
        await self.send(calls.delete(project or self.project, plural, name))

    async def apply(self, text: str | bytes, project: str | None = None) -> Json:
        """Create or update what the documents (YAML or JSON) say."""
        content = text.encode() if isinstance(text, str) else text
        return cast(Json, await self.send(calls.apply(project or self.project, content)))

    async def watch(self, plural: str, project: str | None = None, **query: Any) -> AsyncIterator[tuple[str, Json]]:
        """(event, resource) for ever, beginning with what is there: put, delete, bookmark, gone. Reconnects by itself."""
        call = calls.listing(project or self.project, plural, **query)
        parser = EventParser()
        while True:
            options = arguments(call)
            options["params"] = {**call.query, "watch": 1}
            if parser.last_id:
                options["headers"]["Last-Event-ID"] = parser.last_id
            try:
                async with self._http.stream("GET", call.path, **options, timeout=60.0) as response:
                    if response.status_code >= 400:
                        parse(response.status_code, response.headers.get("content-type", ""), await response.aread())
                    async for line in response.aiter_lines():
                        for event, data in parser.feed(line):
                            if event == "gone":
                                parser.last_id = ""
                            yield event, orjson.loads(data) if data else {}
            except httpx2.TransportError:
                await asyncio.sleep(1.0)

    # Tasks.

    async def submit(self, spec: Json, name: str | None = None, *, labels: dict[str, str] | None = None) -> Json:
        """Create a task of this spec (`recipe` and its parameters); returns the resource at once."""
        return await self.create("tasks", calls.task(name, spec, labels))

    async def train(
        self, model: Json, dataset: Json, model_train: Json, model_save: Json | None = None, **spec: Any
    ) -> Json:
        """Submit a fine-tuning. The arguments are those of the task JSON; `name` and common fields go in `spec`."""
        name = spec.pop("name", None)
        body = {"recipe": "finetune", "model": model, "dataset": dataset, "model_train": model_train, **spec}
        if model_save is not None:
            body["model_save"] = model_save
        return await self.submit(body, name)

    async def predict(
        self, model: Json, inputs: Sequence[Any], *, timeout: float | None = None, **spec: Any
    ) -> list_[Any]:
        """Answers of a model, one an input. Waits for the task."""
        body = {"recipe": "predict", "model": model, "predict_input": {"input_text": [*inputs]}, **spec}
        return cast(list_[Any], (await self._answer(body, timeout))["predictions"])

    async def index(self, model: Json, dataset: Json, save: Json | None = None, **spec: Any) -> Json:
        """Submit the building of a vector store."""
        name = spec.pop("name", None)
        body = {"recipe": "index", "model": model, "dataset": dataset, **spec}
        if save is not None:
            body["vector_store_save"] = save
        return await self.submit(body, name)

    async def search(
        self, model: Json, store: Json, texts: Sequence[str], *, k: int = 4, timeout: float | None = None, **spec: Any
    ) -> list_[list_[Json]]:
        """For each text its `k` nearest documents, `{content, metadata, score}`; a lower score is nearer."""
        query = {"input_text": [*texts], "k": k}
        body = {"recipe": "search", "model": model, "dataset": store, "search_input": query, **spec}
        return cast(list_[list_[Json]], (await self._answer(body, timeout))["results"])

    async def _answer(self, body: Json, timeout: float | None) -> Json:
        task = await self.submit(body)
        await self.wait(task["meta"]["name"], timeout=timeout)
        return await self.answer(task["meta"]["uid"])

    async def answer(self, uid: str) -> Json:
        """The task in the institute's form, with its whole result."""
        return cast(Json, await self.send(calls.answer(uid)))

    async def wait(
        self, name: str, *, timeout: float | None = None, check: bool = True, project: str | None = None
    ) -> Json:
        """The task once it has ended. Raises WaitTimeout, and TaskFailed when `check` and it did not succeed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while True:
            task = await self.get("tasks", name, project)
            if task["status"].get("phase") in ENDED:
                if check and task["status"]["phase"] != "Succeeded":
                    raise TaskFailed(task)
                return task
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"Task {name} is still {task['status'].get('phase')} after {timeout:g} s.")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    async def cancel(self, name: str, project: str | None = None) -> Json:
        return cast(Json, await self.send(calls.cancel(project or self.project, name)))

    async def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        offset: int = 0,
        project: str | None = None,
        plural: str = "tasks",
        replica: str | None = None,
    ) -> AsyncIterator[bytes]:
        """The log's bytes as written; with `follow`, on until the task's end, over a restart of the platform too.

        `replica`: of a gang `INDEX`, `ROLE` or `ROLE-INDEX`, its first one when left out; of a service the process, or several
        of them, by what stands before its lines (`REVISION`, `REVISION/0`, `transformer`), all when left out.
        """
        while True:
            call = calls.logs(project or self.project, name, follow, offset, plural, replica)
            try:
                async with self._http.stream("GET", call.path, **arguments(call), timeout=None) as response:
                    if response.status_code >= 400:
                        parse(response.status_code, response.headers.get("content-type", ""), await response.aread())
                    async for chunk in response.aiter_bytes():
                        offset += len(chunk)
                        yield chunk
                return
            except httpx2.TransportError as error:
                if not follow:
                    raise Unreachable(self.connection.url, str(error)) from None
                await asyncio.sleep(1.0)

    # Services.

    async def promote(self, name: str, canary: str | None = None, project: str | None = None) -> Json:
        """Give a service's canary all traffic; `canary` names one of several."""
        return cast(Json, await self.send(calls.promote(project or self.project, name, canary)))

    async def rollback(self, name: str, project: str | None = None) -> Json:
        """Have a service serve the predictor before the latest one."""
        return cast(Json, await self.send(calls.rollback(project or self.project, name)))

    async def ask(self, name: str, instances: Sequence[Any], *, project: str | None = None, **more: Any) -> Any:
        """A service's predictions, a list with one an instance (V1); of a graph that merges answers (an ensemble) the merged
        document."""
        project = project or self.project
        self._renewal.watch(project, name)
        body = {"instances": [*instances], **more}
        call = calls.proxy(project, name, f"v1/models/{name}:predict", body)
        answer = await self.send(call)
        return answer.get("predictions", answer)

    async def explain(self, name: str, instances: Sequence[Any], *, project: str | None = None, **more: Any) -> Json:
        """What a service's explainer says of each instance (V1): `{explanations: [...]}`."""
        project = project or self.project
        self._renewal.watch(project, name)
        body = {"instances": [*instances], **more}
        return cast(Json, await self.send(calls.proxy(project, name, f"v1/models/{name}:explain", body)))

    async def infer(
        self, name: str, inputs: Sequence[Json], *, project: str | None = None, version: str = "", **more: Any
    ) -> Json:
        """A service's answer to named tensors (V2): `{outputs: [{name, shape, datatype, data}, ...], ...}`."""
        project = project or self.project
        self._renewal.watch(project, name)
        path = f"v2/models/{name}/versions/{version}/infer" if version else f"v2/models/{name}/infer"
        return cast(Json, await self.send(calls.proxy(project, name, path, {"inputs": [*inputs], **more})))

    async def create_service_token(
        self, name: str, *, ttl: float | None = None, token: str | None = None, project: str | None = None
    ) -> Json:
        """A token that calls this service alone for `ttl` seconds (an hour), under the name `token`; its secret is `token` in
        the answer. A client that was made with such a token renews it before it ends, until the client is closed."""
        call = calls.create_service_token(project or self.project, name, ttl, token)
        return cast(Json, await self.send(call))

    async def metrics(self, name: str, plural: str = "tasks", project: str | None = None) -> Json:
        return cast(Json, await self.send(calls.series(project or self.project, plural, name, "metrics")))

    async def events(self, name: str, plural: str = "tasks", project: str | None = None) -> Json:
        return cast(Json, await self.send(calls.series(project or self.project, plural, name, "events")))
