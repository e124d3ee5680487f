"""A KServe manifest for each model format: applied as it is, it answers V1 and V2, and is shown back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.acceptance.interop import formats
from tests.acceptance.interop.conftest import ROWS, applied, kubectl_like, manifest, sample, shown_ready, v1, v2
from tests.platform import Platform

from mlaas.client import Client

SLOW = pytest.mark.slow
FORMATS = [
    pytest.param("sklearn", formats.sklearn, "FP64", id="sklearn"),
    pytest.param("xgboost", formats.xgboost, "FP32", id="xgboost"),
    pytest.param("lightgbm", formats.lightgbm, "FP64", id="lightgbm"),
    pytest.param("onnx", formats.onnx, "FP32", id="onnx"),
    pytest.param("pytorch", formats.torchscript, "FP32", id="torchscript"),
    pytest.param("pytorch", formats.exported, "FP32", id="torch-export", marks=SLOW),
    pytest.param("keras", formats.keras, "FP32", id="keras"),
    pytest.param("tensorflow", formats.tensorflow, "FP32", id="tensorflow", marks=SLOW),
    pytest.param("mlflow", formats.mlflow, "FP64", id="mlflow"),
    pytest.param("custom", formats.custom, "FP64", id="custom"),
]
NAMED = {
    "spec.predictor.model.resources.requests.cpu",
    "spec.predictor.model.resources.requests.memory",
    "spec.predictor.model.resources.limits.cpu",
}
"""Fields of every sample that mean nothing here."""


@pytest.mark.parametrize(("format", "make", "datatype"), FORMATS)
def test_the_sample_of_a_format_answers_v1_and_v2(
    platform: Platform,
    client: Client,
    request: pytest.FixtureRequest,
    format: str,
    make: Callable[[Path], None],
    datatype: str,
) -> None:
    name = f"{request.node.callspec.id}-iris"
    folder = platform.files / name
    folder.mkdir()
    make(folder)
    text = manifest(sample(name, format, name), platform)
    if format == "custom":  # code of the user's own: its manifest says that it may run
        text = text.replace("spec:", '  annotations: {mlaas/spec: "{predictor: {trusted: true}}"}\nspec:', 1)
    (item,) = applied(client, text)
    assert item["action"] == "created"
    assert item["manifest"] == {"kind": "InferenceService", "api_version": "serving.kserve.io/v1beta1"}
    own = {"spec.predictor.model.modelFormat.name"} if format == "tensorflow" else set()
    assert {warning["field"] for warning in item["warnings"]} == NAMED | own
    shown = shown_ready(client, "inferenceservices", name, 300)
    assert [species(each) for each in v1(platform, shown)["predictions"]] == [0, 2]
    assert species_of(v2(platform, shown, ROWS, datatype)["outputs"]) == [0, 2]
    assert shown["status"]["modelStatus"]["states"]["activeModelState"] == "Loaded"
    assert shown["status"]["components"]["predictor"]["traffic"][0]["percent"] == 100
    found = yaml.safe_load(kubectl_like(platform, "get", "isvc", name, "-o", "yaml").stdout)
    written = yaml.safe_load(text)
    assert (found["apiVersion"], found["kind"], found["spec"]) == (
        written["apiVersion"],
        written["kind"],
        written["spec"],
    )
    client.delete("inferenceservices", name)


def species(prediction: Any) -> int:
    """The class: of a list of scores the place of the largest."""
    if isinstance(prediction, dict):
        prediction = next(iter(prediction.values()))
    if isinstance(prediction, list):
        return max(range(len(prediction)), key=prediction.__getitem__)
    return int(prediction)


def species_of(outputs: list[dict[str, Any]]) -> list[int]:
    """The classes that a V2 answer says: its labels, or the places of the largest scores."""
    first = outputs[0]
    if len(first["shape"]) == 1:
        return [int(value) for value in first["data"]]
    rows, columns = first["shape"]
    return [species(first["data"][row * columns : (row + 1) * columns]) for row in range(rows)]


@pytest.mark.slow
def test_a_huggingface_sample_answers_v1_and_v2(platform: Platform, client: Client) -> None:
    (platform.files / "bert").mkdir()
    formats.huggingface(platform.files / "bert")
    text = sample("texts", "huggingface", "bert").replace(
        "      protocolVersion: v2\n", "      args: [--task=sequence_classification]\n"
    )
    applied(client, manifest(text, platform))
    shown = shown_ready(client, "inferenceservices", "texts")
    given = ["a boson decays", "a violin plays"]
    assert len(v1(platform, shown, {"instances": given})["predictions"]) == 2
    assert v2(platform, shown, given, "BYTES")["outputs"]


def test_the_format_is_found_where_the_manifest_names_a_server_of_many(platform: Platform, client: Client) -> None:
    applied(client, manifest(sample("any", "triton", "sklearn"), platform))
    shown = shown_ready(client, "inferenceservices", "any")
    assert v1(platform, shown) == {"predictions": [0, 2]}
    assert client.get("services", "any")["status"]["units"][0]["format"] == "sklearn"
