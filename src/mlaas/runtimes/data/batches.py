"""Rows of CSV, TSV, JSON lines, JSON and plain text as Arrow batches.

Every cell of CSV and TSV is read as text: "NA" is the code of a place and no missing value, "00044" a postal code and no number.
Columns that hold nothing but numbers are turned into numbers afterwards, over the whole data set (`spool.Numbers`).
"""

from collections.abc import Iterator
from itertools import chain, islice

import pyarrow as pa
import pyarrow.csv

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data import delimited, json_rows, lines, streams
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.lines import Kinds, Row
from mlaas.runtimes.data.spec import DatasetSource

BLOCK = 8 << 20
ROWS = 32_768


def cells(file: DataFile, source: DatasetSource) -> Iterator[pa.RecordBatch]:
    """CSV and TSV. Raises Invalid for a missing or doubled column name, ragged rows (line number) and a wrong encoding (line,
    guess)."""
    found = delimited.layout(file, source)
    if found is None:
        return
    try:
        reader = pa.csv.open_csv(
            pa.input_stream(str(file.path), compression=file.compression),
            read_options=pa.csv.ReadOptions(block_size=BLOCK, encoding=found.encoding),
            parse_options=pa.csv.ParseOptions(delimiter=found.delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in found.names}, strings_can_be_null=False, null_values=[]
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield batch
    except UnicodeError as error:
        raise file.undecodable(found.encoding) from error
    except OSError as error:
        if error.errno or file.compression is None:
            raise
        raise streams.damaged(file.name, error) from error
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise file.undecodable(found.encoding) from error
        raise delimited.unreadable(file, found, error) from error


def text(file: DataFile, source: DatasetSource) -> Iterator[pa.RecordBatch]:
    """One row, column `text`, per line that is not blank."""
    found = (line for _, line in lines.text(file, source))
    while rows := list(islice(found, ROWS)):
        yield pa.record_batch({"text": pa.array(rows, pa.string())})


def json_lines(file: DataFile, source: DatasetSource, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """One JSON object a line."""
    return _objects(file, lines.json_lines(file, source), schema, "line")


def json(file: DataFile, source: DatasetSource, schema: pa.Schema | None) -> Iterator[pa.RecordBatch]:
    """A JSON document, see `json_rows`."""
    return _objects(file, json_rows.rows(file, source), schema, json_rows.unit(file, source))


def _objects(
    file: DataFile, found: Iterator[tuple[int, Row]], schema: pa.Schema | None, unit: str
) -> Iterator[pa.RecordBatch]:
    kinds = Kinds(file, unit)
    while part := list(islice(found, ROWS)):
        yield _batch(file, part, schema, kinds)


def _batch(file: DataFile, part: list[tuple[int, Row]], schema: pa.Schema | None, kinds: Kinds) -> pa.RecordBatch:
    names = list(dict.fromkeys(chain.from_iterable(row for _, row in part)))
    arrays = []
    for name in names:
        values = [row.get(name) for _, row in part]
        type = schema.field(name).type if schema is not None and schema.get_field_index(name) >= 0 else None
        try:
            try:
                arrays.append(pa.array(values, type))
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                arrays.append(pa.array(values))  # wider than before: the spool starts over with what holds both
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            for number, row in part:
                kinds.see({name: row.get(name)}, number)
            raise Invalid(
                f"{file.name}: the column {name!r} has no single type: {error}.", field="dataset.path", hint=lines.MIXED
            ) from error
    return pa.RecordBatch.from_arrays(arrays, names=names)
