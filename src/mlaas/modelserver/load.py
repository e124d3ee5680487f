"""From a deployment to a predictor that answers. The seam between the repository and formats, compile and workers."""

import asyncio
import sys
from pathlib import Path
from typing import Any, Protocol

from mlaas.kernel.blobs.uri import file_path
from mlaas.kernel.errors import Error, Invalid
from mlaas.modelserver import archive, compiling
from mlaas.modelserver.cache import Cache, key_of
from mlaas.modelserver.compile import COMPILER, Order, refused
from mlaas.modelserver.compiled import read
from mlaas.modelserver.formats import registry
from mlaas.modelserver.formats.base import INT8, Format
from mlaas.modelserver.predictor import Predictor
from mlaas.modelserver.table import Deployment
from mlaas.modelserver.worker.environments import build
from mlaas.modelserver.worker.spares import Spares, framework_of

TRANSFORMER = "transformer"


class Loader(Protocol):
    """Loads deployments. `load` may take seconds and does not block the loop."""

    async def load(self, deployment: Deployment) -> Predictor:
        """A predictor that is ready to answer. Raises Invalid (the model is at fault; its message is for its owner) or
        Unavailable."""
        ...


class Loading:
    """Compiled models in this process, all others in workers.

    A model is compiled once, in a process of its own, and kept in the cache; from there it loads in milliseconds. At most
    `slots` compilations run at once.
    """

    def __init__(self, cache: Cache | None = None, slots: int = 1) -> None:
        self.cache = cache or Cache()
        self._slots = asyncio.Semaphore(slots)
        self._running: dict[str, asyncio.Lock] = {}
        self._spares = Spares()
        self._expected: list[Deployment] = []

    async def load(self, deployment: Deployment) -> Predictor:
        if deployment.remote is not None:
            from mlaas.modelserver.wrap.remote import connect

            return await connect(deployment)
        source, format, key, predictor = await asyncio.to_thread(self._find, deployment)
        if predictor is not None:
            return predictor
        if format.name == TRANSFORMER:
            return await self._worker(deployment, source, "a transformer runs as it is")
        if not deployment.compile:
            return await self._worker(deployment, source, "it is switched off")
        folder, document = await self._compiled(deployment, source, format, key)
        if document["kind"] == "original":
            return await self._worker(deployment, source, document["reason"], document)
        return await asyncio.to_thread(read.predictor_of, document, folder, source)

    async def expect(self, deployments: list[Deployment]) -> None:
        """Be ready for the first use of these, which are not loaded ahead of it: for those that run in a worker and need a
        framework that is slow to import, a process waits that has done so. Replaces what was expected before."""
        self._expected = deployments
        self._spares.want(await asyncio.to_thread(self._frameworks, deployments))

    def waiting(self) -> dict[str, int]:
        """The processes that wait, by the framework that they have imported."""
        return self._spares.pids()

    def close(self) -> None:
        """End the processes that wait."""
        self._spares.close()

    def _frameworks(self, deployments: list[Deployment]) -> set[str]:
        found = set()
        for deployment in deployments:
            if deployment.remote is not None or deployment.environment:
                continue
            try:
                source = _source(deployment)
                if archive.is_archive(source):
                    continue  # it is unpacked at its first use
                format, key, kept = self._locate(deployment, source)
            except (Error, OSError):
                continue  # its first use says what is wrong with it
            if not key or (kept is not None and kept[1]["kind"] == "original"):
                found.add(framework_of(format, source))
        return found - {""}

    def _locate(self, deployment: Deployment, source: Path) -> tuple[Format, str, tuple[Path, dict[str, Any]] | None]:
        """Format of a model, key of its compiled form ("": it is not to have one), and that form where the cache has it."""
        format = registry.named(deployment.format) if deployment.format else registry.detect(source)
        if format.name == TRANSFORMER or not deployment.compile:
            return format, "", None
        key = self._key(deployment, source, format)
        return format, key, self.cache.find(key)

    def _find(self, deployment: Deployment) -> tuple[Path, Format, str, Predictor | None]:
        """Folder or file, format and key of a model, and its predictor where the cache has its compiled form: in one thread, so
        that the front that answers other models meanwhile is interrupted once."""
        source = _source(deployment)
        if archive.is_archive(source):
            source = archive.unpacked(source, self.cache.content_hash(source), self.cache.root)
        format, key, found = self._locate(deployment, source)
        if found is None or found[1]["kind"] == "original":
            return source, format, key, None
        folder, document = found
        return source, format, key, read.predictor_of(document, folder, source)

    async def _compiled(
        self, deployment: Deployment, source: Path, format: Format, key: str
    ) -> tuple[Path, dict[str, Any]]:
        lock = self._running.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                found = await asyncio.to_thread(self.cache.find, key)
                return found or await self._make(deployment, source, format, key)
        finally:
            if not lock.locked():
                self._running.pop(key, None)

    async def _make(
        self, deployment: Deployment, source: Path, format: Format, key: str
    ) -> tuple[Path, dict[str, Any]]:
        async with self._slots:
            with self.cache.making() as folder:
                order = Order(
                    source=str(source),
                    target=str(folder),
                    format=format.name,
                    trusted=deployment.trusted,
                    device=deployment.device,
                    options=_options(deployment),
                    memory=deployment.memory,
                    seconds=int(compiling.SECONDS),
                )
                python = ""
                if deployment.environment:
                    python = str(await asyncio.to_thread(build, deployment.environment, self.cache.root))
                await compiling.run(order, python)
                return await asyncio.to_thread(self.cache.keep, folder, key)

    def _key(self, deployment: Deployment, source: Path, format: Format) -> str:
        content = deployment.hash or self.cache.content_hash(source)
        return key_of(
            COMPILER,
            content,
            source.name if source.is_file() else "",
            format.name,
            registry.versions(format, source),
            sys.version_info[:2],
            deployment.trusted,
            deployment.device,
            deployment.options,
            deployment.environment,
            self._int8(deployment),
        )

    def _int8(self, deployment: Deployment) -> tuple[str, float] | None:
        """What of int8 a compiled form depends on. Raises Invalid for rows that are not there."""
        asked = deployment.int8
        if asked is None:
            return None
        rows = file_path(asked.source).absolute()
        if not rows.exists():
            raise Invalid(f"There are no rows at {rows}.", field="int8.rows")
        return asked.hash or self.cache.content_hash(rows), asked.max_drop

    async def _worker(
        self, deployment: Deployment, source: Path, reason: str, document: dict[str, Any] | None = None
    ) -> Predictor:
        from mlaas.modelserver.worker.start import start

        pool = await start(deployment, source, cache=self.cache.root, spares=self._spares)
        if pool.order.framework and not pool.order.python and deployment in self._expected:
            self._spares.want(self._spares.wanted | {pool.order.framework})  # for the next time
        pool.notes["reason"] = reason
        if document and document.get("parity"):
            pool.notes["parity"] = document["parity"]
        if deployment.int8 is not None:
            pool.notes["int8"] = (document or {}).get("int8") or refused(reason)
        return pool


def _options(deployment: Deployment) -> dict[str, Any]:
    """Those of the format, and what asks for int8."""
    if INT8 in deployment.options:
        raise Invalid("int8 is asked for beside the options, not in them.", field="options.int8")
    asked = deployment.int8
    if asked is None:
        return deployment.options
    rows = {"rows": str(file_path(asked.source).absolute()), "max_drop": asked.max_drop}
    return {**deployment.options, INT8: rows}


def _source(deployment: Deployment) -> Path:
    """The folder or file on this machine. Raises Invalid for a uri that was not resolved."""
    source = deployment.source
    if "://" in source and not source.startswith("file://"):
        raise Invalid(f"'{source}' is no folder on this machine.", field="source")
    if not source:
        raise Invalid("The deployment names no model.", field="source")
    path = file_path(source).absolute()
    if not path.exists():
        raise Invalid(f"There is no model at {path}.", field="source")
    return path
