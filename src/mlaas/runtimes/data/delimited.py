"""CSV and TSV (RFC 4180 quoting, a header line) as batches of text columns.

Every cell is read as text: "NA" is the code of a place and no missing value, "00044" a postal code and no number. Columns
that hold nothing but numbers are turned into numbers afterwards, over the whole data set (`spool.Numbers`).
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.data.files import DataFile
from mlaas.runtimes.data.spec import DatasetSource

BLOCK = 8 << 20


def batches(file: DataFile, source: DatasetSource) -> Iterator[pa.RecordBatch]:
    """Raises Invalid for a missing or doubled column name, ragged rows (line number) and a wrong encoding (line, guess)."""
    encoding = source.loader_kwargs.encoding
    known_encoding(encoding)
    delimiter = source.loader_kwargs.delimiter or ("\t" if file.format == "tsv" else _delimiter(file, encoding))
    names = header(file, encoding, delimiter)
    if names is None:
        return
    try:
        reader = pa.csv.open_csv(
            pa.input_stream(str(file.path), compression=file.compression),
            read_options=pa.csv.ReadOptions(block_size=BLOCK, encoding=encoding),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False, null_values=[]
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield batch
    except UnicodeError as error:
        raise undecodable(file, encoding) from error
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error) or "UTF-8" in str(error):
            raise undecodable(file, encoding) from error
        raise _ragged(file, encoding, delimiter, len(names), error) from error


def known_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise Invalid(
            f"There is no encoding {encoding!r}.",
            field="dataset.loader_kwargs.encoding",
            hint="Usual ones are utf-8, cp1252, latin-1 and utf-16.",
        ) from error


def opened(file: DataFile, encoding: str) -> io.TextIOWrapper:
    """The file as text, decompressed; a byte order mark is dropped."""
    name = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    binary = io.BufferedReader(pa.input_stream(str(file.path), compression=file.compression))
    return io.TextIOWrapper(binary, encoding=name, newline="")


def header(file: DataFile, encoding: str, delimiter: str) -> list[str] | None:
    """The column names; None for a file without a single line."""
    with opened(file, encoding) as text:
        try:
            names = next(csv.reader(text, delimiter=delimiter), None)
        except csv.Error as error:
            raise Invalid(f"{file.name} is no CSV file: {error}.", field="dataset.path") from error
        except UnicodeError as error:
            raise undecodable(file, encoding) from error
    if not names:
        return None
    hint = "The first line must name the columns, each once, for example: text,label"
    for name, count in Counter(names).items():
        if not name.strip():
            raise Invalid(f"{file.name} has a column without a name in line 1.", field="dataset.path", hint=hint)
        if count > 1:
            raise Invalid(
                f"{file.name} has no header, or one that names {name[:80]!r} {count} times.",
                field="dataset.path",
                hint=hint,
            )
        if name.replace(".", "", 1).lstrip("-").isdigit():
            raise Invalid(
                f"{file.name} has no header: line 1 holds the number {name}.", field="dataset.path", hint=hint
            )
    return names


def _delimiter(file: DataFile, encoding: str) -> str:
    """A comma, unless the header has none but another usual delimiter (a semicolon where the comma is the decimal point)."""
    with opened(file, encoding) as text:
        try:
            line = text.readline(1 << 20)
        except UnicodeError as error:
            raise undecodable(file, encoding) from error
    if "," in line:
        return ","
    return next((candidate for candidate in (";", "\t", "|") if candidate in line), ",")


def _ragged(file: DataFile, encoding: str, delimiter: str, expected: int, error: Exception) -> Invalid:
    """Find the line that pyarrow could not read (its own row numbers are those of a block)."""
    hint = "Quote a text that holds the delimiter, a quote or a line break, as spreadsheets do on export."
    with opened(file, encoding) as text:
        reader = csv.reader(text, delimiter=delimiter)
        line = 1
        try:
            for row in reader:
                if row and len(row) != expected:
                    return Invalid(
                        f"{file.name}, line {line}: {len(row)} cells where the header has {expected}.",
                        field="dataset.path",
                        hint=hint,
                    )
                line = reader.line_num + 1
        except (csv.Error, UnicodeError) as problem:
            return Invalid(f"{file.name}, line {line}: {problem}.", field="dataset.path", hint=hint)
    return Invalid(f"{file.name} cannot be read as CSV: {error}.", field="dataset.path", hint=hint)


def undecodable(file: DataFile, encoding: str) -> Invalid:
    """The error for bytes that are not in the encoding said: where, and in which they may be."""
    with pa.input_stream(str(file.path), compression=file.compression) as stream:
        head = stream.read(4)
    guess: str | None = "utf-16"
    line = 1
    if head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        line, bad = _bad_line(file, encoding)
        guess = _guess(bad, encoding)
    return Invalid(
        f"{file.name}, line {line}: not {encoding}" + (f"; it looks like {guess}." if guess else "."),
        field="dataset.loader_kwargs.encoding",
        hint=f'Say so with "loader_kwargs": {{"encoding": "{guess or "cp1252"}"}}, or convert the file to utf-8.',
    )


def _bad_line(file: DataFile, encoding: str) -> tuple[int, bytes]:
    with io.BufferedReader(pa.input_stream(str(file.path), compression=file.compression)) as binary:
        line = 0
        for line, raw in enumerate(binary, 1):
            try:
                raw.decode(encoding)
            except UnicodeError:
                return line, raw
    return max(line, 1), b""


def _guess(raw: bytes, encoding: str) -> str | None:
    for candidate in ("utf-8", "cp1252", "latin-1"):
        if codecs.lookup(candidate).name == codecs.lookup(encoding).name:
            continue
        try:
            raw.decode(candidate)
        except UnicodeError:
            continue
        return candidate
    return None
