"""PMML: recognised and refused with what to do; and what docs/serving.md says to do works."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.integration.modelserver.formats import tensorflow_environment as environment
from tests.markdown import blocks, section
from tests.platform import REPOSITORY

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.cache import Cache
from mlaas.modelserver.formats import registry
from mlaas.modelserver.load import Loading
from mlaas.modelserver.predictor import Request, Response
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.tensors import Tensor

REGRESSION = """<?xml version="1.0"?>
<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4">
  <Header/>
  <DataDictionary>
    <DataField name="x" optype="continuous" dataType="double"/>
    <DataField name="z" optype="continuous" dataType="double"/>
    <DataField name="y" optype="continuous" dataType="double"/>
  </DataDictionary>
  <RegressionModel functionName="regression" normalizationMethod="exp">
    <MiningSchema><MiningField name="x"/><MiningField name="z"/><MiningField name="y" usageType="target"/></MiningSchema>
    <RegressionTable intercept="1">
      <NumericPredictor name="x" exponent="2" coefficient="0.5"/><NumericPredictor name="z" coefficient="-1"/>
    </RegressionTable>
  </RegressionModel>
</PMML>
"""


@pytest.mark.parametrize("compile", [True, False])
async def test_a_pmml_file_is_refused_with_what_to_do(compile: bool, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pmml").write_text(REGRESSION)
    assert registry.detect(folder).name == "pmml"
    with pytest.raises(Invalid, match=r"model\.pmml is a PMML file") as refused:
        await Loading(Cache(tmp_path / "cache")).load(Deployment(revision="a", source=str(folder), compile=compile))
    assert refused.value.field == "format"
    assert "skops, ONNX" in str(refused.value.hint)
    assert "[jpmml-evaluator, pandas]" in str(refused.value.hint)


def test_pmml_is_not_among_the_formats_that_are_served(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no known model format") as refused:
        registry.detect(tmp_path)
    assert "pmml" not in str(refused.value.hint)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="JPMML needs Java, which is not installed")
async def test_the_custom_predictor_of_the_documentation_asks_jpmml(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "serving.md").read_text()
    (code,) = blocks(section(page, "Formats").partition("### PMML")[2])
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pmml").write_text(REGRESSION)
    (folder / "model.py").write_text(code.code)
    needs = ["jpmml-evaluator", "pandas"]
    wanted = Deployment(revision="a", source=str(folder), trusted=True, environment=needs)
    predictor = await Loading(environment.cache(tmp_path / "cache")).load(wanted)
    try:
        assert predictor.signature.features == ("x", "z")
        rows = np.random.default_rng(3).normal(size=(5, 2))
        given = predictor.infer(Request([Tensor("x", rows)]))
        answer = given if isinstance(given, Response) else await given
        np.testing.assert_allclose(answer.outputs[0].array, np.exp(1 + rows[:, 0] ** 2 / 2 - rows[:, 1]), rtol=1e-12)
    finally:
        await predictor.close()
