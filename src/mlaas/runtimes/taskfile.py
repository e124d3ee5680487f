"""What a recipe is handed and what it hands back: the contract between the platform and the code in the child.

A recipe is a module with `main(task: TaskFile) -> dict`. It runs as `python -m mlaas.runtimes.child MODULE`, or forked from
the warm server, in its working folder, with these environment variables:

    MLAAS_TASK_FILE                  the JSON of `TaskFile`
    MLAAS_CREDENTIALS_FILE           JSON {variable: value} of AWS_* and HF_*, mode 0600; trusted recipes only
    KUBEFLOW_TRAINER_SERVER_URL      where to post reports (`mlaas.runtimes.report`)
    KUBEFLOW_TRAINER_SERVER_TOKEN    a *file* that holds the bearer token

It ends by returning its result, which is written to `result.json` in the working folder as `{"result": {...}}`; or by raising
`mlaas.kernel.errors.Error`, written as `{"error": {code, message, hint, field}}` with exit code 1 (`FAILED`; not retried: the
same input fails again). Any other exception is `{"error": {"code": "internal", ...}}` with exit code 70, the stack trace in the
log. After SIGTERM a recipe saves a checkpoint and raises `Interrupted`: exit code 75 (EX_TEMPFAIL of sysexits.h).

Folders, all relative to the working folder: `checkpoints/` survives from attempt to attempt; `output/` is what the platform
keeps in blobs when the task names no save target. Checkpoints and outputs are written aside and renamed. How far checkpoints
go is the highest number at the end of a name in `checkpoints/` (`step-120`), or without one the bytes that they take: a task
that is interrupted again and again is given up only when neither this nor its reports show progress.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAILED = 1
CRASHED = 70
INTERRUPTED = 75
RESULT = "result.json"
LARGEST_RESULT = 256 << 20
"""Bytes of JSON: what is answered is held in memory by the platform, and by whoever asks for it."""
CHECKPOINTS = "checkpoints"
OUTPUT = "output"


class Interrupted(Exception):
    """Stopped by SIGTERM with everything saved: a later attempt goes on from here."""


@dataclass(frozen=True, slots=True)
class Input:
    """One thing a task reads, resolved: `uri` is file:///..., s3://bucket/key, hf://repo@commit or blobs:HASH."""

    uri: str
    hash: str = ""


@dataclass(frozen=True, slots=True)
class TaskFile:
    """`params` is the validated spec of the recipe (`mlaas.runtimes.*.spec`); `inputs` and `outputs` are keyed by its fields.

    `outputs` maps a field (`model_save`, `vector_store_save`) to a uri, file:///... or s3://...; a field that is not there
    goes to `output/`. `cache` is a folder that outlives the task, `blobs` the uri of the blob store.
    """

    uid: str
    name: str
    project: str
    attempt: int
    recipe: str
    params: dict[str, Any]
    inputs: dict[str, Input] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    cache: str = ""
    blobs: str = ""
    cores: float = 1.0

    @classmethod
    def load(cls, path: str | Path | None = None) -> "TaskFile":
        document = json.loads(Path(path or os.environ["MLAAS_TASK_FILE"]).read_text())
        inputs = {key: Input(**value) for key, value in document.pop("inputs", {}).items()}
        return cls(inputs=inputs, **document)

    def dump(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "name": self.name,
            "project": self.project,
            "attempt": self.attempt,
            "recipe": self.recipe,
            "params": self.params,
            "inputs": {key: {"uri": value.uri, "hash": value.hash} for key, value in self.inputs.items()},
            "outputs": self.outputs,
            "cache": self.cache,
            "blobs": self.blobs,
            "cores": self.cores,
        }
