"""A test set taken from a table: seeded, stratified by class, the same rows on every platform and every version of NumPy."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlaas.runtimes.data.holdout import test_rows

Rows = npt.NDArray[np.int64]


def split(
    table: pa.Table, size: float, *, seed: int = 0, labels: pa.ChunkedArray | pa.Array | None = None
) -> tuple[pa.Table, pa.Table]:
    """(train, test), each in the order of the table. See `rows`."""
    train, test = rows(table.num_rows, size, seed=seed, labels=labels)
    return table.take(pa.array(train)), table.take(pa.array(test))


def rows(
    count: int, size: float, *, seed: int = 0, labels: pa.ChunkedArray | pa.Array | None = None
) -> tuple[Rows, Rows]:
    """(train, test): row numbers, ascending. `size` is the test set's share in (0, 1), or its number of rows from 1 on.

    With `labels` (one a row) each class gives its share of the test set by the largest remainder, and keeps at least one
    row for training as long as the test set can be filled otherwise. Raises Invalid when either set would be empty.
    """
    wanted = test_rows(count, size)
    # PCG64's raw stream is fixed by its definition; the distributions that NumPy draws from it may change.
    keys = np.random.PCG64(seed).random_raw(count)
    if labels is None:
        chosen = np.argsort(keys, kind="stable")[:wanted]
    else:
        chosen = _stratified(_codes(labels), keys, wanted)
    test = np.zeros(count, dtype=bool)
    test[chosen] = True
    return np.flatnonzero(~test).astype(np.int64), np.flatnonzero(test).astype(np.int64)


def _codes(labels: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
    """Classes numbered in the order of their values, which does not depend on the order of the rows."""
    values = labels.combine_chunks() if isinstance(labels, pa.ChunkedArray) else labels
    encoded = values.dictionary_encode(null_encoding="encode")
    rank = np.empty(len(encoded.dictionary), dtype=np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(encoded.dictionary))
    codes: npt.NDArray[np.int64] = rank[encoded.indices.to_numpy(zero_copy_only=False)]
    return codes


def _stratified(codes: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], wanted: int) -> npt.NDArray[np.int64]:
    sizes = np.bincount(codes)
    quota = _quota(sizes, wanted)
    order = np.lexsort((keys, codes))  # by class, within it at random
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: npt.NDArray[np.int64] = order[np.arange(len(codes)) - starts < np.repeat(quota, sizes)]
    return chosen


def _quota(sizes: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[np.int64]:
    """Test rows per class, summing to `wanted`."""
    total = int(sizes.sum())
    quota: npt.NDArray[np.int64] = sizes * wanted // total
    remainder = sizes * wanted % total
    for spare in (1, 0):  # first such that each class keeps a row for training
        order = np.argsort(-remainder, kind="stable")
        while (missing := wanted - int(quota.sum())) > 0:
            open_classes = order[quota[order] < sizes[order] - spare][:missing]
            if not len(open_classes):
                break
            quota[open_classes] += 1
    return quota
