"""Inputs from a Hugging Face hub, kept in its own cache (HF_HOME), which other programs share."""

import os
from pathlib import Path

from mlaas.kernel.blobs.uri import HubAddress
from mlaas.kernel.errors import Invalid, Unavailable
from mlaas.runtimes.taskfile import Input

_WEIGHTS_OF_OTHERS = ["*.msgpack", "*.onnx", "*.ot", "*.tflite", "openvino/*", "onnx/*", "coreml/*"]


def fetch_hub(field: str, source: Input) -> Path:
    """The folder of a repository at its commit. HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are read now, not
    when huggingface_hub was imported (a forked child has it from its parent)."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise Invalid(
            "Content of a hub needs the package huggingface-hub.", field=field, hint="Install mlaas[torch]."
        ) from None
    address = HubAddress.parse(source.uri)
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    try:
        return Path(
            snapshot_download(
                address.repo,
                repo_type=address.repo_type,
                revision=address.revision,
                cache_dir=hub_cache(),
                endpoint=os.environ.get("HF_ENDPOINT") or None,
                token=os.environ.get("HF_TOKEN") or None,
                local_files_only=offline,
                ignore_patterns=_WEIGHTS_OF_OTHERS if address.repo_type == "model" else None,
            )
        )
    except GatedRepoError:
        raise Invalid(
            f"{address.repo} is gated on the hub.", field=field, hint="Accept its terms there, and set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        hint = "Check the name; a private repository needs HF_TOKEN."
        raise Invalid(f"The hub has no repository '{address.repo}'.", field=field, hint=hint) from None
    except LocalEntryNotFoundError:
        where = (
            "is not in the local hub cache, and HF_HUB_OFFLINE is set"
            if offline
            else "could not be fetched: no connection to the hub"
        )
        raise Unavailable(f"{address} {where}.", field=field) from None
    except (HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise Unavailable(f"The hub does not answer for {address}: {str(error)[:200]}", field=field) from None


def hub_cache() -> Path:
    """HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"
