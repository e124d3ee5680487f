"""The uris that say where content is: file:///..., s3://bucket/key, hf://[datasets/]repo@commit, blobs:HASH."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from mlaas.kernel.errors import Invalid

HASH = re.compile(r"[0-9a-f]{64}")


def scheme(uri: str) -> str:
    """`file`, `s3`, `hf`, `blobs`, ...: what stands before the first colon."""
    return uri.partition(":")[0]


def file_uri(path: Path) -> str:
    return "file://" + quote(str(path.absolute()))


def file_path(uri: str) -> Path:
    """The path of a file uri; a plain path is taken as it is."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key. Raises Invalid when either is missing."""
    match = re.fullmatch(r"s3://([^/]+)/+(.*)", uri, re.DOTALL)
    if not match or not match[2].strip("/"):
        raise Invalid(f"'{uri}' is no S3 address.", hint="Write s3://bucket/key.")
    return match[1], match[2].strip("/")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository of a Hugging Face hub at a revision (a commit once it is resolved)."""

    repo: str
    revision: str
    repo_type: str = "model"

    @classmethod
    def parse(cls, uri: str) -> "HubAddress":
        """Of `hf://org/name@revision` (a model) or `hf://datasets/org/name@revision`."""
        rest = uri.removeprefix("hf://")
        rest, _, revision = rest.partition("@")
        if rest.startswith("datasets/"):
            return cls(rest.removeprefix("datasets/"), revision or "main", "dataset")
        return cls(rest.removeprefix("models/"), revision or "main")

    def __str__(self) -> str:
        return f"hf://{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo}@{self.revision}"
