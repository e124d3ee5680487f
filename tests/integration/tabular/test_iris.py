"""Iris through a real platform: applied, trained, and the model that was kept read back."""

import json
from pathlib import Path

import numpy as np
import yaml
from examples.iris import generate
from tests.platform import REPOSITORY, Platform


def test_iris_is_trained_and_its_model_answers(tmp_path: Path) -> None:
    with Platform(tmp_path, MLAAS_WARM="0") as platform, platform.client() as client:
        generate.write(platform.files / "iris.csv")
        manifest = yaml.safe_load((REPOSITORY / "examples/iris/iris.yaml").read_text())
        manifest["spec"]["model_save"] = {"path": "model"}
        client.create("tasks", manifest)
        task = client.wait("iris", timeout=120)
    assert task["status"]["phase"] == "Succeeded"
    evaluation = task["status"]["evaluation"]
    assert evaluation["accuracy"] >= 0.9
    assert len(evaluation["cross_validation"]["accuracy"]["values"]) == 5

    import skops.io

    folder = platform.files / "model"
    signature = json.loads((folder / "signature.json").read_text())
    assert signature["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 4]}]
    model = skops.io.load(folder / "model.skops", trusted=signature["model"]["trusted"])
    rows = json.loads((folder / "input_example.json").read_text())["instances"]
    assert set(model.predict(np.array(rows)).tolist()) <= set(signature["classes"]) == {0, 1, 2}
    assert model.predict([[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]).tolist() == [1, 1]
