"""Whether the second text follows the first (Devlin et al. 2018, arXiv:1810.04805): 0 `is_next`, 1 `not_next`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mlaas.runtimes.data.roles import next_sentence
from mlaas.runtimes.transformers.objectives.base import Encoding, Rows
from mlaas.runtimes.transformers.objectives.text_classification import TextClassification
from mlaas.runtimes.transformers.objectives.tokenizing import tokenize

if TYPE_CHECKING:
    import pyarrow as pa

NAMES = ["is_next", "not_next"]


class NextSentence(TextClassification):
    """Rows with `text`, `text_pair` and `label` (0 or 1, `is_next` or `not_next`). Without labels every pair counts as
    following, and half of the rows get the second text of another row."""

    name = "next-sentence-prediction"

    def names(self, columns: Iterable[dict[str, "pa.ChunkedArray"]]) -> list[str] | None:
        for split in columns:
            for value in split["label"].unique().to_pylist() if "label" in split else []:
                next_sentence(value)
        return NAMES

    def encode(self, rows: Rows, encoding: Encoding) -> dict[str, list[Any]]:
        first, second = rows["text"], list(rows["text_pair"])
        if "label" in rows:
            codes = [next_sentence(value) for value in rows["label"]]
        else:
            draw = np.random.Generator(np.random.PCG64([self.train.seed, len(first), encoding.test]))
            codes = (draw.random(len(first)) < 0.5).astype(int).tolist()
            moved = np.roll(np.arange(len(first)), 1 + int(draw.integers(max(1, len(first) - 1))))
            for i, code in enumerate(codes):
                if code:
                    second[i] = rows["text_pair"][moved[i]]
                    codes[i] = int(second[i] != rows["text_pair"][i])
        return {**tokenize(encoding, first, second), "label": codes}
