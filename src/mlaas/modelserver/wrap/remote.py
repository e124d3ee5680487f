"""A server that somebody else runs, as a predictor: KServe V1 or V2, or an OpenAI-like chat server.

It is canaried, logged, measured and tried through the front like a local model. Its errors are passed on with their status
class: what it refuses (4xx) is the client's, what it fails (5xx) is 502, silence is 504.
"""

import asyncio
from pathlib import Path
from typing import Any

import orjson

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.modelserver import documents
from mlaas.modelserver.errors import BadGateway, NotReady, TimedOut, Unexplained
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature, TensorSpec
from mlaas.modelserver.spans import Span
from mlaas.modelserver.table import Deployment, Remote
from mlaas.modelserver.tensors import DTYPES

FORWARDED = ("x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "traceparent", "tracestate")
"""Headers of the caller that travel on. Its own token does not: it is for this server, not for somebody else's."""

_TEXT = Signature(
    inputs=(TensorSpec("text", "BYTES", (-1,)),),
    outputs=(TensorSpec("text", "BYTES", (-1,)),),
    platform="remote",
)


class RemotePredictor(Predictor):
    """Made by `connect`, which asks the server for its metadata first."""

    def __init__(self, remote: Remote, signature: Signature, client: Any, timeout: float) -> None:
        self.signature = signature
        self._remote = remote
        self._client = client
        self._timeout = timeout

    async def infer(self, request: Request) -> Response:
        if self._remote.protocol == "OpenAI":
            return await self._chat(request)
        asked = Request(request.inputs, request.outputs, request.id, request.parameters, protocol=self._protocol)
        document = documents.of_request(asked)
        if self._remote.protocol == "KServe/v2" and request.outputs is not None:
            document["outputs"] = [{"name": name} for name in request.outputs]
        verb = ":predict" if self._protocol == "v1" else "/infer"
        answer = await self.post(f"{self._path}{verb}", document, request)
        return Response(documents.to_tensors(answer), answer.get("parameters") if isinstance(answer, dict) else None)

    async def explain(self, request: Request) -> Response:
        if self._protocol != "v1":
            raise Unexplained("V2 has no explanations; the remote server would have to speak V1.")
        asked = Request(request.inputs, protocol="v1")
        answer = await self.post(f"{self._path}:explain", documents.of_request(asked), request)
        return Response(documents.of_rows(answer.get("explanations", []), "explanations"))

    def slots(self) -> int:
        return 1 << 30  # what the other server does with them is its own affair

    def status(self) -> dict[str, Any]:
        return {
            "remote": {"url": self._remote.url, "protocol": self._remote.protocol, "model": self._remote.model_name}
        }

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, path: str, document: Any, request: Request) -> Any:
        """The server's JSON answer. Raises Invalid, NotFound, BadGateway, TimedOut."""
        url = self._remote.url.rstrip("/") + path
        with Span(f"POST {path}", request, "client", url=url) as span:
            headers = {name: value for name, value in span.headers.items() if name in FORWARDED}
            return await call(self._client, url, document, headers, self._timeout)

    @property
    def _protocol(self) -> str:
        return "v1" if self._remote.protocol == "KServe/v1" else "v2"

    @property
    def _path(self) -> str:
        return f"/{self._protocol}/models/{self._remote.model_name}"

    async def _chat(self, request: Request) -> Response:
        """Each text is one user message; the answers in order."""
        texts = documents.plain(request.inputs[0], flat=True)
        answers = []
        for text in texts:
            document = {"model": self._remote.model_name, "messages": [{"role": "user", "content": text}]}
            answer = await self.post("/chat/completions", document | dict(request.parameters), request)
            try:
                answers.append(answer["choices"][0]["message"]["content"])
            except (KeyError, IndexError, TypeError):
                raise BadGateway("The remote server's answer has no choices.") from None
        return Response(documents.of_rows(answers, "text"))


async def connect(deployment: Deployment) -> Predictor:
    """The predictor of a remote server. Its signature comes from its V2 metadata; V1 has none, so anything is taken.

    Raises NotReady when it does not answer, NotFound when it does not have the model.
    """
    import httpx2

    remote = deployment.remote
    assert remote is not None
    headers = {}
    if remote.token_file:
        token = await asyncio.to_thread(Path(remote.token_file).read_text)
        headers["authorization"] = f"Bearer {token.strip()}"
    client = httpx2.AsyncClient(headers=headers, timeout=deployment.timeout, follow_redirects=False)
    signature = Signature((), (), batched=False, platform="remote")
    if remote.protocol == "OpenAI":
        signature = _TEXT
    elif remote.protocol == "KServe/v2":
        try:
            answer = await client.get(f"{remote.url.rstrip('/')}/v2/models/{remote.model_name}")
        except httpx2.HTTPError as error:
            await client.aclose()
            raise NotReady(f"The remote server {remote.url} does not answer: {error}") from None
        if answer.status_code >= 400:
            await client.aclose()
            raise NotFound(f"The remote server answers {answer.status_code} for the model '{remote.model_name}'.")
        signature = _signature(answer.json())
    return RemotePredictor(remote, signature, client, deployment.timeout)


async def call(client: Any, url: str, document: Any, headers: dict[str, str], timeout: float) -> Any:
    """POST a JSON document, the JSON answer. Raises as `RemotePredictor.post`."""
    import httpx2

    try:
        answer = await client.post(
            url,
            content=orjson.dumps(document),
            headers={**headers, "content-type": "application/json"},
            timeout=timeout,
        )
    except httpx2.TimeoutException:
        raise TimedOut(f"The remote server {url} did not answer within {timeout:.0f} s.") from None
    except httpx2.HTTPError as error:
        raise BadGateway(f"The remote server {url} cannot be reached: {type(error).__name__} {error}") from None
    if answer.status_code >= 400:
        text = answer.text[:500]
        if answer.status_code == 404:
            raise NotFound(f"The remote server {url} answers 404: {text}")
        if answer.status_code < 500 and answer.status_code not in (401, 403, 429):
            raise Invalid(f"The remote server refuses the request ({answer.status_code}): {text}")
        raise BadGateway(f"The remote server {url} answers {answer.status_code}: {text}")
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        raise BadGateway(f"The remote server {url} answered something else than JSON.") from None


def _signature(metadata: Any) -> Signature:
    """What V2 metadata says; servers that leave it empty (KServe) are taken to take anything."""
    if not isinstance(metadata, dict):
        return Signature((), (), batched=False, platform="remote")
    found = {
        key: tuple(
            TensorSpec(
                str(item["name"]), str(item["datatype"]), tuple(int(size) for size in item.get("shape") or (-1,))
            )
            for item in metadata.get(key) or []
            if isinstance(item, dict) and item.get("datatype") in DTYPES and "name" in item
        )
        for key in ("inputs", "outputs")
    }
    batched = bool(found["inputs"]) and all(spec.shape[:1] == (-1,) for spec in (*found["inputs"], *found["outputs"]))
    platform = str(metadata.get("platform") or "remote")
    return Signature(found["inputs"], found["outputs"], batched=batched, platform=platform)
