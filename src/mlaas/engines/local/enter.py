"""Runs a command beside a running replica: `python -I -S enter.py ATTEMPT_FOLDER COMMAND...`.

It joins the replica's control group, folder, environment and confinement, then becomes the command. Standard library only.
"""

import os
import sys

sys.path.insert(0, os.path.abspath(__file__ + "/../../../.."))

from mlaas.engines.local import launch, record
from mlaas.kernel import cgroup


def main(folder: str, command: list[str]) -> None:
    """Never returns: the exit code is the command's, or 127 when it could not be started."""
    order = record.read(f"{folder}/{record.ORDER}")
    shim = record.read(f"{folder}/{record.SHIM}")
    if order is None or shim is None:
        sys.exit(launch.NOT_STARTED)
    try:
        if order.get("cgroup"):
            cgroup.join(order["cgroup"])
    except OSError:
        pass  # it is limited by sampling
    os.umask(0o022)
    os.chdir(order["cwd"])
    launch.confine(order)
    environment = {**order["env"], "KUBEFLOW_TRAINER_SERVER_URL": shim.get("url", "")}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606
    except OSError:
        sys.exit(launch.NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
