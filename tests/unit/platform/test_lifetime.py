"""A platform of the tests does not outlive the tests."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.platform import REPOSITORY

PROGRAM = """
import sys
from pathlib import Path
from tests.platform import Platform

platform = Platform(Path(sys.argv[1]), MLAAS_WARM="0", MLAAS_ADMIT="0")
platform.start()
print(platform.pid, flush=True)
sys.stdin.read()
"""


def test_a_killed_test_run_takes_its_platform_with_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"},
    ) as run:
        assert run.stdout is not None
        platform = os.pidfd_open(int(run.stdout.readline()))
        try:
            run.kill()
            run.wait(10)
            deadline = time.monotonic() + 10
            while not _ended(platform):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            os.close(platform)


def _ended(handle: int) -> bool:
    import select

    return bool(select.select([handle], [], [], 0)[0])
