"""A stock transformers script that reports to Kubeflow reports here."""

import sys
from pathlib import Path

import pytest
from tests.platform import Platform


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_its_progress_and_metrics_are_those_of_the_task(tmp_path: Path) -> None:
    script = (Path(__file__).parent / "train.py").read_text()
    with Platform(tmp_path, MLAAS_WARM="0") as platform, platform.client() as client:
        spec = {"recipe": "script", "command": [sys.executable, "-c", script], "resources": {"memory": "3Gi"}}
        client.submit(spec, "foreign")
        seen = []
        for event, task in client.watch("tasks"):
            if event != "put":
                continue
            status = task["status"]
            if status.get("progress"):
                seen.append((status["phase"], status["progress"]))
            if status.get("phase") in ("Succeeded", "Failed", "Cancelled"):
                break
        log = b"".join(client.logs("foreign")).decode(errors="replace")
        assert status["phase"] == "Succeeded", log
        running = [progress for phase, progress in seen if phase == "Running"]
        on_the_way = [each for each in running if 0 < each["percentage"] < 100]
        assert on_the_way, seen
        assert on_the_way[-1]["metrics"]["loss"] > 0
        assert on_the_way[-1]["remaining_seconds"] > 0
        percentages = [progress["percentage"] for _, progress in seen]
        assert percentages == sorted(percentages)
        assert status["progress"]["percentage"] == 100
        assert {"loss", "learning_rate", "train_loss"} <= set(status["progress"]["metrics"])
        points = client.metrics("foreign")["items"]
        assert {point["metric"] for point in points} >= {"loss", "learning_rate"}
