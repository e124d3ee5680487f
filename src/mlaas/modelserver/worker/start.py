"""From a deployment that is not compiled to the workers that answer for it."""

import asyncio
from pathlib import Path

from mlaas.modelserver.cache import cache_folder
from mlaas.modelserver.formats import registry
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.worker.environments import build
from mlaas.modelserver.worker.order import Order
from mlaas.modelserver.worker.pool import Pool, threads
from mlaas.modelserver.worker.spares import Spares, framework_of


async def start(
    deployment: Deployment,
    root: Path,
    *,
    name: str = "",
    concurrency: int = 0,
    queue: int = 1000,
    logs: Path | None = None,
    cache: Path | None = None,
    spares: Spares | None = None,
) -> Pool:
    """The model at `root` (a folder or file), served by worker processes of its own; the first one is ready.

    `name` is for messages and logs, `concurrency` the scaling's container_concurrency, `queue` how many requests may wait,
    `logs` a folder for a bounded log file per replica, `cache` where environments are kept (`mlaas.modelserver.cache` says
    where when it is not given), `spares` the processes that wait for a model. Raises Invalid for a model that cannot be opened
    and Unavailable.
    """
    python = ""
    if deployment.environment:
        python = str(await asyncio.to_thread(build, deployment.environment, cache or cache_folder()))
    order = _order(deployment, root, name, python)
    pool = Pool(
        order,
        size=deployment.workers,
        concurrency=concurrency,
        queue=queue,
        timeout=deployment.timeout,
        logs=logs,
        spares=spares,
    )
    await pool.open()
    return pool


def _order(deployment: Deployment, root: Path, name: str, python: str) -> Order:
    format = registry.named(deployment.format) if deployment.format else registry.detect(root)
    return Order(
        name=name or deployment.revision,
        root=root.resolve(),
        format=format.name,
        trusted=deployment.trusted,
        device=deployment.device,
        options=dict(deployment.options),
        python=python,
        memory=deployment.memory,
        threads=threads(deployment.workers),
        framework=framework_of(format, root),
    )
