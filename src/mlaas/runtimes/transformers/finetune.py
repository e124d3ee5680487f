"""Recipe `finetune`: train a model on a data set, and save it as a complete folder."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.commit import check_target, commit
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.data.roles import check_weights
from mlaas.runtimes.report import Reporter
from mlaas.runtimes.taskfile import CHECKPOINTS, OUTPUT, TaskFile
from mlaas.runtimes.transformers.spec import FinetuneParams, ModelTrain

FIELD = "model_save"


def main(task: TaskFile) -> dict[str, Any]:
    """The result of a training: `{history, evaluation, dataset, output, warnings, training}`, as `taskfile.py` says.

    `history` has one value an epoch: `loss` and `accuracy` in training, `test_loss` and so on after it. The weights that are
    saved, and the `evaluation`, are those of the best epoch. Raises Invalid, Exists, Full; Interrupted after a checkpoint.
    """
    done = check_target(task, FIELD)
    if done is not None:
        return _committed(task, done)
    started = time.monotonic()
    params = FinetuneParams.model_validate(task.params)
    train = params.model_train

    import torch

    from mlaas.runtimes import model_folder
    from mlaas.runtimes.transformers import folder, precision
    from mlaas.runtimes.transformers.objectives import named
    from mlaas.runtimes.transformers.training import Training
    from mlaas.runtimes.transformers.weights import Trainable

    torch.set_num_threads(max(1, round(task.cores)))
    objective = named(params.model.objective)(train)
    source = fetch(task, "model")
    words = fetch(task, "tokenizer") if params.tokenizer is not None else source
    config = model_folder.check_model(source, objective.name, shown=params.model.path)
    head = model_folder.head_labels(config, objective.name)
    data = _prepared(task, params, objective, source, words, head)
    device = precision.device()
    compute = precision.compute_type(train.precision, device)
    torch.manual_seed(train.seed)
    model, said, fresh = folder.load(source, objective, data.facts["labels"])
    if model.config.pad_token_id is None:
        model.config.pad_token_id = data.padding
    part = Trainable(model, objective, train, compute, device, data.folder / "used.npy", fresh)
    objective.bind(data.facts, source, _class_weights(train, data.facts, device))
    key = hashlib.sha256(
        json.dumps([data.folder.name, train.model_dump(mode="json"), folder.digest(source, ["config.json"]),
                    task.inputs["model"].hash, str(compute)]).encode()
    ).hexdigest()  # fmt: skip
    with Reporter() as reporter:
        run = Training(
            part, objective, data, train,
            key=key, checkpoints=Path(CHECKPOINTS), reporter=reporter, device=device,
        )  # fmt: skip
        begun = time.monotonic()
        run.run()
        seconds = time.monotonic() - begun
    record: dict[str, Any] = {
        "history": run.history,
        "evaluation": run.best["evaluation"],
        "dataset": {name: data.facts[name] for name in ("samples_train", "samples_test", "tokens")},
        "training": {
            "best_epoch": run.best["epoch"] + 1,
            "epochs": run.epoch,
            "steps": run.step,
            "resumed_at_step": run.resumed,
            "precision": "bf16" if compute == torch.bfloat16 else "fp32",
            "seconds": round(seconds, 3),
            "seconds_to_first_step": round(begun - started, 3),
            "first_step": round(run.first_step, 3),
            "samples_per_second": round(
                data.facts["samples_train"] * run.epoch * (1 - run.resumed / max(1, run.step)) / max(seconds, 1e-9), 1
            ),
        },
        "warnings": data.facts["warnings"] + said,
    }
    whole = part.whole()
    tokens = folder.tokenizer(words, "tokenizer" if params.tokenizer is not None else "model")
    written = {**record, "parameters": params.model_dump(mode="json", by_alias=True), "task": task.uid}
    output = commit(task, FIELD, lambda target: folder.save(target, whole, tokens, written, source))
    return {**record, "output": output}


def _prepared(task: TaskFile, params: FinetuneParams, objective: Any, source: Path, words: Path, head: Any) -> Any:
    """The tokens of the data set: from the cache where they are, else made."""
    from mlaas.runtimes.transformers import folder, prepare

    cache = Path(task.cache or "cache")
    given = task.inputs.get("dataset")
    content = given.hash if given is not None else ""
    path = None
    if not content:
        path = fetch(task, "dataset")
        content = _stamp(path)
    key = prepare.key(params.dataset, content, folder.tokenizer_digest(words), objective, head)
    target = cache / "tokens" / key
    if target.is_dir():
        os.utime(target)  # used now: what is cleared from a cache is what was not
        return prepare.opened(target)
    from transformers import AutoConfig

    from mlaas.runtimes.data.read import load

    tables = load(path or fetch(task, "dataset"), params.dataset, cache)
    tokens = folder.tokenizer(words, "tokenizer" if params.tokenizer is not None else "model")
    with folder.quiet():
        config = AutoConfig.from_pretrained(str(source), local_files_only=True)
    return prepare.build(tables, params.dataset, objective, tokens, config, head, target)


def _stamp(path: Path) -> str:
    """What stands for the content of an input that came without a hash."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return json.dumps([[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()])


def _class_weights(train: ModelTrain, facts: dict[str, Any], device: Any) -> Any:
    """The weight of each class in the loss; `balanced` is rows / (classes * rows of the class)."""
    import torch

    if train.class_weights is None:
        return None
    names = facts["labels"]
    if not names:
        raise Invalid(
            "Only labels can be weighted.", field="model_train.class_weights", hint="Leave class_weights out."
        )
    if train.class_weights == "balanced":
        counts = facts.get("counts") or [1] * len(names)
        values = [sum(counts) / (len(counts) * count) if count else 0.0 for count in counts]
    else:
        check_weights(train.class_weights, names)
        values = [train.class_weights.get(name, 1.0) for name in names]
    return torch.tensor(values, dtype=torch.float32, device=device)


def _committed(task: TaskFile, done: dict[str, str]) -> dict[str, Any]:
    """The result of an attempt that committed its output and died before it could say so."""
    uri = task.outputs.get(FIELD, "")
    path = Path(uri.removeprefix("file://")) if uri.startswith("file://") else Path(OUTPUT)
    try:
        record = json.loads((path / "training.json").read_text())
    except OSError:
        record = {}
    return {**{k: v for k, v in record.items() if k not in ("parameters", "task")}, "output": done}
