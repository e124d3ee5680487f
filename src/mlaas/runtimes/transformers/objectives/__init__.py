"""One module an objective; `named` finds the class."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlaas.runtimes.transformers.objectives.base import Objective

_CLASSES = {
    "text-classification": ("text_classification", "TextClassification"),
    "next-sentence-prediction": ("next_sentence", "NextSentence"),
    "token-classification": ("token_classification", "TokenClassification"),
    "question-answering": ("question_answering", "QuestionAnswering"),
    "masked-lm": ("masked", "MaskedLanguageModel"),
    "causal-lm": ("causal", "CausalLanguageModel"),
    "no-objective": ("embedding", "Embedding"),
}


def named(objective: str) -> "type[Objective]":
    module, name = _CLASSES[objective]
    found: type[Objective] = getattr(import_module(f"{__name__}.{module}"), name)
    return found
