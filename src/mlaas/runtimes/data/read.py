"""Data sets of any readable format as memory-mapped Arrow tables, one per split.

The first read streams the files into Arrow IPC files under `cache/tables/<key>/`, the key being that of the content and the
options; later reads only map them. So a table costs no memory, whatever its size, and reading it again costs milliseconds
beside the hash of the files.
"""

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlaas.kernel.errors import Full, Invalid
from mlaas.runtimes.data import batches, files, holdout, spool
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.spec import DatasetSource

VERSION = 1  # part of the key: raise it when reading changes


def load(path: Path, source: DatasetSource, cache: Path) -> dict[str, pa.Table]:
    """The tables of a data set by split name (`train`, `test`, `validation`, or what a saved data set calls them), in that
    order; with `source.split` only that one. Every table has rows. `path` is the fetched file or folder.

    Columns of text in CSV and TSV that hold nothing but numbers are numbers; class labels of Hugging Face data sets are
    their names. Raises NotFound, Full, and Invalid with field, place and hint for everything that cannot be read.
    """
    found = files.find(Path(path), source.format)
    folder = cache / "tables" / _key(found, source)
    if not folder.is_dir():
        _build(found, source, folder)
    splits = holdout.wanted(list(dict.fromkeys(file.split for file in found)), source.split)
    tables = {split: spool.mapped(folder / f"{file_name(split)}.arrow") for split in splits}
    rows = {split: table.num_rows for split, table in tables.items()}
    return {split: tables[split] for split in holdout.filled(rows, Path(path).name)}


def file_name(split: str) -> str:
    """A split's name as a file name: splits of saved data sets may be called anything."""
    return split if split.isidentifier() else hashlib.sha256(split.encode()).hexdigest()[:16]


def _key(found: list[DataFile], source: DatasetSource) -> str:
    listing = []
    for file in found:
        with file.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        listing.append([file.split, file.name, file.format, file.compression, digest])
    options = [VERSION, source.loader_kwargs.encoding, source.loader_kwargs.delimiter, listing]
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()


def _build(found: list[DataFile], source: DatasetSource, folder: Path) -> None:
    """Write the tables aside and rename: a concurrent reader sees all of them or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        numbers = spool.Numbers()
        written: list[Path] = []
        for split in dict.fromkeys(file.split for file in found):
            target = aside / f"{file_name(split)}.arrow"
            own = [file for file in found if file.split == split]
            spool.write(lambda schema, own=own: _batches(own, source, schema, numbers), target)  # type: ignore[misc]
            written.append(target)
        if any(file.format in ("csv", "tsv") for file in found):
            for target in written:
                numbers.cast(target)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():  # another reader was faster: the same content
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Full(
                f"No room left for the tables of the data set in {folder.parent}.",
                hint="Free some space there, or move the data folder to a larger disk.",
            ) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _batches(
    found: list[DataFile], source: DatasetSource, schema: "pa.Schema | None", numbers: spool.Numbers
) -> Iterator[pa.RecordBatch]:
    for file in found:
        if file.path.stat().st_size == 0:
            continue
        if file.format in ("csv", "tsv"):
            for batch in batches.cells(file, source):
                numbers.see(batch)
                yield batch
        elif file.format == "jsonl":
            yield from batches.json_lines(file, source, schema)
        elif file.format == "json":
            yield from batches.json(file, source, schema)
        elif file.format == "text":
            yield from batches.text(file, source)
        else:
            for batch in _parquet(file) if file.format == "parquet" else _arrow(file):
                yield _plain(batch)


def _parquet(file: DataFile) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(file.path) as reader:
            metadata = reader.schema_arrow.metadata
            for batch in reader.iter_batches(batch_size=batches.ROWS):
                yield batch.replace_schema_metadata(metadata)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _unreadable(file, "Parquet", error) from error


def _arrow(file: DataFile) -> Iterator[pa.RecordBatch]:
    """Arrow IPC in its stream form (as `datasets` writes it) or its file form."""
    try:
        with pa.memory_map(str(file.path)) as mapped:
            head = mapped.read(6)
            mapped.seek(0)
            if head == b"ARROW1":
                reader = pa.ipc.open_file(mapped)
                yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                yield from pa.ipc.open_stream(mapped)
    except pa.ArrowInvalid as error:
        raise _unreadable(file, "Arrow", error) from error


def _unreadable(file: DataFile, format: str, error: Exception) -> Invalid:
    return Invalid(
        f"{file.name} is no {format} file that can be read: {error}.",
        field="dataset.path",
        hint="Check that it was copied whole, or say what it is with dataset.format.",
    )


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dictionaries become their values, class labels of Hugging Face data sets their names (-1, no label, becomes null)."""
    names = _class_names(batch.schema)
    arrays = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if name in names:
            column = _named(column, pa.array(names[name], pa.string()))
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The names of `ClassLabel` columns, and of lists of them, from the schema's metadata as `datasets` writes it."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    found = {}
    for name, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            found[name] = [str(label) for label in inner["names"]]
    return found


def _named(column: pa.Array, names: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        values = _named(column.flatten(), names)
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths.cast(pa.int64()))])
        return pa.ListArray.from_arrays(offsets.cast(pa.int32()), values)
    if not pa.types.is_integer(column.type):
        return column
    valid = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(names)))
    return names.take(pc.if_else(valid, column, pa.scalar(None, column.type)))
