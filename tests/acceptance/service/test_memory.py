"""The budget of memory for loaded models, as a platform's setting."""

from pathlib import Path

from tests.acceptance.service.serving import ask, ready, until
from tests.platform import Platform

_MODEL = """
class Model:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1]}]

    def predict(self, inputs):
        return inputs["x"][:, 0]
"""


def test_a_model_beyond_the_budget_makes_the_one_before_leave(tmp_path: Path) -> None:
    with Platform(tmp_path, MLAAS_WARM="0", MLAAS_MODEL_MEMORY="1000000") as platform, platform.client() as client:
        (platform.files / "one").mkdir()
        (platform.files / "one" / "model.py").write_text(_MODEL)
        for name in ("first", "second"):
            spec = {
                "predictor": {"model": "one", "trusted": True},
                "scaling": {"min_replicas": 0, "idle_timeout": 600},
                "access": "public",
            }
            client.create("services", {"kind": "service", "meta": {"name": name}, "spec": spec})
            until(client, name, ready)
        for name, other in (("first", "second"), ("second", "first"), ("first", "second")):
            url = f"http://127.0.0.1:{platform.inference_port}/v1/models/{name}:predict"
            assert ask(url, body={"instances": [[3]]}) == (200, {"predictions": [3.0]})
            until(client, name, lambda status: status["units"][0]["phase"] == "Ready")
            until(client, other, lambda status: status["units"][0]["phase"] == "Cold")
