"""What a database's own errors mean to a user of the platform."""

from sqlalchemy.exc import SQLAlchemyError

from mlaas.kernel.errors import Error, Full, Unavailable

_CORRUPT = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT"})
_REFUSED = frozenset({"SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"})


def translate(error: Exception, where: str) -> Error | None:
    """The platform's error for one of SQLAlchemy or of the driver; None for anything else. `where` names the database.

    Source of the names: sqlite.org/rescode.html; an extended code begins with its primary code's name.
    """
    original = getattr(error, "orig", None) or error
    name: str = getattr(original, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])
    if primary == "SQLITE_FULL":
        return Full(f"The disk that holds {where} is full.", hint="Free some space there; nothing stored was lost.")
    if primary in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        return Unavailable(
            f"{where} is locked by another process.",
            hint="Try again. If it lasts, find the process that holds it, for example with `fuser`.",
        )
    if primary in _CORRUPT:
        return Unavailable(
            f"{where} is damaged or no SQLite database: {original}.",
            hint="Stop the platform and restore a backup, or save what is readable with `sqlite3 FILE .recover`.",
        )
    if primary in _REFUSED:
        return Unavailable(f"{where} cannot be opened or written: {original}.", hint="Check owner, mode and mount.")
    if primary == "SQLITE_IOERR":
        return Unavailable(
            f"Reading or writing {where} failed: {original} ({name}).",
            hint="Check the disk, its free space and its quota; network file systems cannot hold this file.",
        )
    if isinstance(error, SQLAlchemyError) and name != "SQLITE_CONSTRAINT":
        return Unavailable(f"{where} does not answer: {original}.", hint="Try again.")
    return None
