"""What a text model of each objective takes and gives, between texts and the arrays of its network. NumPy only.

The network is `run(ids, mask, types)` of int64 [n, length]; it gives `logits`, or `start` and `end`, or `states`. The tokenizer
gives encodings as the library `tokenizers` has them. Both are of the framework in the original, of ONNX Runtime in the compiled
model, and everything between them is this module.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.predictor import CUT, Signature, TensorSpec, truncation
from mlaas.modelserver.tensors import DTYPES
from mlaas.runtimes.transformers.processing import answers, entities, language
from mlaas.runtimes.transformers.processing.arrays import softmax
from mlaas.runtimes.transformers.processing.embeddings import Pooling

Run = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], dict[str, NDArray[Any]]]
Columns = dict[str, Any]
"""Outputs by name, each a list or array with one entry a text."""

QUESTION = 64
"""Tokens of a question that are kept at least, and the overlap of windows: as in training."""
STRIDE = 128
BATCH = 32
LONGEST_REQUEST = 10_000
"""Texts of one request."""


class Tokenizer(Protocol):
    """Texts (and their pairs) to encodings of at most the model's length; `encoding.overflowing` holds what was cut off."""

    def encode(self, first: list[str], second: list[str] | None = None) -> list[Any]: ...

    def plain(self, text: str) -> Any:
        """One text without special tokens."""

    def decode(self, ids: Sequence[int]) -> str: ...


