"""A transformer opened with torch: its facts, its tokenizer, its network; everything else it shares with the compiled form."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.compiled import objectives
from mlaas.modelserver.formats.base import Opened, Original
from mlaas.modelserver.formats.torch_graph import device_of

_UNSAID = 1 << 20  # tokenizers without a limit say 10**30
_OFFSET = {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet", "roberta-prelayernorm", "data2vec-text", "esm"}
_AUTO = {
    "text-classification": "AutoModelForSequenceClassification",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "masked-lm": "AutoModelForMaskedLM",
    "no-objective": "AutoModel",
    "causal-lm": "AutoModelForCausalLM",
}
SAMPLES = (
    "The Higgs boson decays to two photons.",
    "",
    "a",
    "Istituto Nazionale di Fisica Nucleare, Laboratori Nazionali di Frascati, via Enrico Fermi 54, Italy (2026)",
    "Überlichtgeschwindigkeit? Nein! Энергия и масса. 物理学 — naïve café",
    "e=mc^2, \\alpha \\to \\gamma\\gamma; <b>tags</b> & [brackets] {x_1, x_2} 3.14159",
    "Where is the detector installed? It is installed at CERN, in a cavern 100 m below the village of Meyrin. " * 3,
    "What time is it",
    "tabs\tand\nnew lines and   many    spaces ",
    "word " * 400,
)


class TextModel(Original):
    """Every objective that one run of a network answers."""

    def __init__(self, opened: Opened, objective: str, config: dict[str, Any]) -> None:
        options = opened.options or {}
        self.root = opened.root
        self.options = options
        self.device = device_of(opened.device)
        self.tokens = tokenizer(opened)
        auto = _AUTO[objective]
        architecture = str((config.get("architectures") or [""])[0])
        if objective == "next-sentence-prediction" and architecture.endswith("ForSequenceClassification"):
            auto = _AUTO["text-classification"]
        self.model = load(opened, auto).to(self.device)
        self.facts = self._facts(objective, bool(options.get("pairs")))
        kind = objectives.OBJECTIVES[objective]
        self.objective = kind(self.facts, Tokens(self.tokens, self.facts), self.run)
        if objective == "no-objective":
            self._pool(opened.root)
        self.signature = objectives.signature(kind, self.facts)

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        return self.answer(inputs, outputs, {})[0]

    def answer(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> tuple[list[NDArray[Any]], dict[str, Any]]:
        return objectives.respond(self.objective, self.signature, inputs, outputs, parameters)

    def run(self, ids: NDArray[Any], mask: NDArray[Any], types: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """`objectives.Run` by torch."""
        import torch

        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        feed = {name: torch.from_numpy(given[name]).to(self.device) for name in self.inputs}
        with torch.inference_mode():
            found = self.model(**feed)
        return {name: getattr(found, of).float().cpu().numpy() for name, of in self.results.items()}

    @property
    def inputs(self) -> list[str]:
        """Which of the network's inputs it takes, in their order."""
        import inspect

        takes = inspect.signature(self.model.forward).parameters
        named = self.tokens.model_input_names
        return [
            name
            for name in ("input_ids", "attention_mask", "token_type_ids")
            if name in takes and (name != "token_type_ids" or name in named)
        ]

    @property
    def results(self) -> dict[str, str]:
        """Our name of each of the network's outputs -> its own."""
        objective = self.facts["objective"]
        if objective == "question-answering":
            return {"start": "start_logits", "end": "end_logits"}
        return {"states": "last_hidden_state"} if objective == "no-objective" else {"logits": "logits"}

    def _facts(self, objective: str, pairs: bool) -> dict[str, Any]:
        config, tokens = self.model.config, self.tokens
        labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        if objective == "next-sentence-prediction" and labels == ["LABEL_0", "LABEL_1"]:
            labels = ["is_next", "not_next"]
        activation = "softmax"
        if config.problem_type == "multi_label_classification":
            activation = "sigmoid"
        elif config.problem_type == "regression" or (objective == "text-classification" and len(labels) == 1):
            activation = "none"
        facts = {
            "objective": objective,
            "max_length": longest(tokens, config),
            "pad": padding(tokens, config),
            "labels": labels,
            "activation": activation,
            "pairs": pairs,
        }
        if objective == "masked-lm":
            if tokens.mask_token_id is None:
                raise Invalid("The tokenizer has no mask token.", field="source")
            facts |= {"mask": tokens.mask_token_id, "mask_token": tokens.mask_token, "special": tokens.all_special_ids}
        return facts

    def _pool(self, root: Path) -> None:
        """Vectors are pooled as the indexer pools them, in torch; `facts` say how, for the compiled form."""
        from mlaas.modelserver.formats import transformers_pooling

        self.pooling = transformers_pooling.Pooled(root)
        self.facts["pooling"] = self.pooling.facts()
        longest_text = self.pooling.max_length
        if longest_text:
            self.facts["max_length"] = min(self.facts["max_length"], longest_text)
        self.objective = transformers_pooling.Vectors(
            self.facts, Tokens(self.tokens, self.facts), self.run, self.pooling
        )
        self.facts["dimension"] = 0
        columns, _ = self.objective.answer([["a"]], {})
        self.facts["dimension"] = int(columns["embedding"].shape[1])

    def sample(self) -> list[NDArray[Any]]:
        texts = list(SAMPLES)
        if self.facts["objective"] == "masked-lm":
            mask = self.facts["mask_token"]
            texts = [f"{mask} {text}"[:2000] for text in texts] + [f"The {mask} boson decays to two {mask}."]
        second = [texts[(i + 3) % len(texts)] for i in range(len(texts))]
        return [_bytes(each) for each in [texts, second][: len(self.signature.inputs)]]


