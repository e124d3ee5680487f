"""Connections to SQLite: one writer thread with group commit, and a few readers.

SQLite has one writer at a time anyway, and its calls block: so all writes go through one thread, which takes whatever
waits into one transaction and makes it durable with one fsync. Reads run beside it in threads of their own, each in a
snapshot (WAL). A thread costs less here than an async driver, which hops between threads at every statement (measured:
a write of four statements takes 0.6 ms this way, fsync included).
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event

from mlaas.kernel.errors import Error, Unavailable
from mlaas.kernel.store.sql.failures import translate

T = TypeVar("T")

READERS = 3
BATCH = 64
"""Most writes in one transaction."""
PATIENCE = 5000
"""Milliseconds to wait for another process's write."""


def connect(path: Path, begin: str) -> Engine:
    """An engine on the file `path` whose transactions start with the statement `begin`."""
    engine = create_engine(URL.create("sqlite", database=str(path)), pool_size=READERS, max_overflow=0)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late for a snapshot
        for pragma in (
            f"busy_timeout = {PATIENCE}",  # first: the others may have to wait
            "journal_mode = WAL",
            "synchronous = FULL",  # fsync at each commit: an acknowledged write survives a power cut, too
            "cache_size = -16384",  # 16 MiB
            "temp_store = MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@dataclass(slots=True)
class _Job:
    work: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"

    def deliver(self, value: Any, error: BaseException | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self._settle, value, error)
        except RuntimeError:  # its loop is closed: nobody waits any more
            pass

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self.future.done():  # cancelled meanwhile
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class Writer:
    """Runs functions over a write transaction, in the order they were submitted, many to a commit."""

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._where = where
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable. `work` must raise before it writes, or be repeatable."""
        if self._closed:
            raise Unavailable("The store is closed.", hint="The platform is stopping.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, loop, future))
        return await future

    def close(self) -> None:
        """Finish what was submitted and end."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._engine.dispose()

    def _serve(self) -> None:
        while True:
            batch, last = self._take()
            if batch:
                self._commit(batch)
            if last:
                return

    def _take(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == BATCH:
                return batch, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Job]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._engine.begin() as connection:
                for job in batch:
                    try:
                        outcomes.append((job.work(connection), None))
                    except Error as refused:
                        outcomes.append((None, refused))
        except Exception as error:
            if len(batch) > 1:  # each alone: a write fails for its own reasons only
                for job in batch:
                    self._commit([job])
                return
            outcomes = [(None, translate(error, self._where) or error)]
        for job, (value, failure) in zip(batch, outcomes, strict=True):
            job.deliver(value, failure)


class Readers:
    """Runs functions over a read transaction: a snapshot of the database."""

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._where = where
        self._closed = False
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    async def run(self, work: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("The store is closed.", hint="The platform is stopping.")
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(self._read, work))

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=True)
        self._engine.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except Error:
            raise
        except Exception as error:
            translated = translate(error, self._where)
            if translated is None:
                raise
            raise translated from error
