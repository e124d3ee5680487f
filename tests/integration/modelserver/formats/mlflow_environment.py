"""MLflow in an environment of its own, kept between runs; the libraries whose models it saves are those of this one."""

import os
import subprocess
import sysconfig
from pathlib import Path

from tests.integration.modelserver.formats.tensorflow_environment import KEPT

from mlaas.modelserver.worker.environments import build

REQUIREMENTS = ["mlflow-skinny", "pandas"]
SCRIPT = Path(__file__).parent / "mlflow_models.py"


def save(folder: Path, *names: str) -> None:
    """Have the script save these models into folders of their names. Raises AssertionError with what it wrote when it fails."""
    python = build(REQUIREMENTS, KEPT)
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_paths()["purelib"], "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [str(python), str(SCRIPT), str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
