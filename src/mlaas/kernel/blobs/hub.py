"""A Hugging Face hub by its conventional variables: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE. They are read
at each call, not when huggingface_hub was imported."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlaas.kernel.blobs.uri import HubAddress
from mlaas.kernel.errors import Invalid, Unavailable

COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,95})?")
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")


def cache_folder() -> Path:
    """HF_HUB_CACHE, else HF_HOME/hub, else huggingface/hub in the user's cache folder."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"


def offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def parse(path: str, repo_type: str, field: str | None = None) -> HubAddress:
    """Of `org/name`, `org/name@revision` or `hf://...`. Raises Invalid for what is no repository id."""
    text = path if path.startswith("hf://") else f"hf://{'datasets/' if repo_type == 'dataset' else ''}{path}"
    address = HubAddress.parse(text)
    if not _NAME.fullmatch(address.repo) or not _REVISION.fullmatch(address.revision):
        hint = "Write org/name, or org/name@revision."
        raise Invalid(f"'{path[:200]}' is no repository of a hub.", field=field, hint=hint)
    return address


def commit_of(address: HubAddress, field: str | None = None) -> str:
    """The commit that the revision is now: by the hub, or by the local cache when offline or when the hub does not answer.
    Raises Invalid when there is no such repository or revision, Unavailable when nobody can tell."""
    known = cached_commit(address)
    if offline():
        if known is None:
            hint = "Download it first, or unset HF_HUB_OFFLINE."
            raise Invalid(
                f"{address} is not in the local hub cache, and HF_HUB_OFFLINE is set.", field=field, hint=hint
            )
        return known
    if known == address.revision:
        return known
    library = require(field)
    api = library.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or None)
    try:
        with explained(address, field):
            info = api.repo_info(address.repo, repo_type=address.repo_type, revision=address.revision, timeout=15)
            return str(info.sha)
    except Unavailable:
        if known is None:
            raise
        return known


def cached_commit(address: HubAddress) -> str | None:
    """The commit of a revision as the local cache has it: its `refs/`, or the commit itself when its snapshot is there."""
    if COMMIT.fullmatch(address.revision):
        return address.revision if snapshot(address).is_dir() else None
    try:
        commit = (_folder(address) / "refs" / address.revision).read_text().strip()
    except OSError:
        return None
    return commit if COMMIT.fullmatch(commit) else None


def remember(address: HubAddress, commit: str) -> None:
    """Note in the local cache which commit a branch or a tag was, as the library does that downloads by its name."""
    if address.revision != commit:
        reference = _folder(address) / "refs" / address.revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        partial = reference.with_name(f"{reference.name}.{os.getpid()}")
        partial.write_text(commit)
        partial.replace(reference)


def snapshot(address: HubAddress) -> Path:
    """Where the local cache has, or would have, the files of a commit."""
    return _folder(address) / "snapshots" / address.revision


def _folder(address: HubAddress) -> Path:
    return cache_folder() / f"{address.repo_type}s--{address.repo.replace('/', '--')}"


def files(address: HubAddress, field: str | None = None) -> list[str]:
    """The names of a repository's files, asked of the hub. Raises Invalid and Unavailable as `explained` says."""
    api = require(field).HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or None)
    with explained(address, field):
        info = api.repo_info(address.repo, repo_type=address.repo_type, revision=address.revision, timeout=15)
    return [each.rfilename for each in info.siblings or ()]


def require(field: str | None = None) -> Any:
    """The package huggingface_hub. Raises Invalid when it is not installed."""
    try:
        import huggingface_hub
    except ImportError:
        hint = "Install mlaas[torch]."
        raise Invalid("Content of a hub needs the package huggingface-hub.", field=field, hint=hint) from None
    return huggingface_hub


@contextmanager
def explained(address: HubAddress, field: str | None = None) -> Iterator[None]:
    """Errors of huggingface_hub in our words: Invalid for what is not there or not allowed, Unavailable for the rest."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        hint = "Accept its terms on the hub, and set HF_TOKEN where this runs."
        raise Invalid(f"{address.repo} is gated.", field=field, hint=hint) from None
    except errors.RepositoryNotFoundError:
        hint = "Check the name; a private repository needs HF_TOKEN."
        raise Invalid(f"The hub has no {address.repo_type} '{address.repo}'.", field=field, hint=hint) from None
    except errors.RevisionNotFoundError:
        raise Invalid(f"{address.repo} has no revision '{address.revision}'.", field=field) from None
    except errors.LocalEntryNotFoundError:
        if offline():
            why = "it is not in the local hub cache, and HF_HUB_OFFLINE is set"
        else:
            why = "it is not in the local hub cache, and the hub does not answer"
        raise Unavailable(f"{address} could not be fetched: {why}.", field=field) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise Unavailable(f"The hub does not answer for {address}: {_short(error)}", field=field) from None
    except Exception as error:
        # the HTTP library's own errors of a connection; which library depends on the version
        if type(error).__module__.split(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise Unavailable(f"The hub does not answer for {address}: {_short(error)}", field=field) from None
        raise


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
