"""Opening a store by its URL or path."""

from pathlib import Path

from mlaas.kernel.errors import Invalid
from mlaas.kernel.resource import Kinds
from mlaas.kernel.store.base import Database


async def open_database(where: str | Path, kinds: Kinds) -> Database:
    """The database at `where`: a path or `sqlite:///PATH`. It is made when it does not exist (mode 0600).

    Raises Invalid for another scheme, Unavailable when it cannot be opened.
    """
    text = str(where)
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "sqlite":
        raise Invalid(f"There is no store for '{scheme}://'.", field="store", hint="Use a path or sqlite:///PATH.")
    path = Path(rest.removeprefix("/") if separator else text)
    # Imported here: whoever only names the store's interface need not load SQLAlchemy.
    from mlaas.kernel.store.sql.open import open_sqlite

    return await open_sqlite(path, kinds)
