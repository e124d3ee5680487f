"""Which files of a path belong to which split, and in which format.

Splits follow the naming rules of the Hugging Face hub (docs: "Structure your repository"): a file or folder whose name holds
`train`, `test` or `validation` (or one of their usual synonyms) as a word of its own belongs to that split; when no name
says `train`, the files without a split are it.
"""

import io
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.runtimes.data import streams
from mlaas.runtimes.data.streams import Budget

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".text": "text",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "text", "arrow")
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORDS = {word: split for split, words in _KEYWORDS.items() for word in words}
_ORDER = {split: i for i, split in enumerate(_KEYWORDS)}
# Files that describe a folder and hold none of its rows.
_DESCRIPTIONS = {
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "requirements.txt",
    "license.txt",
    "readme.txt",
}


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows. `name` is its path inside the data set; `compression` is a codec's name in pyarrow or None. With a
    budget, reading stops with `streams.Enough` beyond it."""

    path: Path
    name: str
    split: str
    format: str
    compression: str | None = None
    budget: Budget | None = None

    def text(self, encoding: str) -> io.TextIOWrapper:
        """The content as text, decompressed."""
        return streams.text(streams.raw(self.path, self.compression, self.budget), encoding)

    def undecodable(self, encoding: str) -> Invalid:
        """The error for content that is not in this encoding: where, and in which it may be."""
        return streams.undecodable(self.path, self.name, self.compression, encoding)


def find(path: Path, format: str | None) -> list[DataFile]:
    """The files of a data set, ordered by split and name. Raises NotFound, and Invalid when nothing readable is there."""
    if not path.exists():
        raise NotFound(
            f"There is no data set at {path}.",
            field="dataset.path",
            hint="Check the path; relative paths start at the first local root.",
        )
    if format == "vector_store":
        raise Invalid(
            "A vector store holds no rows to read.",
            field="dataset.format",
            hint="Name a data set (csv, tsv, jsonl, json, parquet, text, arrow), or search the store with search_input.",
        )
    if path.is_file():
        kind, compression = _named(path.name)
        return [DataFile(path, path.name, "train", format or kind or _sniffed(path, compression), compression)]
    saved = _saved(path)
    if saved is not None:
        return saved
    return _folder(path, format)


def _named(name: str) -> tuple[str | None, str | None]:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    return (SUFFIXES.get(suffixes[-1]) if suffixes else None), compression


def _sniffed(path: Path, compression: str | None) -> str:
    """The format of a file whose name says nothing, from its first bytes."""
    with streams.raw(path, compression) as stream:
        head = stream.read(4096)
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return "arrow"
    if b"\x00" in head and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise Invalid(
            f"{path.name} is in no format that is known.",
            field="dataset.format",
            hint=f"Readable are {', '.join(FORMATS)}, also compressed with gzip or zstd.",
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] == b"[":
        return "json"
    if text[:1] == b"{":
        return "jsonl"
    line = head.split(b"\n", 1)[0]
    if b"\t" in line:
        return "tsv"
    return "csv" if b"," in line or b";" in line else "text"


def _saved(path: Path) -> list[DataFile] | None:
    """The Arrow files of a folder written by `datasets.save_to_disk`: `state.json` lists a split's files, in order;
    `dataset_dict.json` lists the splits, one folder each."""
    import orjson

    def one(folder: Path, split: str | None) -> list[DataFile]:
        try:
            state = orjson.loads((folder / "state.json").read_bytes())
            names = [str(entry["filename"]) for entry in state["_data_files"]]
            split = split or state.get("_split") or "train"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Invalid(
                f"{folder.name}/state.json is damaged: {error}.",
                field="dataset.path",
                hint="Save the data set again with datasets.save_to_disk.",
            ) from error
        files = []
        for name in names:
            file = folder / name
            if Path(name).name != name or not file.is_file():
                raise Invalid(
                    f"{folder.name}/state.json names {name}, which is not there.",
                    field="dataset.path",
                    hint="Copy the whole folder, or save it again with datasets.save_to_disk.",
                )
            files.append(DataFile(file, str(file.relative_to(path)), str(split), "arrow"))
        return files

    if (path / "dataset_dict.json").is_file():
        try:
            splits = orjson.loads((path / "dataset_dict.json").read_bytes())["splits"]
        except (ValueError, KeyError, TypeError) as error:
            raise Invalid(
                f"dataset_dict.json is damaged: {error}.",
                field="dataset.path",
                hint="Save the data set again with datasets.save_to_disk.",
            ) from error
        return [file for split in splits for file in one(path / Path(str(split)).name, str(split))]
    if (path / "state.json").is_file():
        return one(path, None)
    return None


def _folder(path: Path, format: str | None) -> list[DataFile]:
    found: list[tuple[Path, str, str | None]] = []
    ignored: list[str] = []
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        hidden = any(part.startswith((".", "__")) for part in relative.parts)
        if hidden or not file.is_file() or file.name.lower() in _DESCRIPTIONS:
            continue
        kind, compression = _named(file.name)
        if kind is None or (format is not None and kind != format):
            ignored.append(str(relative))
            continue
        found.append((file, kind, compression))
    counts = Counter(kind for _, kind, _ in found)
    if len(counts) > 1 and "text" in counts:
        del counts["text"]  # notes beside the data
    if not counts:
        listing = f": {', '.join(ignored[:10])}" if ignored else ""
        raise Invalid(
            f"The folder {path.name} holds no data file{f' in format {format}' if format else ''}{listing}.",
            field="dataset.path",
            hint=f"Readable are {', '.join(sorted(SUFFIXES))}, also with .gz or .zst.",
        )
    if len(counts) > 1:
        raise Invalid(
            f"The folder {path.name} holds files of several formats: {', '.join(sorted(counts))}.",
            field="dataset.format",
            hint="Say which to read with dataset.format, or name one file.",
        )
    kept = [
        DataFile(file, file.relative_to(path).as_posix(), split_of(file.relative_to(path)) or "", kind, compression)
        for file, kind, compression in found
        if kind in counts
    ]
    if any(file.split == "train" for file in kept):
        kept = [file for file in kept if file.split]
    else:
        kept = [replace(file, split=file.split or "train") for file in kept]
    return sorted(kept, key=lambda file: (_ORDER[file.split], file.name))


def split_of(name: Path) -> str | None:
    """The split that a path inside a data set names; the file's own name before its folders'."""
    for part in reversed(name.parts):
        for word in re.split(r"[-._ 0-9]+", part.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return None
