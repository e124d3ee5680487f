"""FAISS indexes: made by kind, searched by row. The distance is FAISS's own for `METRIC_L2`: the squared L2 distance."""

import os
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from mlaas.kernel.errors import Invalid

Kind = Literal["flat", "hnsw", "ivf"]
Vectors = npt.NDArray[np.float32]
AUTO_FROM = 100_000  # vectors, from which on `auto` takes HNSW: a flat index compares with every vector
LINKS = 32  # neighbours of a node in HNSW (Malkov and Yashunin 2016, arXiv:1603.09320)
CONSTRUCTION = 100
EF_SEARCH = 128  # candidates kept during an HNSW search: the larger, the nearer to exact
BLOCK = 16_384


def threads(cores: float | None) -> None:
    """FAISS uses as many threads as the task has cores."""
    faiss.omp_set_num_threads(max(1, int(cores or os.cpu_count() or 1)))


def choose(kind: str, count: int) -> Kind:
    if kind == "auto":
        return "hnsw" if count >= AUTO_FROM else "flat"
    return kind  # type: ignore[return-value]


def build(kind: Kind, vectors: Vectors) -> Any:
    """An index over `vectors`, which may be memory-mapped: they are added in blocks."""
    count, dimension = vectors.shape
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, LINKS)
        index.hnsw.efConstruction = CONSTRUCTION
        index.hnsw.efSearch = EF_SEARCH
    elif kind == "ivf":
        index = _inverted(vectors)
    else:
        index = faiss.IndexFlatL2(dimension)
    for start in range(0, count, BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + BLOCK]))
    return index


def _inverted(vectors: Vectors) -> Any:
    """An inverted file: about 4 sqrt(n) lists, trained on at most 256 vectors a list, an eighth of the lists searched
    (FAISS wiki, "Guidelines to choose an index")."""
    count, dimension = vectors.shape
    lists = max(1, min(int(4 * count**0.5), count // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dimension), dimension, lists)
    wanted = min(count, 256 * lists)
    sample = np.sort(np.random.default_rng(0).choice(count, wanted, replace=False))
    index.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(vectors[sample]))
    index.nprobe = max(1, min(lists, 8), lists // 8)
    return index


def read(path: Path) -> Any:
    """Raises Invalid for a file that is no FAISS index."""
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise Invalid(
            f"{path.name} is no FAISS index that can be read.",
            field="dataset.path",
            hint="Copy the whole folder again, or build the store anew.",
        ) from error


def write(index: Any, path: Path) -> None:
    """Raises OSError when the disk is full."""
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        if "No space left" in str(error):
            raise OSError(28, "No space left on device", str(path)) from error
        raise


def search(index: Any, vectors: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """(distances, rows), both of shape (queries, k); row -1 where an approximate index found fewer than k."""
    parameters = None
    if isinstance(index, faiss.IndexHNSW) and k > index.hnsw.efSearch // 2:
        parameters = faiss.SearchParametersHNSW(efSearch=2 * k)  # type: ignore[attr-defined]
    elif isinstance(index, faiss.IndexIVF) and index.nlist > 1:
        # Enough lists that k vectors are among those looked at.
        needed = min(index.nlist, int(4 * k * index.nlist / max(1, index.ntotal)) + 1)
        parameters = faiss.SearchParametersIVF(nprobe=max(index.nprobe, needed))  # type: ignore[call-arg]
    return index.search(np.ascontiguousarray(vectors, dtype=np.float32), k, params=parameters)  # type: ignore[no-any-return]


def kind_of(index: Any) -> str:
    if isinstance(index, faiss.IndexHNSW):
        return "hnsw"
    if isinstance(index, faiss.IndexIVF):
        return "ivf"
    return "flat" if isinstance(index, faiss.IndexFlat) else type(index).__name__


def metric_of(index: Any) -> str:
    """`l2` (squared, lower is better) or `inner_product` (higher is better)."""
    return {faiss.METRIC_L2: "l2", faiss.METRIC_INNER_PRODUCT: "inner_product"}.get(
        index.metric_type, str(index.metric_type)
    )
