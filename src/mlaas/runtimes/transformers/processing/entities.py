"""Words with tags to tokens and back: labels of the first piece of each word, and entities out of IOB2 tags.

Tags are those of CoNLL: `B-PER`, `I-PER`, `O`; tags without such a prefix are taken as they are, neighbours of one tag joined.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.runtimes.transformers.processing.arrays import softmax

IGNORED = -100


def align(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """The word of each token (None for special tokens) and the tag of each word -> a label a token: the word's at its first
    piece, `IGNORED` elsewhere."""
    labels, previous = [], None
    for word in words:
        labels.append(IGNORED if word is None or word == previous else tags[word])
        previous = word
    return labels


def split_tag(tag: str) -> tuple[str, str]:
    """`B-PER` -> (B, PER); `PER` -> (I, PER); `O` -> (O, "")."""
    if tag in ("O", ""):
        return "O", ""
    if len(tag) > 2 and tag[0] in "BILESU" and tag[1] == "-":
        return tag[0], tag[2:]
    return "I", tag


def entities(
    text: str,
    logits: NDArray[np.floating],
    offsets: Sequence[tuple[int, int]],
    words: Sequence[int | None],
    labels: Sequence[str],
) -> list[dict[str, Any]]:
    """(tokens, labels) of one text -> `[{label, text, start, end, score}]`: a word has the tag of its first piece, `score`
    is the mean probability of the entity's words; `start` and `end` are places in the text."""
    found: list[dict[str, Any]] = []
    scores: list[float] = []
    probabilities = softmax(logits) if len(logits) else logits
    open_label, previous = "", None
    for place, (word, (start, end)) in enumerate(zip(words, offsets, strict=True)):
        if word is None:
            continue
        if word == previous:
            if open_label:
                found[-1]["end"] = end
            continue
        previous = word
        best = int(probabilities[place].argmax())
        prefix, label = split_tag(labels[best])
        if prefix == "O":
            open_label = ""
            continue
        if label == open_label and prefix not in "BSU":
            found[-1]["end"] = end
            scores.append(float(probabilities[place][best]))
        else:
            found.append({"label": label, "text": "", "start": start, "end": end, "score": 0.0})
            scores = [float(probabilities[place][best])]
        open_label = label
        found[-1]["score"] = round(sum(scores) / len(scores), 6)
    for entity in found:
        entity["text"] = text[entity["start"] : entity["end"]]
    return found
