"""Mark and sweep: blobs that nothing refers to go."""

from collections.abc import Iterable

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.tree import is_tree, read_manifest
from mlaas.kernel.errors import Invalid, NotFound


def marked(blobs: Blobs, references: Iterable[str]) -> set[str]:
    """The hashes that must stay: those referred to, and all files of the trees among them."""
    stay: set[str] = set()
    for digest in references:
        if digest in stay:
            continue
        stay.add(digest)
        try:
            if is_tree(blobs, digest):
                stay.update(entry.hash for entry in read_manifest(blobs, digest))
        except (NotFound, Invalid):  # gone, or a file that only begins like a manifest
            continue
    return stay


def sweep(blobs: Blobs, references: Iterable[str], older_than: float) -> int:
    """Remove what is not referred to and was not put after `older_than` (seconds since the epoch); how many blobs went.

    It cannot race a commit, if `older_than` lies before the references were read by more than a commit takes (an hour is
    plenty): a commit puts its files, then its tree, then records the reference. Every put renews the blob's time, also of one
    that was there, and a delete is refused for what was renewed.
    """
    stay = marked(blobs, references)
    candidates = [digest for digest, put, _ in blobs.list() if digest not in stay and put <= older_than]
    return sum(blobs.delete(digest, older_than=older_than) for digest in candidates)
