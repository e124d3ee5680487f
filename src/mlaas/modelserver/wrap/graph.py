"""An inference graph: KServe's InferenceGraph inside one server, without a network hop between its services.

Semantics are KServe's (v1alpha1, cmd/router). Sequence: a step gets the graph's request, or the answer before it with
`data: $response`; a condition that does not hold ends the sequence, which answers with what it has. Switch: the first step
whose condition holds; none is 404. Ensemble: all steps at once, answers under the steps' names. Splitter: one step by weight.
A step with `dependency: Hard` that fails ends the graph with its error; after a Soft one a sequence goes on with what it has.
Conditions are GJSON paths on the JSON document that V1 or V2 would carry.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

from mlaas.kernel.errors import Error, NotFound
from mlaas.modelserver import documents
from mlaas.modelserver.conform import conform
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature
from mlaas.modelserver.repository import Model
from mlaas.modelserver.spans import Span, below
from mlaas.modelserver.table import Node, Step
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.wrap.canary import share

_DEEPEST = 32
_URL_TIMEOUT = 60.0


class Graph(Predictor):
    """`nodes` by name, starting at `root`; `call` finds a service of the same project. What a graph takes is what its services
    take, so it accepts anything and each service checks."""

    signature = Signature((), (), batched=False, platform="graph")

    def __init__(self, nodes: Mapping[str, Node], call: Callable[[str], Model]) -> None:
        self._nodes = nodes
        self._call = call
        self._client: Any = None

    async def infer(self, request: Request) -> Response:
        return await self._node("root", request, request, 0)

    def status(self) -> dict[str, Any]:
        return {"graph": {name: node.router for name, node in self._nodes.items()}}

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _node(self, name: str, original: Request, request: Request, depth: int) -> Response:
        if depth > _DEEPEST:
            raise NotFound(f"The graph is nested more than {_DEEPEST} deep at '{name}': does it go in a circle?")
        node = self._nodes[name]
        if node.router == "Sequence":
            return await self._sequence(node, request, depth)
        if node.router == "Switch":
            return await self._switch(name, node, request, depth)
        if node.router == "Splitter":
            return await self._step(_drawn(node, original), original, request, depth)
        return await self._ensemble(node, original, request, depth)

    async def _sequence(self, node: Node, request: Request, depth: int) -> Response:
        answer: Response | None = None
        for place, step in enumerate(node.steps):
            if step.condition and not _holds(step.condition, _document(answer, request)):
                break
            given = request
            if place and step.data == "$response" and answer is not None:
                given = _next(request, answer)
            try:
                answer = await self._step(step, request, given, depth)
            except Error:
                if step.dependency == "Hard" or answer is None:
                    raise
        if answer is None:
            # no step ran: KServe answers with the request itself
            return Response(list(request.inputs))
        return answer

    async def _switch(self, name: str, node: Node, request: Request, depth: int) -> Response:
        document = documents.of_request(request)
        for step in node.steps:
            if not step.condition or _holds(step.condition, document):
                return await self._step(step, request, request, depth)
        raise NotFound(f"No condition of the switch '{name}' holds for this request.")

    async def _ensemble(self, node: Node, original: Request, request: Request, depth: int) -> Response:
        running = [asyncio.ensure_future(self._step(step, original, request, depth)) for step in node.steps]
        answers = await asyncio.gather(*running, return_exceptions=True)
        document: dict[str, Any] = {}
        outputs: list[Tensor] = []
        for place, (step, answer) in enumerate(zip(node.steps, answers, strict=True)):
            key = step.name or str(place)
            if isinstance(answer, Response):
                document[key] = answer.document or documents.of_response(answer, request.protocol, step.service)
                outputs += [Tensor(f"{key}.{each.name}", each.array, each.datatype) for each in answer.outputs]
            elif not isinstance(answer, Error) or step.dependency == "Hard":
                raise answer
            else:
                document[key] = {"error": answer.message}
        response = Response(outputs)
        response.document = document
        return response

    async def _step(self, step: Step, original: Request, request: Request, depth: int) -> Response:
        if step.node:
            return await self._node(step.node, original, _copy(request), depth + 1)
        with Span(f"step {step.name or step.service or step.url}", request) as span:
            return await self._ask(step, below(request, span))

    async def _ask(self, step: Step, request: Request) -> Response:
        if step.url:
            return await self._remote(step.url, request)
        predictor = self._call(step.service).version().ready()
        waiting = predictor.wake()
        if waiting is not None:
            await waiting
        answer = predictor.infer(conform(_copy(request), predictor.signature))
        return answer if isinstance(answer, Response) else await answer

    async def _remote(self, url: str, request: Request) -> Response:
        from mlaas.modelserver.wrap.remote import FORWARDED, call

        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient()
        headers = {name: value for name, value in request.headers.items() if name in FORWARDED}
        document = await call(self._client, url, documents.of_request(request), headers, _URL_TIMEOUT)
        response = Response(documents.to_tensors(document))
        response.document = document
        return response


def _copy(request: Request) -> Request:
    """Each service conforms its own copy."""
    return Request(
        list(request.inputs),
        None,
        request.id,
        request.parameters,
        request.headers,
        request.deadline,
        request.protocol,
    )


def _next(request: Request, answer: Response) -> Request:
    """The answer before as the next step's request (predictions become instances)."""
    following = _copy(request)
    following.inputs = list(answer.outputs)
    return following


def _document(answer: Response | None, request: Request) -> Any:
    if answer is None:
        return documents.of_request(request)
    return answer.document or documents.of_response(answer, request.protocol)


def _holds(condition: str, document: Any) -> bool:
    """Whether the GJSON path exists in the document (github.com/tidwall/gjson, `Exists`)."""
    import gjson

    try:
        found = gjson.get(document, condition, quiet=False)
    except gjson.GJSONError:
        return False
    return found is not None and found != []


def _drawn(node: Node, request: Request) -> Step:
    """The step of a splitter that this request goes to: a function of its id, so that a repeated request goes the same way."""
    place = share(request.id) if request.id else random.random() * 100
    for step in node.steps:
        place -= step.weight
        if place < 0:
            return step
    return node.steps[-1]
