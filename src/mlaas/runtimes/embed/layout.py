"""What lies in the folder of a vector store. Pure: the platform looks before a search is accepted, the recipe before it opens.

    index.faiss          the FAISS index
    documents.arrow      one row a vector: the content and the metadata columns (Arrow IPC, memory-mapped)
    vector_store.json    what they are: model, dimension, metric, pooling, kind, counts, versions

A folder written by LangChain has `index.faiss` and `index.pkl`.
"""

import json
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid, NotFound

INDEX = "index.faiss"
DOCUMENTS = "documents.arrow"
MANIFEST = "vector_store.json"
LANGCHAIN = "index.pkl"
FORMAT = "mlaas-vector-store"
VERSION = 1
FIELD = "dataset.path"


def check(folder: Path, shown: str = "") -> dict[str, Any]:
    """The manifest of a store, `{"format": "langchain"}` of LangChain's; `shown` is what its user calls the folder.

    Raises NotFound for a missing folder, Invalid for one that is no vector store or whose manifest is damaged.
    """
    shown = shown or str(folder)
    if not folder.exists():
        raise NotFound(
            f"There is no vector store at '{shown}'.",
            field=FIELD,
            hint="Check the path; relative paths start at the first local root. A task with vector_store_save builds one.",
        )
    hint = f"A vector store is a folder with {INDEX} and {MANIFEST} (or {LANGCHAIN}, from LangChain)."
    if not folder.is_dir():
        raise Invalid(f"'{shown}' is a file, no vector store.", field=FIELD, hint=hint)
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if INDEX not in names or not {MANIFEST, LANGCHAIN} & set(names):
        there = ", ".join(names[:10]) or "nothing"
        raise Invalid(f"'{shown}' is no vector store. It holds {there}.", field=FIELD, hint=hint)
    if MANIFEST not in names:
        return {"format": "langchain"}
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["version"] > VERSION:
            raise ValueError(f"format {manifest['format']} {manifest['version']} is not known")
        if DOCUMENTS not in names:
            raise ValueError(f"there is no {DOCUMENTS}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(shown, error) from error
    return dict(manifest)


def damaged(shown: str, why: object) -> Invalid:
    return Invalid(f"The vector store '{shown}' is damaged: {why}.", field=FIELD, hint="Build the store anew.")
