"""The synchronous client."""

import time
from collections.abc import Iterator, Sequence
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


class Client:
    """A platform, spoken to synchronously.

    Without arguments it finds the platform of this machine (`mlaas.client.connection`). Raises ApiError for what the platform
    refuses, Unreachable when nothing answers. Use it as a context manager, or close it.
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
        self._http = httpx2.Client(
            base_url=self.connection.url,
            headers=headers(self.connection),
            timeout=httpx2.Timeout(timeout, connect=10.0),
            verify=self.connection.ca or True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._renewal.close()
        self._http.close()

    def send(self, call: Call) -> Any:
        """The answer's document."""
        try:
            response = self._http.request(call.method, call.path, **arguments(call))
        except httpx2.TransportError as error:
            raise Unreachable(self.connection.url, str(error) or type(error).__name__) from None
        return parse(response.status_code, response.headers.get("content-type", ""), response.content)

    # Resources of any kind, by plural; `project` None means this client's, "-" all of them.

    def create(self, plural: str, resource: Json, project: str | None = None) -> Json:
        return cast(Json, self.send(calls.create(project or self.project, plural, resource)))

    def get(self, plural: str, name: str, project: str | None = None) -> Json:
        return cast(Json, self.send(calls.get(project or self.project, plural, name)))

    def list(self, plural: str, project: str | None = None, **query: Any) -> Json:
        """One page: `{items, revision, next}`. Query: labels, phases, prefix, order, limit, after."""
        return cast(Json, self.send(calls.listing(project or self.project, plural, **query)))

    def replace(self, plural: str, resource: Json, project: str | None = None) -> Json:
        """PUT with the version that was read; raises ApiError 412 when it changed since."""
        return cast(Json, self.send(calls.replace(project or self.project, plural, resource)))

    def patch(
        self, plural: str, name: str, change: Json, version: int | None = None, project: str | None = None
    ) -> Json:
        """A merge patch (RFC 7396); with `version`, only onto that version."""
        return cast(Json, self.send(calls.patch(project or self.project, plural, name, change, version)))

    def delete(self, plural: str, name: str, project: str | None = None) -> None:
        self.send(calls.delete(project or self.project, plural, name))

    def apply(self, text: str | bytes, project: str | None = None) -> Json:
        """Create or update what the documents (YAML or JSON) say."""
        content = text.encode() if isinstance(text, str) else text
        return cast(Json, self.send(calls.apply(project or self.project, content)))

    def watch(self, plural: str, project: str | None = None, **query: Any) -> Iterator[tuple[str, Json]]:
        """(event, resource) for ever, beginning with what is there: put, delete, bookmark, gone. Reconnects by itself."""
        call = calls.listing(project or self.project, plural, **query)
        parser = EventParser()
        while True:
            options = arguments(call)
            options["params"] = {**call.query, "watch": 1}
            if parser.last_id:
                options["headers"]["Last-Event-ID"] = parser.last_id
            try:
                with self._http.stream("GET", call.path, **options, timeout=60.0) as response:
                    if response.status_code >= 400:
                        parse(response.status_code, response.headers.get("content-type", ""), response.read())
                    for line in response.iter_lines():
                        for event, data in parser.feed(line):
                            if event == "gone":
                                parser.last_id = ""
                            yield event, orjson.loads(data) if data else {}
            except httpx2.TransportError:
                time.sleep(1.0)

    # Tasks.

    def submit(self, spec: Json, name: str | None = None, *, labels: dict[str, str] | None = None) -> Json:
        """Create a task of this spec (`recipe` and its parameters); returns the resource at once."""
        return self.create("tasks", calls.task(name, spec, labels))

    def train(self, model: Json, dataset: Json, model_train: Json, model_save: Json | None = None, **spec: Any) -> Json:
        """Submit a fine-tuning. The arguments are those of the task JSON; `name` and common fields go in `spec`."""
        name = spec.pop("name", None)
        body = {"recipe": "finetune", "model": model, "dataset": dataset, "model_train": model_train, **spec}
        if model_save is not None:
            body["model_save"] = model_save
        return self.submit(body, name)

    def predict(self, model: Json, inputs: Sequence[Any], *, timeout: float | None = None, **spec: Any) -> list_[Any]:
        """Answers of a model, one an input. Waits for the task."""
        body = {"recipe": "predict", "model": model, "predict_input": {"input_text": [*inputs]}, **spec}
        return cast(list_[Any], (self._answer(body, timeout))["predictions"])

    def index(self, model: Json, dataset: Json, save: Json | None = None, **spec: Any) -> Json:
        """Submit the building of a vector store."""
        name = spec.pop("name", None)
        body = {"recipe": "index", "model": model, "dataset": dataset, **spec}
        if save is not None:
            body["vector_store_save"] = save
        return self.submit(body, name)

    def search(
        self, model: Json, store: Json, texts: Sequence[str], *, k: int = 4, timeout: float | None = None, **spec: Any
    ) -> list_[list_[Json]]:
        """For each text its `k` nearest documents, `{content, metadata, score}`; a lower score is nearer."""
        query = {"input_text": [*texts], "k": k}
        body = {"recipe": "search", "model": model, "dataset": store, "search_input": query, **spec}
        return cast(list_[list_[Json]], (self._answer(body, timeout))["results"])

    def _answer(self, body: Json, timeout: float | None) -> Json:
        task = self.submit(body)
        self.wait(task["meta"]["name"], timeout=timeout)
        return self.answer(task["meta"]["uid"])

    def answer(self, uid: str) -> Json:
        """The task in the institute's form, with its whole result."""
        return cast(Json, self.send(calls.answer(uid)))

    def wait(self, name: str, *, timeout: float | None = None, check: bool = True, project: str | None = None) -> Json:
        """The task once it has ended. Raises WaitTimeout, and TaskFailed when `check` and it did not succeed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while True:
            task = self.get("tasks", name, project)
            if task["status"].get("phase") in ENDED:
                if check and task["status"]["phase"] != "Succeeded":
                    raise TaskFailed(task)
                return task
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"Task {name} is still {task['status'].get('phase')} after {timeout:g} s.")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def cancel(self, name: str, project: str | None = None) -> Json:
        return cast(Json, self.send(calls.cancel(project or self.project, name)))

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        offset: int = 0,
        project: str | None = None,
        plural: str = "tasks",
        replica: str | None = None,
    ) -> Iterator[bytes]:
        """The log's bytes as written; with `follow`, on until the task's end, over a restart of the platform too.

        `replica`: of a gang `INDEX`, `ROLE` or `ROLE-INDEX`, its first one when left out; of a service the process, or several
        of them, by what stands before its lines (`REVISION`, `REVISION/0`, `transformer`), all when left out.
        """
        while True:
            call = calls.logs(project or self.project, name, follow, offset, plural, replica)
            try:
                with self._http.stream("GET", call.path, **arguments(call), timeout=None) as response:
                    if response.status_code >= 400:
                        parse(response.status_code, response.headers.get("content-type", ""), response.read())
                    for chunk in response.iter_bytes():
                        offset += len(chunk)
                        yield chunk
                return
            except httpx2.TransportError as error:
                if not follow:
                    raise Unreachable(self.connection.url, str(error)) from None
                time.sleep(1.0)

    # Services.

    def promote(self, name: str, canary: str | None = None, project: str | None = None) -> Json:
        """Give a service's canary all traffic; `canary` names one of several."""
        return cast(Json, self.send(calls.promote(project or self.project, name, canary)))

    def rollback(self, name: str, project: str | None = None) -> Json:
        """Have a service serve the predictor before the latest one."""
        return cast(Json, self.send(calls.rollback(project or self.project, name)))

    def ask(self, name: str, instances: Sequence[Any], *, project: str | None = None, **more: Any) -> Any:
        """A service's predictions, a list with one an instance (V1); of a graph that merges answers (an ensemble) the merged
        document."""
        project = project or self.project
        self._renewal.watch(project, name)
        body = {"instances": [*instances], **more}
        call = calls.proxy(project, name, f"v1/models/{name}:predict", body)
        answer = self.send(call)
        return answer.get("predictions", answer)

    def explain(self, name: str, instances: Sequence[Any], *, project: str | None = None, **more: Any) -> Json:
        """What a service's explainer says of each instance (V1): `{explanations: [...]}`."""
        project = project or self.project
        self._renewal.watch(project, name)
        body = {"instances": [*instances], **more}
        return cast(Json, self.send(calls.proxy(project, name, f"v1/models/{name}:explain", body)))

    def infer(
        self, name: str, inputs: Sequence[Json], *, project: str | None = None, version: str = "", **more: Any
    ) -> Json:
        """A service's answer to named tensors (V2): `{outputs: [{name, shape, datatype, data}, ...], ...}`."""
        project = project or self.project
        self._renewal.watch(project, name)
        path = f"v2/models/{name}/versions/{version}/infer" if version else f"v2/models/{name}/infer"
        return cast(Json, self.send(calls.proxy(project, name, path, {"inputs": [*inputs], **more})))

    def create_service_token(
        self, name: str, *, ttl: float | None = None, token: str | None = None, project: str | None = None
    ) -> Json:
        """A token that calls this service alone for `ttl` seconds (an hour), under the name `token`; its secret is `token` in
        the answer. A client that was made with such a token renews it before it ends, until the client is closed."""
        call = calls.create_service_token(project or self.project, name, ttl, token)
        return cast(Json, self.send(call))

    def metrics(self, name: str, plural: str = "tasks", project: str | None = None) -> Json:
        return cast(Json, self.send(calls.series(project or self.project, plural, name, "metrics")))

    def events(self, name: str, plural: str = "tasks", project: str | None = None) -> Json:
        return cast(Json, self.send(calls.series(project or self.project, plural, name, "events")))
