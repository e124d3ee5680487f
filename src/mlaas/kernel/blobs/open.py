"""A blob store by its uri."""

import os
from pathlib import Path

from mlaas.kernel.blobs.base import Blobs
from mlaas.kernel.blobs.uri import file_path, scheme
from mlaas.kernel.errors import Invalid


def open_blobs(uri: str, token_file: str | Path | None = None) -> Blobs:
    """`file:///folder` (or a plain path), `s3://bucket/prefix`, or `http(s)://platform/api/v1/projects/{project}/blobs`; the
    last with the bearer token that `token_file` holds (default: the file named by MLAAS_TOKEN_FILE, then by
    KUBEFLOW_TRAINER_SERVER_TOKEN)."""
    kind = scheme(uri) if ":" in uri else "file"
    if kind == "file":
        from mlaas.kernel.blobs.objects import FolderBlobs

        return FolderBlobs(file_path(uri))
    if kind == "s3":
        from mlaas.kernel.blobs.objects import S3Blobs

        return S3Blobs(uri)
    if kind in ("http", "https"):
        from mlaas.kernel.blobs.platform import PlatformBlobs

        file = token_file or os.environ.get("MLAAS_TOKEN_FILE") or os.environ.get("KUBEFLOW_TRAINER_SERVER_TOKEN")
        return PlatformBlobs(uri, file)
    raise Invalid(
        f"'{uri}' is no address of a blob store.", hint="Use file:///folder, s3://bucket/prefix or http(s)://..."
    )
