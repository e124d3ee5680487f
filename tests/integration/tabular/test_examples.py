"""The examples through a real platform: generated, applied as they stand, trained; their models take V1 bodies as they are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from examples.anomaly import generate as anomaly
from examples.anomaly.transformer import WINDOW, Transformer
from examples.higgs import generate as higgs
from examples.iris import generate as iris
from examples.tthbb import generate as tthbb
from tests.platform import REPOSITORY, Platform

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("platform"), MLAAS_WARM="0") as running:
        yield running


def trained(platform: Platform, name: str, seconds: float = 200) -> dict[str, dict[str, Any]]:
    """Task name -> status, of each task in the example's manifest; the models are saved below `files/<task>`."""
    documents = [
        document
        for document in yaml.safe_load_all((EXAMPLES / name / f"{name}.yaml").read_text())
        if document["kind"] == "task"
    ]
    done = {}
    with platform.client() as client:
        for document in documents:
            document["spec"]["model_save"] = {"path": document["meta"]["name"]}
            client.create("tasks", document)
        for document in documents:
            task = client.wait(document["meta"]["name"], timeout=seconds)
            assert task["status"]["phase"] == "Succeeded", task["status"].get("error")
            done[document["meta"]["name"]] = task["status"]
    return done


def signature_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "signature.json").read_text())
    return document


def predictions(folder: Path, rows: Any) -> list[Any]:
    """What `{"predictions": [...]}` would hold: the first output of the ONNX model."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (answer,) = session.run(["predict"], {"input-0": np.array(rows, dtype=np.float32)})
    return answer.tolist()  # type: ignore[no-any-return]


def body(name: str) -> list[list[float]]:
    rows: list[list[float]] = json.loads((EXAMPLES / name / "input.json").read_text())["instances"]
    return rows


def test_iris(platform: Platform) -> None:
    iris.write(platform.files / "iris.csv")
    status = trained(platform, "iris")["iris"]
    assert status["evaluation"]["accuracy"] >= 0.9
    assert len(status["evaluation"]["cross_validation"]["accuracy"]["values"]) == 5
    folder = platform.files / "iris"
    assert signature_of(folder)["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}]
    assert predictions(folder, body("iris")) == [1, 1]

    import skops.io

    model = skops.io.load(folder / "model.skops", trusted=signature_of(folder)["model"]["trusted"])
    assert model.predict(np.array(body("iris"))).tolist() == [1, 1]


def test_higgs_with_scikit_learn_and_with_xgboost(platform: Platform) -> None:
    higgs.write(platform.files / "higgs.csv")
    done = trained(platform, "higgs")
    assert done["higgs"]["dataset"] == {"samples_train": 3000, "samples_test": 1000, "features": 20}
    for name, status in done.items():
        assert status["evaluation"]["roc_auc"] > 0.9
        assert 0.8 < status["evaluation"]["accuracy"] < 0.95
        assert list(signature_of(platform.files / name)["features"]) == list(higgs.FEATURES)
        answers = predictions(platform.files / name, body("higgs"))
        assert len(answers) == 2
        assert set(answers) <= {0, 1}
    assert (
        done["higgs-xgboost"]["history"]["validation_logloss"][0]
        > done["higgs-xgboost"]["history"]["validation_logloss"][-1]
    )


def test_tthbb_with_a_network_gives_one_probability_a_row(platform: Platform) -> None:
    tthbb.write(platform.files / "tthbb.csv")
    status = trained(platform, "tthbb")["tthbb"]
    assert status["evaluation"]["accuracy"] > 0.75
    assert status["history"]["loss"][0] > status["history"]["loss"][-1]
    folder = platform.files / "tthbb"
    signature = signature_of(folder)
    assert signature["outputs"] == [{"name": "predict", "datatype": "FP32", "shape": [-1]}]
    assert len(signature["features"]) == 29
    answers = predictions(folder, body("tthbb"))
    assert len(answers) == 2
    assert all(isinstance(answer, float) and 0 < answer < 1 for answer in answers)


def test_anomalies_are_found_by_a_transformer_and_a_detector(platform: Platform) -> None:
    anomaly.write(platform.files / "windows.csv")
    status = trained(platform, "anomaly")["anomaly"]
    assert status["evaluation"]["roc_auc"] > 0.95
    assert status["evaluation"]["recall"] > 0.7
    windows, truth = anomaly.windows(days=7, seed=2)
    transformer = Transformer()
    prepared = transformer.preprocess({"instances": windows})["input-0"]
    found = transformer.postprocess({"predict": predictions(platform.files / "anomaly", prepared)})["predict"]
    assert found.shape == truth.shape
    assert found[truth == 1].mean() > 0.6
    assert found[truth == 0].mean() < 0.1
    with pytest.raises(ValueError, match=f"a window has {WINDOW} values"):
        transformer.preprocess({"instances": windows[:, 1:]})


def test_the_generators_are_deterministic_and_keep_to_what_they_say(tmp_path: Path) -> None:
    features, labels = higgs.events(2000, 3)
    assert features.shape == (2000, 20)
    assert np.allclose(features.mean(axis=0), 0, atol=1e-9)
    assert np.allclose(features.std(axis=0), 1)
    assert set(labels.tolist()) == {0, 1}
    features, labels = tthbb.events(2000, 3)
    assert features.shape == (2000, 29)
    assert (features.min(), features.max()) == (0, 1)
    assert set(np.unique(features[:, list(tthbb.FEATURES).index("n_btags1")])) == {0, 0.5, 1}
    for module in (higgs, tthbb, anomaly):
        one = module.write(tmp_path / "one.csv", 3, 5).read_bytes()
        assert one == module.write(tmp_path / "two.csv", 3, 5).read_bytes()
        assert one != module.write(tmp_path / "three.csv", 3, 6).read_bytes()
