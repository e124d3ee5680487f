"""From strings to a model that answers: the whole way through the platform, over HTTP with curl.

    python examples/affiliations/demo.py [--keep] [--out DIR]        (or `make demo KEEP=1 OUT=DIR`)

Starts a platform on a temporary folder, generates 12,000 affiliation strings, measures how fast this machine trains, trains
for about five minutes on an enlarged set, and asks the model and a vector index. `--keep` leaves the platform running,
`--out DIR` leaves the model in DIR/model. The exit code is 0 only when every step succeeded.
"""

import argparse
import csv
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.affiliations.generate import generate, read
from examples.affiliations.model import base_model
from examples.local_platform import Platform, Refused

HERE = Path(__file__).parent
SECONDS = 300  # of training
SIZES = 30_000, 60_000
QUERIES = ("Gran Sasso underground laboratory, Assergi", "Frascati ENEA fusion", "Sapienza, Rome, INFN section")


def say(text: str = "") -> None:
    print(text, flush=True)


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows(rows)


def training(base: Path, dataset: str, *, epochs: int, warm: int, size: int | None, save: str) -> dict[str, Any]:
    """The body of a training as the institute writes it."""
    enlarge = {"augment": {"size": size, "seed": 1}} if size else {}
    return {
        "model": {"path": str(base), "storage_type": "local", "objective": "text-classification"},
        "tokenizer": {"path": str(base), "storage_type": "local"},
        "dataset": {"path": dataset, "storage_type": "local", "train_test_split": 0.1, **enlarge},
        "model_train": {
            "epochs": epochs,
            "batch_size": 32,
            "optimizer": {"name": "AdamW", "init_lr": 1e-4, "num_warm_steps": warm, "weight_decay_rate": 0.01},
            # The encoder has no head for 26 labels: at the encoder's rate a new one takes hundreds of steps to tell any apart.
            "head_rate": 10,
        },
        "model_save": {"path": save, "storage_type": "local"},
    }


def watch(platform: Platform, body: dict[str, Any]) -> dict[str, Any]:
    """Run a task under a line of progress; its answer, with the last progress seen."""
    terminal = sys.stdout.isatty()
    printed = time.monotonic() if not terminal else 0.0
    progress: dict[str, Any] = {}
    answer: dict[str, Any] = {}
    for answer in platform.follow(body):
        progress = answer.get("progress") or progress
        metrics = progress.get("metrics") or {}
        line = f"  {answer['task_status']:<9} {progress.get('percentage') or 0:>3.0f}%"
        if "loss" in metrics:
            line += f"  loss {float(metrics['loss']):.3f}"
        if "samples_per_second" in metrics:
            line += f"  {float(metrics['samples_per_second']):.0f} samples/s"
        left = progress.get("remaining_seconds")
        if left is not None:
            line += f"  {int(left) // 60}:{int(left) % 60:02} left"
        if terminal:
            print(f"\r{line:<70}", end="", flush=True)
        elif time.monotonic() - printed >= 15:
            printed = time.monotonic()
            say(line)
    if terminal:
        print()
    return {**answer, "progress": progress}


def plan(platform: Platform, base: Path, rows: list[tuple[str, str]]) -> tuple[int, int]:
    """How many rows to train on, and how often, in about `SECONDS`, by the speed of a short training."""
    write(platform.work / "probe.csv", rows[:3000])
    probe = watch(platform, training(base, "probe.csv", epochs=1, warm=10, size=None, save="probe"))
    metrics = probe["progress"].get("metrics") or {}
    speed = float(metrics.get("samples_per_second") or SIZES[0] / SECONDS)
    samples = speed * SECONDS
    epochs = 2 if samples > 1.6 * SIZES[0] else 1
    size = round(min(max(samples / epochs, SIZES[0]), SIZES[1]), -3)
    say(f"This machine trains on about {speed:.0f} strings a second.")
    return int(size), epochs


def predict(platform: Platform, model: str, texts: list[str]) -> list[dict[str, Any]]:
    body = {
        "model": {"path": model, "storage_type": "local", "objective": "text-classification"},
        "predict_input": {"input_text": texts},
    }
    predictions: list[dict[str, Any]] = platform.run(body)["predictions"]
    return predictions


