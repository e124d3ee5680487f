"""Inputs from a Hugging Face hub, kept in its own cache (HF_HOME), which other programs share."""

import os
from pathlib import Path

from mlaas.kernel.blobs import hub
from mlaas.kernel.blobs.uri import HubAddress
from mlaas.runtimes.taskfile import Input

WEIGHTS_OF_OTHERS = ["*.msgpack", "*.onnx", "*.ot", "*.tflite", "openvino/*", "onnx/*", "coreml/*"]


def fetch_hub(field: str, source: Input, ignore: list[str] | None = None) -> Path:
    """The folder of a repository at its commit; without the files that `ignore` says (patterns), of a model by default without
    the weights of frameworks that no recipe reads. Raises Invalid for what is not there or not allowed, Unavailable."""
    library = hub.require(field)
    address = HubAddress.parse(source.uri)
    if ignore is None and address.repo_type == "model":
        ignore = WEIGHTS_OF_OTHERS
    with hub.explained(address, field):
        folder = library.snapshot_download(
            address.repo,
            repo_type=address.repo_type,
            revision=address.revision,
            cache_dir=hub.cache_folder(),
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            token=os.environ.get("HF_TOKEN") or None,
            local_files_only=hub.offline(),
            ignore_patterns=ignore,
        )
    return Path(folder)