class Objective:
    """One model's objective. `facts` is plain data: labels, padding id, ... (see `formats/transformers_model.py`)."""

    inputs: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, facts: Mapping[str, Any], tokenizer: Tokenizer, run: Run) -> None:
        self.facts = facts
        self.tokenizer = tokenizer
        self.run = run

    @classmethod
    def outputs(cls, facts: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        raise NotImplementedError

    @classmethod
    def taken(cls, facts: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the inputs."""
        return cls.inputs

    def answer(self, texts: list[list[str]], parameters: Mapping[str, Any]) -> tuple[Columns, list[int]]:
        """(outputs, how many texts of each row were cut) for the texts of each input."""
        encodings = self.tokenizer.encode(*texts)
        columns = self.decode(texts, encodings, self.each(encodings), parameters)
        return columns, [int(bool(encoding.overflowing)) for encoding in encodings]

    def decode(
        self,
        texts: list[list[str]],
        encodings: list[Any],
        found: list[dict[str, NDArray[Any]]],
        parameters: Mapping[str, Any],
    ) -> Columns:
        """The outputs out of what the network gave for each encoding."""
        raise NotImplementedError

    def each(self, encodings: list[Any]) -> list[dict[str, NDArray[Any]]]:
        """What the network gives for each encoding, without padding; those of like length run together."""
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        found: list[dict[str, NDArray[Any]]] = [{}] * len(encodings)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            outputs = self.run(*self.padded([encodings[i] for i in rows]))
            for place, i in enumerate(rows):
                found[i] = {name: _cut(array[place], lengths[i]) for name, array in outputs.items()}
        return found

    def padded(self, encodings: list[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """ids, mask and token types, int64 [n, longest]. A text without tokens is one of padding."""
        width = max(1, *(len(encoding.ids) for encoding in encodings))
        ids = np.full((len(encodings), width), self.facts["pad"], dtype=np.int64)
        mask = np.zeros((len(encodings), width), dtype=np.int64)
        types = np.zeros((len(encodings), width), dtype=np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length] = encoding.ids
            types[row, :length] = encoding.type_ids
            mask[row, : max(1, length)] = 1
        return ids, mask, types


def _cut(array: NDArray[Any], length: int) -> NDArray[Any]:
    return array[: max(1, length)] if array.ndim and len(array) >= length and array.ndim > 1 else array


class Classification(Objective):
    """`label` and its `score`; `probabilities` of all labels when asked for by name. Pairs where the facts say so."""

    @classmethod
    def taken(cls, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return ("text", "text_pair") if facts.get("pairs") else ("text",)

    @classmethod
    def outputs(cls, facts: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        labels = tuple(facts["labels"])
        if facts.get("activation") == "none":
            return (TensorSpec("score", "FP32", (-1, len(labels))),)
        return (
            TensorSpec("label", "BYTES", (-1,)),
            TensorSpec("score", "FP32", (-1,)),
            TensorSpec("probabilities", "FP32", (-1, len(labels)), default=False, labels=labels),
        )

    def decode(self, texts: Any, encodings: Any, found: Any, parameters: Any) -> Columns:
        logits = np.stack([each["logits"] for each in found])
        activation = self.facts.get("activation", "softmax")
        if activation == "none":
            return {"score": logits}
        probabilities = softmax(logits) if activation == "softmax" else 1 / (1 + np.exp(-logits.astype(np.float64)))
        best = probabilities.argmax(axis=1)
        return {
            "label": [self.facts["labels"][i] for i in best],
            "score": probabilities.max(axis=1),
            "probabilities": probabilities,
        }


class Pairs(Classification):
    """Whether the second text follows the first."""

    @classmethod
    def taken(cls, facts: Mapping[str, Any]) -> tuple[str, ...]:
        return ("text", "text_pair")


class Tokens(Objective):
    """`entities` of each text as JSON: `[{"label", "text", "start", "end", "score"}]`."""

    @classmethod
    def outputs(cls, facts: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (TensorSpec("entities", "BYTES", (-1,)),)

    def decode(self, texts: Any, encodings: Any, found: Any, parameters: Any) -> Columns:
        labels = self.facts["labels"]
        made = [
            entities.entities(text, each["logits"], encoding.offsets, encoding.word_ids, labels)
            for text, encoding, each in zip(texts[0], encodings, found, strict=True)
        ]
        return {"entities": [json.dumps(item, ensure_ascii=False) for item in made]}


class Questions(Objective):
    """The `answer` to each question, with its `score` and place (`start`, `end`) in the context. A long context is looked
    through in overlapping windows, so nothing of it is cut."""

    inputs = ("question", "context")

    @classmethod
    def outputs(cls, facts: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("answer", "BYTES", (-1,)),
            TensorSpec("score", "FP32", (-1,)),
            TensorSpec("start", "INT64", (-1,)),
            TensorSpec("end", "INT64", (-1,)),
        )

    def answer(self, texts: list[list[str]], parameters: Mapping[str, Any]) -> tuple[Columns, list[int]]:
        room = min(QUESTION, self.facts["max_length"] // 2)
        questions, cut = [], []
        for question in texts[0]:
            places = self.tokenizer.plain(question).offsets
            cut.append(int(len(places) > room))
            questions.append(question if len(places) <= room else question[: places[room - 1][1]])
        windows = [[first, *first.overflowing] for first in self.tokenizer.encode(questions, texts[1])]
        found = iter(self.each([window for each in windows for window in each]))
        best = []
        for context, own in zip(texts[1], windows, strict=True):
            spans = [self._spans(window, next(found)) for window in own]
            best.append(answers.best(spans, context))
        return {name: [item[name] for item in best] for name in ("answer", "score", "start", "end")}, cut

    @staticmethod
    def _spans(window: Any, found: dict[str, NDArray[Any]]) -> list[tuple[float, int, int]]:
        own = np.array([part == 1 for part in window.sequence_ids])
        count = len(own)
        return answers.spans(found["start"][:count], found["end"][:count], np.array(window.offsets), own)


class Masked(Objective):
    """The `text` with all masks filled, the surest first, and for each mask its `masks` as JSON: `[[{"token", "score"}]]`, as
    many as the parameter `top_k` says."""

    @classmethod
    def outputs(cls, facts: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (TensorSpec("text", "BYTES", (-1,)), TensorSpec("masks", "BYTES", (-1,)))

    def decode(self, texts: Any, encodings: Any, found: Any, parameters: Any) -> Columns:
        top, special = _whole(parameters, "top_k", 5, 1000), set(self.facts["special"])
        filled, masks = [], []
        for encoding, each in zip(encodings, found, strict=True):
            places = [place for place, token in enumerate(encoding.ids) if token == self.facts["mask"]]
            if not places:
                raise Invalid(
                    f"A text has no {self.facts['mask_token']}.",
                    field="text",
                    hint=f"Write {self.facts['mask_token']} for each token to be predicted.",
                )
            best = language.candidates(each["logits"][places], top, special)
            masks.append(
                [
                    [{"token": self.tokenizer.decode([token]).strip(), "score": score} for token, score in one]
                    for one in best
                ]
            )
            filled.append(self.tokenizer.decode(self._filled(encoding, each["logits"], places, special)))
        return {"text": filled, "masks": [json.dumps(item, ensure_ascii=False) for item in masks]}

    def _filled(self, encoding: Any, logits: NDArray[Any], places: list[int], special: set[int]) -> list[int]:
        ids, mask, types = self.padded([encoding])
        left = list(places)
        while left:
            best = [one[0] for one in language.candidates(logits[left], 1, special)]
            surest = max(range(len(left)), key=lambda k: best[k][1])
            ids[0, left.pop(surest)] = best[surest][0]
            if left:
                logits = self.run(ids, mask, types)["logits"][0]
        found: list[int] = ids[0].tolist()
        return found


class Embedding(Objective):
    """One vector a text, pooled as the model's folder says. The parameter `role` is `query` (default) or `document`, for models
    that put another prompt before each."""

    @classmethod
    def outputs(cls, facts: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (TensorSpec("embedding", "FP32", (-1, facts["dimension"])),)

    def answer(self, texts: list[list[str]], parameters: Mapping[str, Any]) -> tuple[Columns, list[int]]:
        pooling = self.facts["pooling"]
        role = parameters.get("role", "query")
        if role not in ("query", "document"):
            raise Invalid(f"The role is 'query' or 'document', not {role!r}.", field="role")
        prompt = pooling["prompts"].get(role, "")
        prepared = [prompt + text for text in texts[0]]
        if pooling["lower_case"]:
            prepared = [text.lower() for text in prepared]
        return super().answer([prepared], parameters)

    def decode(self, texts: Any, encodings: Any, found: Any, parameters: Any) -> Columns:
        pooling = self.facts["pooling"]
        modes = Pooling(tuple(pooling["modes"]), pooling["normalize"])
        vectors = [modes.apply(each["states"][None], np.ones((1, len(each["states"])), np.int64))[0] for each in found]
        return {"embedding": np.stack(vectors)}


OBJECTIVES: dict[str, type[Objective]] = {
    "text-classification": Classification,
    "next-sentence-prediction": Pairs,
    "token-classification": Tokens,
    "question-answering": Questions,
    "masked-lm": Masked,
    "no-objective": Embedding,
}
"""Those that one run of a network answers; `causal-lm` generates."""


def signature(objective: type[Objective], facts: Mapping[str, Any], platform: str = "huggingface") -> Signature:
    inputs = tuple(TensorSpec(name, "BYTES", (-1,)) for name in objective.taken(facts))
    properties = {"objective": str(facts["objective"]), "max_length": str(facts["max_length"])}
    return Signature(inputs, objective.outputs(facts), platform=platform, properties=properties)


def respond(
    objective: Objective,
    given: Signature,
    inputs: Sequence[NDArray[Any]],
    wanted: Sequence[str],
    parameters: Mapping[str, Any],
) -> tuple[list[NDArray[Any]], dict[str, Any]]:
    """The wanted outputs, and the answer's parameters, which say how many texts were cut to how many tokens."""
    specs = {spec.name: spec for spec in given.outputs}
    texts = _strings(inputs, [spec.name for spec in given.inputs])
    if not texts[0]:
        return [np.empty((0, *specs[name].shape[1:]), dtype=DTYPES[specs[name].datatype]) for name in wanted], {}
    columns, cut = objective.answer(texts, parameters)
    made = [_array(columns[name], specs[name].datatype) for name in wanted]
    return made, {**truncation(cut, objective.facts["max_length"]), CUT: cut} if any(cut) else {}


def _strings(inputs: Sequence[NDArray[Any]], names: Sequence[str]) -> list[list[str]]:
    """The texts of each input. Raises Invalid for what is not UTF-8, and for more than LONGEST_REQUEST of them."""
    found = []
    for array, name in zip(inputs, names, strict=True):
        if array.size > LONGEST_REQUEST:
            raise Invalid(f"A request holds at most {LONGEST_REQUEST} texts; this one has {array.size}.", field=name)
        try:
            found.append([item.decode() if isinstance(item, bytes) else str(item) for item in array.reshape(-1)])
        except UnicodeDecodeError as error:
            raise Invalid(f"A text of '{name}' is not UTF-8: {error.reason}.", field=name) from None
    return found


def unscored(item: Any) -> Any:
    """An answer without the scores of its JSON, whose last digits hang on who computes them."""
    try:
        return _drop(json.loads(item))
    except (TypeError, ValueError):
        return item


def _drop(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop(each) for key, each in value.items() if key != "score"}
    return [_drop(each) for each in value] if isinstance(value, list) else value


def _array(values: Any, datatype: str) -> NDArray[Any]:
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = [value.encode() for value in values]
        return array
    return np.asarray(values, dtype=DTYPES[datatype])


def _whole(parameters: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Invalid(f"`{name}` is a whole number from 1 to {most}.", field=name)
    return value
