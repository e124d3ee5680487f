"""The access log of a platform's model server."""

import subprocess
import sys
import time
from pathlib import Path

import httpx2
from tests.platform import Platform


def test_it_is_switched_on_by_a_setting_and_read_as_the_model_servers_log(tmp_path: Path) -> None:
    with Platform(tmp_path, MLAAS_WARM="0", MLAAS_ACCESS_LOG="1") as platform:
        url = f"http://127.0.0.1:{platform.inference_port}/v2/health/live"
        end = time.monotonic() + 60
        while True:
            try:
                assert httpx2.get(url).status_code == 200
                break
            except httpx2.ConnectError:
                assert time.monotonic() < end
                time.sleep(0.1)
        command = [sys.executable, "-m", "mlaas", "logs", "workload/model-server", "--project", "system"]
        said = subprocess.run(command, env=platform.environment, capture_output=True, text=True, timeout=60).stdout
    assert '"GET /v2/health/live" 200' in said
