"""A model asked in all ways that a server has: compiled, by its own framework in a worker, alone, in a batch with the rows of
others, behind a canary; and whether each answer is that of the library the model was made with."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis.strategies import SearchStrategy

from mlaas.modelserver.cache import Cache
from mlaas.modelserver.control import Controller
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.repository import Repository
from mlaas.modelserver.table import Batcher, Canary, Deployment, Rollout, Service, Table
from mlaas.modelserver.tensors import DTYPES, Tensor
from mlaas.modelserver.wrap.canary import HEADER, share

Inputs = list[Any]
"""Arrays of a model's inputs, in their order."""
Plain = Callable[[Inputs], Mapping[str, Any]]
"""The library's own answer: arrays or lists by the names of the outputs (texts in lists: NumPy drops a NUL at their end)."""

PERCENT = 50
COMPILED, ORIGINAL = "compiled", "original"  # the revisions: the stable one, and the canary


@dataclass(frozen=True)
class Case:
    """A model of one format. `write` saves it into a folder and gives the library's answer. Numbers of an answer may be
    `absolute + relative * |library's|` apart; labels, whole numbers and texts have to be equal. `compiled` says whether the
    model has a compiled form, `served` how else it is deployed."""

    write: Callable[[Path], Plain]
    rows: SearchStrategy[Inputs]
    relative: float
    absolute: float
    compiled: bool = True
    served: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cache: Callable[[Path], Cache] = Cache
    slow: bool = False


def parameters(cases: Mapping[str, Case]) -> list[Any]:
    """The names of cases, as a fixture takes them."""
    return [pytest.param(name, marks=[pytest.mark.slow] * case.slow) for name, case in cases.items()]


class Ways:
    """One service whose stable predictor is compiled where that can be, and whose canary is the original, with half of the
    traffic; both batched, each batch held open for a moment so that company can come."""

    def __init__(self, runner: asyncio.Runner, case: Case, predictor: Predictor, plain: Plain) -> None:
        self.case = case
        self.plain = plain
        self._runner = runner
        self._predictor = predictor

    def ask(self, requests: Sequence[tuple[Inputs, dict[str, Any]]]) -> list[Response]:
        """All at once. Each is the inputs, and what else `Request` takes."""
        return self._runner.run(self._all(requests))

    async def _all(self, requests: Sequence[tuple[Inputs, dict[str, Any]]]) -> list[Response]:
        return list(await asyncio.gather(*(self._one(inputs, more) for inputs, more in requests)))

    async def _one(self, inputs: Inputs, more: dict[str, Any]) -> Response:
        signature = self._predictor.signature
        tensors = [
            Tensor(spec.name, np.ascontiguousarray(array, dtype=DTYPES[spec.datatype]), spec.datatype)
            for spec, array in zip(signature.inputs, inputs, strict=True)
        ]
        names = [spec.name for spec in signature.outputs]
        found = self._predictor.infer(Request(tensors, names, parameters=self.case.parameters, **more))
        return found if isinstance(found, Response) else await found


@contextmanager
def served(case: Case, folder: Path) -> Iterator[Ways]:
    """The case's model, written, loaded and served from a serving table."""
    source = folder / "model"
    source.mkdir()
    plain = case.write(source)
    both = {"source": str(source), **case.served}
    service = Service(
        name="model",
        predictor=Deployment(revision=COMPILED, version="1", **both),
        rollout=Rollout([Canary(ORIGINAL, PERCENT, Deployment(revision=ORIGINAL, version="2", compile=False, **both))]),
        batcher=Batcher(max_batch_size=64, max_latency=2),
    )
    with asyncio.Runner() as runner:
        controller = Controller(Repository(), Loading(case.cache(folder / "cache")))

        async def serve() -> Predictor:
            controller.apply(Table([service]))
            await controller.settled()
            return controller.repository.find("default", "model").version().ready()

        try:
            predictor = runner.run(serve())
            units = {unit["revision"]: unit for unit in controller.status()["services"][0]["units"]}
            assert units[COMPILED].get("compiled") is case.compiled, units[COMPILED]
            assert units[ORIGINAL].get("compiled") is False, units[ORIGINAL]
            yield Ways(runner, case, predictor, plain)
        finally:
            runner.run(controller.close())


def check(ways: Ways, rows: Inputs) -> None:
    """Every way gives the library's answer for these rows."""
    count = len(rows[0])
    wanted = ways.plain(rows)
    parts = [slice(0, count), *(slice(at, at + 1) for at in range(count))]
    for revision in (COMPILED, ORIGINAL):
        chosen = {"headers": {HEADER: revision}}
        asked = [([array[part] for array in rows], chosen) for part in parts]
        alone = [ways.ask([each])[0] for each in asked]
        together = ways.ask(asked)
        assert [answer.batch for answer in together] == [2 * count, *[0] * count], "they were not batched"
        for part, one, other in zip(parts, alone, together, strict=True):
            agree(ways.case, one, wanted, part)
            agree(ways.case, other, wanted, part)
            assert one.parameters == other.parameters
    names = [f"request {place}" for place in range(len(parts))]
    answers = ways.ask(
        [([array[part] for array in rows], {"id": name}) for part, name in zip(parts, names, strict=True)]
    )
    assert [answer.version for answer in answers] == ["2" if share(name) < PERCENT else "1" for name in names]
    for part, answer in zip(parts, answers, strict=True):
        agree(ways.case, answer, wanted, part)


def agree(case: Case, answer: Response, wanted: Mapping[str, Any], part: slice) -> None:
    """An answer is the library's for these rows."""
    found = {tensor.name: tensor.array for tensor in answer.outputs}
    assert set(wanted) <= set(found)
    sure = _sure(case, wanted)[part]
    for name, whole in wanted.items():
        mine, theirs = found[name], whole[part]
        if mine.dtype.kind == "f":
            assert mine.shape == np.shape(theirs)
            np.testing.assert_allclose(
                mine, theirs, rtol=case.relative, atol=case.absolute, equal_nan=True, err_msg=name
            )
            continue
        for one, other, certain in zip(mine.tolist(), theirs, sure, strict=True):
            plain = other.tolist() if isinstance(other, np.ndarray | np.generic) else other
            assert _document(name, one) == _document(name, plain) or not certain, f"{name}: {one!r}, not {other!r}"


def _sure(case: Case, wanted: Mapping[str, Any]) -> Any:
    """Which rows' labels do not hang on the last digits: the two likeliest classes are further apart than numbers may be."""
    count = len(next(iter(wanted.values())))
    if "probabilities" not in wanted or np.shape(wanted["probabilities"])[1:] in ((), (1,)):
        return np.ones(count, dtype=bool)
    best = np.sort(np.asarray(wanted["probabilities"]), axis=1)[:, -2:]
    return best[:, 1] - best[:, 0] > 2 * (case.absolute + case.relative)


def _document(name: str, item: Any) -> Any:
    """Texts as such, and JSON without its scores."""
    text = item.decode() if isinstance(item, bytes) else item
    return _unscored(json.loads(text)) if name in ("entities", "masks") else text


def _unscored(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unscored(each) for key, each in value.items() if key != "score"}
    return [_unscored(each) for each in value] if isinstance(value, list) else value
