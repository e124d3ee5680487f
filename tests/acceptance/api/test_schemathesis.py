"""Generated requests against `/openapi.json` of a running platform: all checks, no failure."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.platform import Platform

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_generated_requests_find_no_failure(tmp_path):
    with Platform(tmp_path, MLAAS_WARM="0", MLAAS_ADMIT="0") as platform:
        program = Path(sys.executable).with_name("st")
        options = "--checks=all --max-examples=15 --max-failures=50 --request-timeout=60 --no-color"
        token = f"Authorization: Bearer {platform.token}"
        schema = f"{platform.url}/openapi.json"
        done = subprocess.run(
            [program, f"--config-file={CONFIGURATION}", "run", schema, "-H", token, *options.split()],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=880,
        )
        assert done.returncode == 0, done.stdout[-12_000:]
        assert " ERROR mlaas.api" not in platform.tail(1 << 20)
