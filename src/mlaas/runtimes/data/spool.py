"""Rows of any format, written once as Arrow IPC files that are then memory-mapped: a table costs no memory."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.roles import INTEGER, NUMBER

Batches = Callable[["pa.Schema | None"], Iterator["pa.RecordBatch"]]


def mapped(path: Path) -> pa.Table:
    """The table of an Arrow IPC file, memory-mapped. The file may be replaced or removed while the table is in use."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def write(batches: Batches, target: Path) -> pa.Schema:
    """Write what `batches(schema)` yields. When a later batch needs a wider type than the first ones had (a column that was
    null so far, integers that become floats), reading starts over with the wider schema: types hold for the whole column."""
    schema: pa.Schema | None = None
    while True:
        wider = _attempt(batches, schema, target)
        if wider is None:
            break
        schema = wider
    with pa.memory_map(str(target)) as source:
        return pa.ipc.open_file(source).schema


def _attempt(batches: Batches, schema: pa.Schema | None, target: Path) -> pa.Schema | None:
    """Write everything; None when done, else the wider schema that is needed."""
    writer: pa.ipc.RecordBatchFileWriter | None = None
    try:
        for batch in batches(schema):
            if schema is None:
                schema = batch.schema
            elif not batch.schema.equals(schema):
                wider = unified(schema, batch.schema)
                if not wider.equals(schema):
                    return wider
                batch = _fitted(batch, schema)
            if writer is None:
                writer = pa.ipc.new_file(str(target), schema)
            writer.write_batch(batch)
        if writer is None:
            writer = pa.ipc.new_file(str(target), schema or pa.schema([]))
        return None
    finally:
        if writer is not None:
            writer.close()


def unified(left: pa.Schema, right: pa.Schema) -> pa.Schema:
    """The schema that holds both. Raises Invalid naming the column whose types do not go together."""
    try:
        return pa.unify_schemas([left, right], promote_options="permissive").with_metadata(left.metadata)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        for field in left:
            i = right.get_field_index(field.name)
            if i < 0:
                continue
            try:
                pa.unify_schemas([pa.schema([field]), pa.schema([right.field(i)])], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                raise Invalid(
                    f"The column {field.name!r} mixes {field.type} and {right.field(i).type}.",
                    field="dataset.path",
                    hint="Write every value of a column in one type, for example all labels as text.",
                ) from error
        raise Invalid(f"The files do not fit together: {error}.", field="dataset.path") from error


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        i = batch.schema.get_field_index(field.name)
        columns.append(pa.nulls(batch.num_rows, field.type) if i < 0 else batch.column(i).cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class Numbers:
    """Finds the columns of text in which every value is a number. One pass over all splits, then `cast`."""

    def __init__(self) -> None:
        self.kinds: dict[str, str | None] = {}

    def see(self, batch: pa.RecordBatch) -> None:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kind = self.kinds.get(name, "unseen")
            if kind is None:
                continue
            values = column.filter(pc.not_equal(column, ""))
            if not len(values):
                continue
            if kind in ("unseen", "integer") and _every(values, INTEGER):
                self.kinds[name] = "integer"
            elif _every(values, NUMBER):
                self.kinds[name] = "number"
            else:
                self.kinds[name] = None

    def schema(self, schema: pa.Schema) -> pa.Schema:
        types = {"integer": pa.int64(), "number": pa.float64()}
        return pa.schema([pa.field(f.name, types.get(self.kinds.get(f.name) or "", f.type)) for f in schema])

    def cast(self, path: Path) -> None:
        """Rewrite an IPC file with its columns of numbers as numbers; empty cells become null."""
        table = mapped(path)
        schema = self.schema(table.schema)
        if schema.equals(table.schema):
            return
        aside = path.with_suffix(".cast")
        with pa.ipc.new_file(str(aside), schema) as writer:
            for batch in table.to_batches():
                columns = []
                for field, column in zip(schema, batch.columns, strict=True):
                    if field.type != column.type:
                        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
                        column = column.cast(field.type)
                    columns.append(column)
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        aside.replace(path)


def _every(values: pa.Array, pattern: str) -> bool:
    # Most columns of text are told apart by their first value.
    return re.match(pattern, values[0].as_py()) is not None and bool(
        pc.all(pc.match_substring_regex(values, pattern)).as_py()
    )
