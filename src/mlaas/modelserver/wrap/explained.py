"""Explanations in front of a predictor: token attribution for texts here, all else by the model's worker or a remote server.

Token attribution is occlusion (Zeiler and Fergus, 2014; "leave one out" in Li, Monroe and Jurafsky, 2016): a word's
attribution is what the score of the predicted label loses when the word is left out. It needs nothing of the model but its
answers, so it holds for compiled, batched and remote models alike.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import numpy as np

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.load import Loader
from mlaas.modelserver.predictor import Predictor, Request, Response, Signature
from mlaas.modelserver.table import Deployment, Explainer
from mlaas.modelserver.tensors import Tensor
from mlaas.modelserver.wrap.unit import Unit

MOST_WORDS = 512
"""Words of a text that are tried; a longer text is refused rather than half explained."""


def explained(inner: Predictor, explainer: Explainer, predictor: Deployment | None, loader: Loader) -> Predictor:
    """`inner` with `explain`: by occlusion for texts; by SHAP in a worker that holds the same model (`predictor`); by a class of
    the user's; or by a remote server."""
    if explainer.method == "attribution" and explainer.remote is None:
        return Occlusion(inner)
    if explainer.remote is not None or explainer.method == "custom":
        deployment = Deployment(
            revision="explainer", source=explainer.source, remote=explainer.remote, trusted=explainer.trusted
        )
    elif predictor is not None:
        # SHAP needs the original model: a worker opens it beside the compiled one, on the first question
        options = {**predictor.options, "explain": {"method": "shap", **explainer.options}}
        deployment = Deployment(
            revision="explainer",
            source=predictor.source,
            hash=predictor.hash,
            format=predictor.format,
            trusted=predictor.trusted,
            environment=predictor.environment,
            compile=False,
            options=options,
            timeout=predictor.timeout,
        )
    else:
        raise Invalid("A graph is explained by its services, not as a whole.", field="explainer")
    return Explained(inner, Unit(deployment, loader))


class _Around(Predictor):
    """Everything but `explain` is the inner predictor's."""

    def __init__(self, inner: Predictor) -> None:
        self._inner = inner

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        return self._inner.signature

    def wake(self) -> Awaitable[None] | None:
        return self._inner.wake()

    def ready(self) -> bool:
        return self._inner.ready()

    def infer(self, request: Request) -> Response | Awaitable[Response]:
        return self._inner.infer(request)

    def stream(self, request: Request) -> AsyncIterator[Response]:
        return self._inner.stream(request)

    def status(self) -> dict[str, Any]:
        return self._inner.status()

    def memory(self) -> int:
        return self._inner.memory()

    async def close(self) -> None:
        await self._inner.close()


class Explained(_Around):
    """Asks another predictor for explanations; it is loaded by the first question."""

    def __init__(self, inner: Predictor, unit: Unit) -> None:
        super().__init__(inner)
        self._unit = unit

    def explain(self, request: Request) -> Response | Awaitable[Response]:
        return self._unit.explain(request)

    def status(self) -> dict[str, Any]:
        return self._inner.status() | {"explainer": self._unit.status()}

    def tails(self) -> dict[str, Any]:
        return {f"explainer/{number}": tail for number, tail in self._unit.tails().items()}

    async def close(self) -> None:
        await asyncio.gather(self._inner.close(), self._unit.close())


class Occlusion(_Around):
    """Explains a text classifier: `{tokens, attributions, label, score}` for each text, words split at spaces."""

    async def explain(self, request: Request) -> Response:
        spec = self.signature.inputs[0] if self.signature.inputs else None
        scores = next((each for each in self.signature.outputs if each.datatype.startswith("FP")), None)
        if spec is None or spec.datatype != "BYTES" or scores is None:
            raise Invalid("Token attribution is for models that take a text and give scores.", field="explainer.method")
        texts = [bytes(item).decode("utf-8", "replace") for item in request.inputs[0].array.reshape(-1)]
        found = [await self._one(text, spec.name, scores.name, request) for text in texts]
        return Response(
            [
                _texts("tokens", [" ".join(words) for words, _, _ in found]),
                Tensor("attributions", _ragged([values for _, values, _ in found]), "FP32"),
                Tensor("score", np.array([score for _, _, score in found], dtype=np.float32), "FP32"),
            ]
        )

    async def _one(self, text: str, name: str, output: str, request: Request) -> tuple[list[str], list[float], float]:
        words = text.split()
        if len(words) > MOST_WORDS:
            raise Invalid(f"A text of {len(words)} words; at most {MOST_WORDS} are explained.", field=name)
        variants = [text, *(" ".join(words[:place] + words[place + 1 :]) for place in range(len(words)))]
        asked = Request([_texts(name, variants)], [output], headers=request.headers, deadline=request.deadline)
        answer = self._inner.infer(asked)
        response = answer if isinstance(answer, Response) else await answer
        values = response.outputs[0].array.reshape(len(variants), -1).astype(np.float64)
        best = int(values[0].argmax())
        return words, [float(values[0, best] - value) for value in values[1:, best]], float(values[0, best])


def _texts(name: str, values: list[str]) -> Tensor:
    array = np.empty(len(values), dtype=object)
    array[:] = [value.encode() for value in values]
    return Tensor(name, array, "BYTES")


def _ragged(rows: list[list[float]]) -> Any:
    """Rows of different lengths in one array, NaN behind the end."""
    width = max((len(row) for row in rows), default=0)
    array = np.full((len(rows), width), np.nan, dtype=np.float32)
    for place, row in enumerate(rows):
        array[place, : len(row)] = row
    return array
