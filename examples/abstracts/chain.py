"""The institute's chain on a platform: tune an encoder on abstracts, index them with it, find an abstract's project.

    python examples/abstracts/chain.py [--documents 1000] [--queries 200] [--model DIR]

Uses the platform of MLAAS_URL (and MLAAS_TOKEN), or starts one of its own on a temporary folder. Each step is a task, submitted
with the SDK; a later step names what an earlier one left as `task:NAME`:

1. the untuned model: a vector store of the documents, and recall@1;
2. masked-lm at 10% on the documents; the result loaded as no-objective: a store and recall@1;
3. contrastive training (`no-objective`) of that result, texts of one project pulled together: a store and recall@1.

Recall@1 is the share of held-back abstracts whose nearest document is of their own project.

What to expect: with the base model used here, step 2 makes the search *worse* (0.72 falls to between 0.65 and 0.67 with 1,000
documents, at rates from 1e-5 to 2e-5 and with LoRA alike), and step 3 makes it better (0.88, with or without step 2 before it).
The model, MiniLM, was trained by contrast on a thousand million pairs to be an encoder of sentences, and its masked-lm head was
thrown away: masked-lm starts with a new head, whose gradients disturb that training, and the few documents teach little in
return. Masked-lm first is for models that only ever were masked language models, a plain BERT or Longformer for example
(`--model DIR`), on many abstracts: the institute takes 60,000, ten times over.
"""

import argparse
import contextlib
import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.abstracts.generate import write
from examples.affiliations.model import base_model
from examples.local_platform import Platform, Refused

from mlaas.client import ApiError, Client, TaskFailed

HANDWRITTEN = {
    "The black hole images obtained with the Event Horizon Telescope constrain alternatives to general relativity.": (
        "CSN4/Teongrav"
    ),
    "We investigate the density distributions acquired by a Bose gas flowing across an analogue horizon.": "CSN2/Fish",
}


class Chain:
    """The steps on one set of `documents` (CSV with abstract and project), measured by `queries` that are held back."""

    def __init__(self, client: Client, documents: Path, queries: Path) -> None:
        self.client = client
        self.documents = {"path": str(documents), "storage_type": "local"}
        with queries.open(newline="", encoding="utf-8") as file:
            self.queries = [(row["abstract"], row["project"]) for row in csv.DictReader(file)]

    def recall(self, when: str, model: str) -> float:
        """Build a store with this model, search it for each held-back abstract; prints and gives recall@1."""
        encoder = {"path": model, "objective": "no-objective"}
        columns = {"loader_kwargs": {"page_content_column": "abstract"}}
        store = self._end(self.client.index(encoder, {**self.documents, **columns}))
        texts = [text for text, _ in self.queries] + list(HANDWRITTEN)
        found = self.client.search(encoder, {"path": f"task:{store}", "format": "vector_store"}, texts, k=1)
        projects = [hits[0]["metadata"]["project"] for hits in found]
        right = sum(answer == own for answer, (_, own) in zip(projects, self.queries, strict=False))
        share = right / len(self.queries)
        print(f"recall@1 {when}: {share:.3f}", flush=True)
        for (text, own), answer in zip(HANDWRITTEN.items(), projects[len(self.queries) :], strict=True):
            print(f"  {text[:48]}... -> {answer} (from {own})", flush=True)
        return share

    def masked(self, model: str, *, epochs: int) -> str:
        """Tune on masked tokens; where the result is."""
        name = self._train(
            {"path": model, "objective": "masked-lm"},
            {"text_column": "abstract"},
            {"epochs": epochs, "mlm_probability": 0.1},
            rate=1e-5,
        )
        return f"task:{name}"

    def contrast(self, model: str, *, epochs: int, rate: float) -> str:
        """Tune so that abstracts of one project are near to each other; where the result is."""
        name = self._train(
            {"path": model, "objective": "no-objective"},
            {"text_column": "abstract", "label_column": "project"},
            {"epochs": epochs},
            rate=rate,
        )
        return f"task:{name}"

    def _train(self, model: dict[str, Any], columns: dict[str, Any], train: dict[str, Any], *, rate: float) -> str:
        optimizer = {"name": "AdamW", "init_lr": rate, "num_warm_steps": 10, "weight_decay_rate": 0.01}
        dataset = {**self.documents, **columns, "train_test_split": 0.1}
        name = self._end(self.client.train(model, dataset, {**train, "batch_size": 32, "optimizer": optimizer}))
        status = self.client.get("tasks", name)["status"]
        found = status["evaluation"]
        print(f"{model['objective']}: loss {found['loss']:.2f}, accuracy {found['accuracy']:.3f}", flush=True)
        return name

    def _end(self, task: dict[str, Any]) -> str:
        """Wait for a task; its name."""
        name: str = task["meta"]["name"]
        self.client.wait(name)
        return name


def run(
    client: Client,
    folder: Path,
    model: Path,
    *,
    documents: int,
    queries: int,
    epochs: tuple[int, int],
    rate: float = 5e-5,
) -> list[float]:
    """The whole chain; recall@1 untuned, after masked-lm, and after contrast. `epochs` of the two trainings, `rate` of
    the second; `folder` is one that the platform may read."""
    chain = Chain(client, *write(folder / "abstracts", documents, queries))
    untuned = chain.recall("before tuning", str(model))
    masked = chain.masked(str(model), epochs=epochs[0])
    after = chain.recall("after masked-lm", masked)
    contrasted = chain.contrast(masked, epochs=epochs[1], rate=rate)
    return [untuned, after, chain.recall("after masked-lm and contrast", contrasted)]


@contextlib.contextmanager
def connected(model: Path) -> Iterator[tuple[Client, Path]]:
    """A client and a folder to share with its platform: that of MLAAS_URL, else one that lives as long as this."""
    folder = Path(tempfile.mkdtemp(prefix="mlaas-chain-", dir=Path.cwd() if os.environ.get("MLAAS_URL") else None))
    platform: Platform | None = None
    try:
        if os.environ.get("MLAAS_URL"):
            with Client() as client:
                yield client, folder
            return
        (work := folder / "work").mkdir()
        platform = Platform(folder, roots=[work, model])
        platform.wait_ready()
        with Client(data=platform.data) as client:
            yield client, work
    finally:
        if platform is not None:
            platform.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--epochs", type=int, nargs=2, default=(2, 3), help="of masked-lm and of contrast")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a model's folder instead of MiniLM's")
    given = parser.parse_args()
    try:
        model = (given.model or base_model()).resolve()
        with connected(model) as (client, folder):
            run(client, folder, model, documents=given.documents, queries=given.queries, epochs=tuple(given.epochs))
    except (ApiError, FileNotFoundError, Refused, TaskFailed) as error:
        print(error, *filter(None, [getattr(error, "hint", None)]), sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
