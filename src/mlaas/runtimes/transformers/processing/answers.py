"""Extractive question answering: windows over long contexts, the best span, and the measures of SQuAD (Rajpurkar et al. 2016,
arXiv:1606.05250; the official evaluation script v2.0 for the normalisation)."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.runtimes.transformers.processing.arrays import log_softmax

LONGEST_ANSWER = 30
CANDIDATES = 20
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def place(offsets: Sequence[tuple[int, int]], context: Sequence[bool], start: int, end: int) -> tuple[int, int]:
    """The first and last token of the characters [start, end) of the context; (0, 0) when the window does not hold them all."""
    inside = [i for i, own in enumerate(context) if own]
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < end:
        return 0, 0
    first = max(i for i in inside if offsets[i][0] <= start)
    last = min(i for i in inside if offsets[i][1] >= end)
    return first, max(first, last)


def spans(
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    offsets: NDArray[np.integer],
    context: NDArray[np.bool_],
) -> list[tuple[float, int, int]]:
    """The best answer spans of one window as (log-probability, first character, last character + 1), best first, and
    (log-probability, 0, 0) for none. Shapes (tokens), offsets (tokens, 2); `context` says which tokens are of the context."""
    log_start, log_end = log_softmax(start), log_softmax(end)
    masked_start = np.where(context, log_start, -np.inf)
    masked_end = np.where(context, log_end, -np.inf)
    found = [(float(log_start[0] + log_end[0]), 0, 0)]
    for i in np.argsort(-masked_start)[:CANDIDATES]:
        if not context[i]:
            break
        last = min(len(end), int(i) + LONGEST_ANSWER)
        j = int(i) + int(masked_end[i:last].argmax())
        if context[j]:
            found.append((float(masked_start[i] + masked_end[j]), int(offsets[i][0]), int(offsets[j][1])))
    return sorted(found, key=lambda span: -span[0])


def best(windows: Sequence[list[tuple[float, int, int]]], context: str, empty: bool = False) -> dict[str, Any]:
    """The answer out of the spans of all windows of a context: `{answer, start, end, score}`. `empty` allows none: then it
    is one when every window prefers it."""
    answers = [span for spans in windows for span in spans if span[2] > span[1]]
    nothing = min((span[0] for spans in windows for span in spans if span[2] == span[1]), default=-np.inf)
    top = max(answers, key=lambda span: span[0], default=None)
    if top is None or (empty and nothing > top[0]):
        return {"answer": "", "start": 0, "end": 0, "score": round(float(np.exp(nothing)), 6)}
    score, start, end = top
    return {"answer": context[start:end], "start": start, "end": end, "score": round(float(np.exp(score)), 6)}


def normalized(answer: str) -> str:
    text = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(answer: str, truths: Sequence[str]) -> float:
    return float(any(normalized(answer) == normalized(truth) for truth in truths or [""]))


def f1(answer: str, truths: Sequence[str]) -> float:
    """The best overlap of words with one of the true answers."""
    return max(_overlap(normalized(answer).split(), normalized(truth).split()) for truth in truths or [""])


def _overlap(answer: list[str], truth: list[str]) -> float:
    if not answer or not truth:
        return float(answer == truth)
    common = sum((Counter(answer) & Counter(truth)).values())
    return 2 * common / (len(answer) + len(truth))