def measure(platform: Platform, model: str) -> None:
    """The two held-out files: the share of the hand-written strings that is right, and the thirteen one by one."""
    handwritten = read(HERE / "handwritten.tsv")
    found = predict(platform, model, [text for text, _ in handwritten])
    right = sum(p["label"] == label for p, (_, label) in zip(found, handwritten, strict=True))
    say(f"handwritten: {100 * right / len(handwritten):.1f}%")
    thirteen = read(HERE / "thirteen.tsv")
    found = predict(platform, model, [text for text, _ in thirteen])
    say(f"\n{'expected':<10}{'predicted':<10}{'score':>6}  affiliation")
    for (text, label), p in zip(thirteen, found, strict=True):
        say(f"{label:<10}{p['label']:<10}{p['score']:>6.2f}  {text}{'' if p['label'] == label else '   <- differs'}")
    right = sum(p["label"] == label for p, (_, label) in zip(found, thirteen, strict=True))
    say(f"{right} of {len(thirteen)} as expected.\n")


def search(platform: Platform, base: Path, rows: list[tuple[str, str]]) -> None:
    """A vector index over 2,000 strings, with the label of each as metadata."""
    write(platform.work / "documents.csv", rows[:2000])
    encoder = {"path": str(base), "storage_type": "local", "objective": "no-objective"}
    columns = {"page_content_column": "text"}
    source = {"path": "documents.csv", "storage_type": "local", "loader_kwargs": columns}
    target = {"path": "index", "format": "vector_store", "storage_type": "local"}
    answer = platform.run({"model": encoder, "dataset": source, "vector_store_save": target})
    say(f"Indexed {answer['index']['vectors']:,} strings.")
    question = {"input_text": list(QUERIES), "k": 3}
    for query, hits in zip(
        QUERIES, platform.run({"model": encoder, "dataset": target, "search_input": question})["results"], strict=True
    ):
        say(f"  {query}")
        for hit in hits:
            say(f"    {hit['score']:.2f}  {hit['metadata'].get('label', ''):<9} {hit['content']}")


def demo(platform: Platform, model: str, strings: int, size: int | None, epochs: int) -> None:
    base = base_model()
    platform.wait_ready()
    say(f"The platform is ready at {platform.url}.")
    rows = generate(strings // 2, strings - strings // 2)
    write(platform.work / "affiliations.csv", rows)
    say(f"Generated {len(rows):,} strings.")
    if size is None:
        say("A short training measures the machine:")
        size, epochs = plan(platform, base, rows)
    say(
        f"Training on {size:,} strings, enlarged from 90% of them, {'once' if epochs == 1 else f'{epochs} times'} over:"
    )
    steps = size * epochs // 32
    body = training(base, "affiliations.csv", epochs=epochs, warm=steps // 10, size=size, save=model)
    answer = watch(platform, body)
    counts = answer["dataset"]
    say(
        f"Trained on {counts['samples_train']:,} strings, tested on {counts['samples_test']:,} that nothing was made of."
    )
    say(f"test accuracy: {100 * answer['evaluation']['accuracy']:.1f}%")
    measure(platform, model)
    search(platform, base, rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="The affiliation use case, from strings to answers.")
    parser.add_argument("--keep", action="store_true", default=os.environ.get("KEEP", "") not in ("", "0"))
    parser.add_argument("--out", type=Path, metavar="DIR", default=os.environ.get("OUT") or None)
    parser.add_argument("--strings", type=int, default=12_000, metavar="N", help="generate so many")
    parser.add_argument("--size", type=int, metavar="ROWS", help="train on so many rows instead of for five minutes")
    parser.add_argument("--epochs", type=int, default=1, help="how often, with --size")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminated)
    keep, out = options.keep, options.out and options.out.resolve()
    if out is not None and (out / "model").exists():
        say(f"{out / 'model'} is there already: remove it or name another folder.")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="mlaas-demo-"))
    work = folder / "work"
    for path in (work, out):
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    model = str(out / "model") if out else "model"
    platform = Platform(folder, roots=[work, out] if out else [work])
    done = False
    try:
        demo(platform, model, options.strings, options.size, options.epochs)
        done = True
        say()
        _where(platform, work / model, keep=keep)
    except (Refused, FileNotFoundError) as e:
        say(f"\n{e}")
    except KeyboardInterrupt:
        say("\nInterrupted.")
    finally:
        if not (keep and done):
            platform.stop()
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if done else 1


def _where(platform: Platform, model: Path, *, keep: bool) -> None:
    if keep:
        say(f"The platform goes on at {platform.url}; stop it with: kill {platform.process.pid}")
        say(f"Token   {platform.data / 'admin-token'}")
        say(f"Model   {model}")
        say(f"Index   {platform.work / 'index'}")
        say(f"Strings {platform.work / 'affiliations.csv'}")
    elif model.is_relative_to(platform.folder):
        say(
            f"Everything was in {platform.folder}, which goes now. --keep keeps it and the platform, --out DIR the model."
        )
    else:
        say(f"The model is in {model}. All else was in {platform.folder}, which goes now; --keep keeps it.")


def _terminated(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