class Tokens:
    """`objectives.Tokenizer` by transformers."""

    def __init__(self, tokens: Any, facts: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._facts = facts

    def encode(self, first: list[str], second: list[str] | None = None) -> list[Any]:
        pair = [second] if second is not None else []
        longest = self._facts["max_length"]
        more: dict[str, Any] = {"truncation": True}
        if self._facts["objective"] == "question-answering":
            more = {"truncation": "only_second", "stride": min(objectives.STRIDE, longest // 4)}
        found = self._tokens(first, *pair, max_length=longest, return_token_type_ids=True, **more)
        if found.encodings is not None:
            return list(found.encodings)
        return [
            SimpleNamespace(ids=ids, type_ids=types, overflowing=[])
            for ids, types in zip(found["input_ids"], found["token_type_ids"], strict=True)
        ]

    def plain(self, text: str) -> Any:
        return self._tokens([text], add_special_tokens=False, verbose=False).encodings[0]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokens.decode(list(ids), skip_special_tokens=True))


def load(opened: Opened, auto: str) -> Any:
    """The network in 32 bits. Raises Invalid for one that cannot be loaded, or whose head was never trained."""
    import torch
    import transformers

    try:
        with quiet():
            model, report = getattr(transformers, auto).from_pretrained(
                str(opened.root),
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=opened.trusted,
                weights_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise Invalid(f"{opened.root.name} cannot be loaded as {auto}: {text}", field="source") from error
    missing = sorted(name for name in report["missing_keys"] if ".pooler." not in name and "pooler" not in name[:7])
    if missing or report.get("mismatched_keys"):
        wrong = missing or [str(key) for key in report["mismatched_keys"]]
        raise Invalid(
            f"{opened.root.name} lacks {len(wrong)} of the weights of {auto}, such as {wrong[0]}.",
            field="source",
            hint="Its answers would mean nothing: train it for this objective, or name its own by `options.objective`.",
        )
    return model.eval()


def tokenizer(opened: Opened) -> Any:
    """The folder's tokenizer. Raises Invalid when there is none that can be loaded."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            found = AutoTokenizer.from_pretrained(
                str(opened.root), local_files_only=True, trust_remote_code=opened.trusted
            )
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise Invalid(
            f"The tokenizer of {opened.root.name} cannot be loaded: {text}",
            field="source",
            hint="Copy the tokenizer's files (tokenizer.json, tokenizer_config.json) beside the model.",
        ) from error
    found.truncation_side = "right"
    found.padding_side = "right"
    return found


def longest(tokens: Any, config: Any) -> int:
    """Tokens that the model takes: as tokenizer and configuration say, 512 where neither does."""
    limits = [int(tokens.model_max_length)] if tokens.model_max_length < _UNSAID else []
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - (2 if config.model_type in _OFFSET else 0))
    return min(limits, default=512)


def padding(tokens: Any, config: Any) -> int:
    for found in (tokens.pad_token_id, getattr(config, "pad_token_id", None), tokens.eos_token_id):
        if isinstance(found, int) and found >= 0:
            return found
    return 0


@contextmanager
def quiet() -> Iterator[None]:
    """Loading without progress bars and reports: what matters of it is checked and said as an error."""
    import transformers

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def _bytes(texts: Sequence[str]) -> NDArray[Any]:
    array = np.empty(len(texts), dtype=object)
    array[:] = [text.encode() for text in texts]
    return array


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
