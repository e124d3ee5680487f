"""However a model is asked, it says the same: compiled, by its own framework in a worker, row by row, in a batch with the rows of
others, behind a canary. Whatever the rows are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from mlaas.modelserver.cache import Cache
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Batcher, Deployment
from mlaas.modelserver.tensors import DTYPES, Tensor
from mlaas.modelserver.wrap.batched import Batched
from mlaas.modelserver.wrap.canary import Canary, Side

ROWS = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(4)),
    elements=st.floats(-2, 10, width=32, allow_nan=False),
)


def _skops(model: Any, folder: Path) -> None:
    import skops.io

    skops.io.dump(model.fit(*load_iris(return_X_y=True)), folder / "model.skops")


def _xgboost(folder: Path) -> None:
    import xgboost

    xgboost.XGBClassifier(n_estimators=10).fit(*load_iris(return_X_y=True)).save_model(folder / "model.ubj")


def _lightgbm(folder: Path) -> None:
    import lightgbm

    made = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(*load_iris(return_X_y=True))
    made.booster_.save_model(folder / "model.txt")


def _onnx(folder: Path) -> None:
    import skl2onnx

    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    made = skl2onnx.to_onnx(model, rows[:1].astype(np.float32), options={"zipmap": False})
    (folder / "model.onnx").write_bytes(made.SerializeToString())


FORMATS: dict[str, Callable[[Path], None]] = {
    "linear": lambda folder: _skops(LogisticRegression(max_iter=500), folder),
    "forest": lambda folder: _skops(RandomForestClassifier(20, random_state=0), folder),
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "onnx": _onnx,
}


@dataclass
class Asked:
    """A model in all its ways, and the loop that they live on."""

    runner: asyncio.Runner
    compiled: Predictor
    original: Predictor
    batched: Predictor
    canary: Predictor

    def __call__(self, predictor: Predictor, rows: Any) -> list[Any]:
        return self.runner.run(_answer(predictor, rows))


@pytest.fixture(scope="module", params=list(FORMATS))
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    folder.mkdir()
    FORMATS[request.param](folder)
    with asyncio.Runner() as runner:
        loading = Loading(Cache(folder.parent / "cache"))
        compiled = runner.run(loading.load(Deployment(revision="a", source=str(folder))))
        original = runner.run(loading.load(Deployment(revision="b", source=str(folder), compile=False)))
        assert compiled.status()["compiled"] is True
        assert original.status()["compiled"] is False
        canary = Canary(Side("a", "1", compiled, 0, 60), [Side("b", "2", original, 50, 60)])
        batched = Batched(original, Batcher(max_batch_size=64))
        yield Asked(runner, compiled, original, batched, canary)
        runner.run(compiled.close())
        runner.run(original.close())


async def _answer(predictor: Predictor, rows: Any) -> list[Any]:
    (spec, *_) = predictor.signature.inputs
    found = predictor.infer(Request([Tensor(spec.name, rows.astype(DTYPES[spec.datatype]))], id=str(rows.sum())))
    response = found if isinstance(found, Response) else await found
    return [tensor.array for tensor in response.outputs]


async def _together(predictor: Predictor, parts: list[Any]) -> list[list[Any]]:
    return list(await asyncio.gather(*(_answer(predictor, part) for part in parts)))


def same(mine: list[Any], theirs: list[Any]) -> None:
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        else:
            assert one.tolist() == other.tolist()


@given(rows=ROWS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_all_ways_agree(asked: Asked, rows: Any) -> None:
    whole = asked(asked.compiled, rows)
    same(asked(asked.original, rows), whole)
    same(asked(asked.canary, rows), whole)
    singly = [asked(asked.compiled, rows[place : place + 1]) for place in range(len(rows))]
    same([np.concatenate(column) for column in zip(*singly, strict=True)], whole)
    parts: list[Any] = [rows, *(rows[place : place + 1] for place in range(len(rows)))]
    work: Awaitable[list[list[Any]]] = _together(asked.batched, parts)
    together = asked.runner.run(work)  # type: ignore[arg-type]
    same(together[0], whole)
    same([np.concatenate(column) for column in zip(*together[1:], strict=True)], whole)
