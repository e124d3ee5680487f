"""TensorFlow SavedModels, which run in an environment of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.modelserver.formats import tensorflow_environment as environment

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.savedmodel import REQUIREMENTS
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Predictor, Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor

ROWS = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(environment.cache(tmp_path / "cache"))


async def ask(predictor: Predictor, *inputs: Any) -> dict[str, Any]:
    names = [spec.name for spec in predictor.signature.inputs]
    given = predictor.infer(Request([Tensor(name, each) for name, each in zip(names, inputs, strict=True)]))
    response = given if isinstance(given, Response) else await given
    return {tensor.name: tensor.array for tensor in response.outputs}


def wanted(folder: Path, **how: Any) -> Deployment:
    return Deployment(revision="a", source=str(folder), environment=list(REQUIREMENTS), **how)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["", "model.savedmodel", "1"])
async def test_a_savedmodel_is_compiled_and_answers_as_tensorflow(
    loading: Loading, tmp_path: Path, layout: str
) -> None:
    folder = tmp_path / "model"
    environment.save(environment.DENSE, folder / layout)
    compiled = await loading.load(wanted(folder))
    assert compiled.status()["compiled"] is True
    assert compiled.status()["versions"]["tensorflow"]
    (taken,) = compiled.signature.inputs
    assert (taken.datatype, taken.shape) == ("FP32", (-1, 4))
    original = await loading.load(wanted(folder, compile=False))
    try:
        mine, theirs = await ask(compiled, ROWS), await ask(original, ROWS)
        assert list(mine) == list(theirs) == ["output_0"]
        np.testing.assert_allclose(mine["output_0"], theirs["output_0"], rtol=1e-5)
        with pytest.raises(Invalid, match="refuses the rows"):
            await ask(original, ROWS[:, :3])
    finally:
        await original.close()


@pytest.mark.slow
async def test_the_signature_is_chosen_and_texts_go_in_and_out(loading: Loading, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    environment.save(environment.TEXTS, folder)
    with pytest.raises(Invalid, match="several signatures: both, double") as refused:
        await loading.load(wanted(folder))
    assert refused.value.field == "options.signature"
    with pytest.raises(Invalid, match="no signature 'triple'"):
        await loading.load(wanted(folder, options={"signature": "triple"}))
    texts = np.array([b"abc", "é".encode()], dtype=object)
    predictor = await loading.load(wanted(folder, options={"signature": "both"}))
    try:
        assert [spec.name for spec in predictor.signature.inputs] == ["text", "x"]
        answer = await ask(predictor, texts, ROWS[:2, :2])
        assert answer["upper"].tolist()[0] == b"ABC"
        np.testing.assert_allclose(answer["sum"], ROWS[:2, :2].sum(axis=1), rtol=1e-6)
    finally:
        await predictor.close()


async def test_without_tensorflow_the_environment_to_name_is_said(loading: Loading, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    assert registry.detect(tmp_path / "model").name == "tensorflow"
    with pytest.raises(Invalid, match="needs tensorflow, not installed here") as refused:
        await loading.load(Deployment(revision="a", source=str(tmp_path / "model")))
    assert "--requirement tensorflow-cpu" in str(refused.value.hint)


@pytest.mark.slow
async def test_a_broken_savedmodel_is_said_in_tensorflows_words(loading: Loading, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(Invalid, match="cannot be read by TensorFlow"):
        await loading.load(wanted(tmp_path / "model"))
