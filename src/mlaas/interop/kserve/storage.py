"""Where KServe's models lie, as references of ours."""

import re

from mlaas.interop.block import Block
from mlaas.interop.foreign import Notes

_READ = ("file", "pvc", "s3", "hf")
_ELSEWHERE = {
    "gs": "Google Cloud Storage",
    "hdfs": "HDFS",
    "webhdfs": "WebHDFS",
    "oci": "images of models",
    "modelscope": "ModelScope",
    "git": "git",
    "http": "archives over HTTP",
    "https": "archives and Azure over HTTPS",
}


def reference(uri: str, where: str, notes: Notes) -> str:
    """The reference of a `storageUri`. Beside KServe's URIs a plain path, `task:NAME` and a catalog name pass as they are."""
    scheme, colon, rest = uri.partition("://")
    if not colon:
        return uri
    if scheme == "hf":
        return _hub(rest, where, notes)
    if scheme in _READ:
        return uri
    said = f" ({_ELSEWHERE[scheme]})" if scheme in _ELSEWHERE else ""
    notes.refuse(
        where,
        f"'{scheme}://'{said} is not read here",
        "Copy the model to a folder (file://), a claim (pvc://), S3 (s3://), or name a repository of the hub (hf://).",
    )
    return ""


def _hub(rest: str, where: str, notes: Notes) -> str:
    """KServe writes a revision after a colon, references here after an `@`."""
    match = re.fullmatch(r"([^/@:]+(?:/[^/@:]+)?)(?:[:@](.+))?", rest)
    if match is None:
        notes.refuse(where, f"'hf://{rest[:200]}' is no repository", "Write hf://ORG/NAME or hf://ORG/NAME:REVISION.")
        return ""
    return f"hf://{match[1]}" + (f"@{match[2]}" if match[2] else "")


def source(block: Block) -> str:
    """The reference that the fields `storageUri` and `storage` of a block name; empty where they name none."""
    uri, where = block.text("storageUri"), block.at("storageUri")
    storage = block.block("storage")
    if uri:
        for key in ("key", "path", "parameters", "schemaPath"):
            if key in storage:
                block.notes.warn(storage.at(key), "not used: storageUri says where the model is")
                storage.raw(key)
        storage.end()
        return reference(uri, where, block.notes)
    if not storage:
        return ""
    parameters, path = storage.mapping("parameters"), storage.text("path")
    storage.unused("the platform's own credentials are used", "key")
    storage.unused("the signature is read from the model itself", "schemaPath")
    storage.end()
    bucket, kind = parameters.get("bucket", ""), parameters.get("type", "s3")
    if kind == "s3" and path:
        return f"s3://{bucket}/{path.strip('/')}" if bucket else path.strip("/")
    block.notes.refuse(storage.path, f"storage of type '{kind}' is not read here", "Write storageUri: s3://BUCKET/KEY.")
    return ""


def shown(model: str) -> str:
    """A reference of ours as a `storageUri`."""
    if model.startswith("hf://"):
        return "hf://" + model.removeprefix("hf://").replace("@", ":", 1)
    if model.startswith("/"):
        return f"file://{model}"
    return model
