"""Making the file and its tables ready."""

from pathlib import Path

from mlaas.kernel.errors import Unavailable
from mlaas.kernel.resource import Kinds
from mlaas.kernel.store.sql.database import SqlDatabase


async def open_sqlite(path: Path, kinds: Kinds) -> SqlDatabase:
    """The store in the file `path`. Raises Unavailable."""
    _touch(path)
    database = SqlDatabase(path, kinds)
    try:
        await database.prepare()
    except BaseException:
        await database.close()
        raise
    return database


def _touch(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)  # specs may be confidential; the WAL file gets the same mode
    except OSError as error:
        raise Unavailable(
            f"The database '{path}' cannot be opened: {error.strerror}.", hint="Check owner, mode and mount."
        ) from error
