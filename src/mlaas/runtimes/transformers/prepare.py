"""A data set to tokens: read, split, enlarged, tokenised in a stream into memory-mapped arrays, and kept by content.

`prepared.json` in the folder holds: labels (names or None), padding (token id), max_length, samples_train, samples_test,
tokens, counts (training rows a label), special (token ids that are never masked), warnings.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data import roles
from mlaas.runtimes.data.spec import DatasetSource
from mlaas.runtimes.transformers import folder
from mlaas.runtimes.transformers.objectives.base import Encoding, Objective, Prepared
from mlaas.runtimes.transformers.objectives.tokenizing import fits, longest_input, padding_token
from mlaas.runtimes.transformers.tokens import TokenSet, TokenWriter

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1  # part of the key: raise it when rows are turned into tokens differently
CHUNK = 4096
_NOTES = {
    "truncated": "{n} inputs are longer than {max_length} tokens and were cut.",
    "cut into windows": "{n} inputs are longer than {max_length} tokens and were cut into windows.",
    "without words": "{n} rows without a word were left out.",
    "answer not in context": "{n} answers do not stand in their context at the place said; they were searched for.",
    "answer lost": "{n} rows whose answer does not stand in the context were left out of training.",
}


def key(source: DatasetSource, content: str, tokenizer: str, objective: Objective, head: list[str] | None) -> str:
    """What decides the tokens: two tasks with the same key share them."""
    train = objective.train
    parts = [
        VERSION, content, tokenizer, objective.name, train.max_length, train.seed, head,
        source.model_dump(mode="json", exclude={"path", "storage_type"}),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def opened(path: Path) -> Prepared:
    facts = json.loads((path / "prepared.json").read_text())
    return Prepared(TokenSet(path / "train"), TokenSet(path / "test"), facts, path)


def build(
    tables: dict[str, "pa.Table"],
    source: DatasetSource,
    objective: Objective,
    tokenizer: Any,
    config: Any,
    head: list[str] | None,
    target: Path,
) -> Prepared:
    """Write the tokens to the folder `target`, aside first. `head` are the labels of the head that the model has."""
    fits(tokenizer, config)
    notes: dict[str, int] = {}
    said: list[str] = []
    parts, names = _parts(tables, source, objective, said)
    labels = _labels(names, head)
    limit = longest_input(tokenizer, config)
    max_length = min(objective.train.max_length or limit, limit)
    if objective.train.max_length and objective.train.max_length > limit:
        said.append(f"max_length {objective.train.max_length} is more than the model takes: {limit} it is.")
    codes = {label: i for i, label in enumerate(labels or [])}
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        written = {}
        for split, chunks in parts.items():
            encoding = Encoding(tokenizer, max_length, codes, split == "test", notes)
            with TokenWriter(aside / split, objective.sequences, objective.scalars) as writer:
                for rows in chunks:
                    writer.append(objective.encode(rows, encoding))
            written[split] = writer
        for split, what in (("train", "row to train on"), ("test", "test row")):
            if not written[split].rows:
                raise Invalid(f"The data set leaves no {what}.", field="dataset", hint="It needs more rows.")
        said += [_NOTES[what].format(n=n, max_length=max_length) for what, n in notes.items()]
        facts = {
            "labels": labels,
            "padding": padding_token(tokenizer, config),
            "mask": tokenizer.mask_token_id,
            "special": sorted(tokenizer.all_special_ids),
            "vocabulary": config.get_text_config().vocab_size,
            "max_length": max_length,
            "samples_train": written["train"].rows,
            "samples_test": written["test"].rows,
            "tokens": written["train"].tokens + written["test"].tokens,
            "warnings": said,
        }
        used = [np.unique(TokenSet(aside / split).flat("input_ids")) for split in written]
        np.save(aside / "used.npy", np.unique(np.concatenate(used)).astype(np.int64))
        if labels and "label" in objective.scalars:
            counts = np.bincount(TokenSet(aside / "train").scalars["label"], minlength=len(labels))
            facts["counts"] = counts.tolist()
        (aside / "prepared.json").write_text(json.dumps(facts))
        try:
            aside.rename(target)
        except OSError:
            if not target.is_dir():  # another task was faster: the same content
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return opened(target)


def _parts(
    tables: dict[str, "pa.Table"], source: DatasetSource, objective: Objective, said: list[str]
) -> tuple[dict[str, Iterator[dict[str, list[Any]]]], list[str] | None]:
    """Streams of rows for `train` and `test`, and the names of the classes."""
    from mlaas.runtimes.data import holdout, split

    columns = {name: objective.columns(table, source) for name, table in tables.items()}
    names = objective.names(columns.values())
    train_name, held_out = holdout.parts(list(tables))
    train = columns[train_name]
    if held_out and source.train_test_split is None:
        test_columns = columns[held_out]
        train_rows = np.arange(_height(train), dtype=np.int64)
        test_rows = np.arange(_height(test_columns), dtype=np.int64)
    else:
        if held_out:
            said.append(
                f"The data set has a split {held_out!r} of its own, {tables[held_out].num_rows} rows, which is not used: "
                "train_test_split takes the test rows from the others. Leave it out to test on that split."
            )
        if source.train_test_split is None:
            said.append("No test set was named: a tenth of the rows was set aside for it (train_test_split: 0.1).")
        test_columns = train
        strata = train["label"] if objective.stratified and "label" in train else None
        size = source.train_test_split or holdout.DEFAULT
        train_rows, test_rows = split.rows(_height(train), size, seed=objective.train.seed, labels=strata)
        if strata is not None and names and len(test_rows) < len(names):
            said.append(f"The test set of {len(test_rows)} rows does not have one of each of the {len(names)} labels.")
    train_chunks = _chunks(train, train_rows)
    if source.augment is not None:
        if "text" not in train:
            raise Invalid(
                f"Texts can be enlarged, {objective.name} reads none.", field="dataset.augment", hint="Leave it out."
            )
        tests = {str(text) for rows in _chunks(test_columns, test_rows) for text in rows["text"]}
        train_chunks = _enlarged(train, train_rows, source, tests, said)
    return {"train": train_chunks, "test": _chunks(test_columns, test_rows)}, names


def _height(columns: dict[str, "pa.ChunkedArray"]) -> int:
    return len(next(iter(columns.values())))


def _chunks(columns: dict[str, "pa.ChunkedArray"], rows: NDArray[np.int64]) -> Iterator[dict[str, list[Any]]]:
    """The rows (ascending numbers) as lists, some thousand at a time: only the slice that holds them is touched."""
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        first, last = int(part[0]), int(part[-1])
        picked = part - first
        found: dict[str, list[Any]] = {}
        for name, values in columns.items():
            window = values.slice(first, last - first + 1)
            found[name] = window.to_pylist() if len(picked) == len(window) else window.take(_index(picked)).to_pylist()
        yield found


def _index(rows: NDArray[np.int64]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(rows)


def _enlarged(
    train: dict[str, "pa.ChunkedArray"],
    rows: NDArray[np.int64],
    source: DatasetSource,
    tests: set[str],
    said: list[str],
) -> Iterator[dict[str, list[Any]]]:
    """The training rows and their changed copies. A row whose text is also a test row's is left out: copies of it would
    carry the test into the training."""
    from mlaas.runtimes.augment.enlarge import augment

    assert source.augment is not None
    wanted = source.augment
    kept = {name: values.take(_index(rows)).to_pylist() for name, values in train.items()}
    clean = [i for i, text in enumerate(kept["text"]) if text not in tests]
    if len(clean) < len(kept["text"]):
        said.append(f"{len(kept['text']) - len(clean)} training rows repeat a test text and were left out.")
        kept = {name: [values[i] for i in clean] for name, values in kept.items()}
    size = None if wanted.size is None else max(wanted.size, len(clean))
    copies, origins = augment(
        kept["text"], factor=wanted.factor, size=size, seed=wanted.seed, abbreviate=wanted.abbreviate, exclude=tests
    )
    for start in range(0, len(clean), CHUNK):
        yield {name: values[start : start + CHUNK] for name, values in kept.items()}
    for start in range(0, len(copies), CHUNK):
        sources = origins[start : start + CHUNK].tolist()
        chunk = {name: [values[i] for i in sources] for name, values in kept.items()}
        chunk["text"] = copies[start : start + CHUNK]
        yield chunk


def _labels(names: list[str] | None, head: list[str] | None) -> list[str] | None:
    """The classes of the model: those of its head where it has one, which must know all of the data's."""
    if names is None or head is None:
        return names
    roles.check_head(names, head)
    return head


__all__ = ["build", "folder", "key", "opened"]
