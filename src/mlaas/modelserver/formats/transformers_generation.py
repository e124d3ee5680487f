"""Causal language models: a text in, what follows it out, whole or as it is made. Stays in torch.

Parameters of a request: `max_new_tokens` (50), `temperature` (0: the likeliest token each time), `top_p` (1), `seed`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats import transformers_model as opening
from mlaas.modelserver.formats.base import Opened, Original, Uncompiled
from mlaas.modelserver.formats.torch_graph import device_of
from mlaas.modelserver.predictor import CUT, Signature, TensorSpec, truncation

BATCH = 8
MOST = 100_000


class Generator(Original):
    """`text` in; `text` out, and on request `tokens`, how many it has."""

    def __init__(self, opened: Opened) -> None:
        self.device = device_of(opened.device)
        self.tokens = opening.tokenizer(opened)
        self.model = opening.load(opened, "AutoModelForCausalLM").to(self.device)
        config = self.model.config
        self.longest = opening.longest(self.tokens, config)
        self.tokens.padding_side = self.tokens.truncation_side = "left"  # the end of a text decides what follows it
        if self.tokens.pad_token_id is None:
            self.tokens.pad_token = self.tokens.convert_ids_to_tokens(opening.padding(self.tokens, config))
        self.ends = _ends(self.model, self.tokens)
        self.signature = Signature(
            (TensorSpec("text", "BYTES", (-1,)),),
            (TensorSpec("text", "BYTES", (-1,)), TensorSpec("tokens", "INT64", (-1,), default=False)),
            platform="huggingface",
            properties={"objective": "causal-lm", "max_length": str(self.longest)},
        )

    def predict(self, inputs: list[NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        return self.answer(inputs, outputs, {})[0]

    def answer(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> tuple[list[NDArray[Any]], dict[str, Any]]:
        texts, settings = _texts(inputs[0]), _Settings(parameters, self.longest)
        made: list[tuple[str, int]] = []
        cut: list[int] = []
        # What is drawn depends on the seed and the text alone, not on the texts beside it.
        together = 1 if settings.temperature else BATCH
        for start in range(0, len(texts), together):
            given, short = self._tokens(texts[start : start + together], settings)
            cut += short
            made += self._made(given, settings)
        columns: dict[str, list[Any]] = {"text": [text for text, _ in made], "tokens": [count for _, count in made]}
        said = {**truncation(cut, self.longest), CUT: cut} if any(cut) else {}
        return _arrays(columns, outputs), said

    def stream(
        self, inputs: list[NDArray[Any]], outputs: list[str], parameters: Mapping[str, Any]
    ) -> Iterator[list[NDArray[Any]]]:
        """Text as it is made, for one text; `tokens` counts those of a piece. A character is given when it is whole."""
        import torch

        texts, settings = _texts(inputs[0]), _Settings(parameters, self.longest)
        if len(texts) != 1:
            raise Invalid("One text at a time can be streamed.", field="text")
        given, _ = self._tokens(texts, settings)
        source = torch.Generator(self.device).manual_seed(settings.seed) if settings.temperature else None
        feed = dict(given)
        made: list[int] = []
        told, since = "", 0
        for _ in range(settings.most):
            with torch.inference_mode():
                found = self.model(**feed, use_cache=True)
                token = _choose(found.logits[0, -1].float(), settings, source)
            if token in self.ends:
                break
            made.append(token)
            text = self.tokens.decode(made, skip_special_tokens=True)
            if not text.endswith("\ufffd") and len(text) > len(told):
                yield _arrays({"text": [text[len(told) :]], "tokens": [len(made) - since]}, outputs)
                told, since = text, len(made)
            one = torch.ones((1, 1), dtype=torch.int64, device=self.device)
            mask = torch.cat([feed["attention_mask"], one], dim=1)
            feed = {"input_ids": one * token, "attention_mask": mask, "past_key_values": found.past_key_values}
        text = self.tokens.decode(made, skip_special_tokens=True)
        if len(text) > len(told):
            yield _arrays({"text": [text[len(told) :]], "tokens": [len(made) - since]}, outputs)

    def compile(self, target: Any) -> None:
        raise Uncompiled("a model that generates runs in torch")

    def _tokens(self, texts: list[str], settings: "_Settings") -> tuple[Any, list[int]]:
        """(tokens of a batch, whether each text was cut): there must be room for what follows."""
        room = max(1, self.longest - settings.most)
        start = self.tokens.bos_token or self.tokens.eos_token or " "
        found = self.tokens(
            [text or start for text in texts],
            truncation=True,
            max_length=room,
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        cut = [int(bool(each.overflowing)) for each in found.encodings or []]
        return found.to(self.device), cut

    def _made(self, given: Any, settings: "_Settings") -> list[tuple[str, int]]:
        import torch

        options: dict[str, Any] = {"do_sample": False}
        if settings.temperature:
            torch.manual_seed(settings.seed)
            options = {
                "do_sample": True,
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "top_k": 0,
            }
        with torch.inference_mode(), opening.quiet():
            found = self.model.generate(
                **given, max_new_tokens=settings.most, pad_token_id=self.tokens.pad_token_id, **options
            )
        made = []
        for ids in found[:, given["input_ids"].shape[1] :].tolist():
            end = next((place for place, token in enumerate(ids) if token in self.ends), len(ids))
            made.append((self.tokens.decode(ids[:end], skip_special_tokens=True), end))
        return made


class _Settings:
    """A request's parameters, checked."""

    def __init__(self, parameters: Mapping[str, Any], longest: int) -> None:
        self.most = int(_number(parameters, "max_new_tokens", 50, 1, MOST))
        self.most = min(self.most, max(1, longest - 1))
        self.temperature = float(_number(parameters, "temperature", 0, 0, 100))
        self.top_p = float(_number(parameters, "top_p", 1, 1e-6, 1))
        self.seed = int(_number(parameters, "seed", 0, 0, 1 << 62))


def _number(parameters: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Invalid(f"`{name}` is a number from {least:g} to {most:g}.", field=name)
    return value


def _choose(logits: Any, settings: _Settings, source: Any) -> int:
    """The next token: the likeliest, or one drawn from the nucleus (Holtzman et al. 2019, arXiv:1904.09751)."""
    import torch

    if not settings.temperature:
        return int(logits.argmax())
    likely, order = torch.softmax(logits / settings.temperature, dim=-1).sort(descending=True)
    likely[likely.cumsum(-1) - likely >= settings.top_p] = 0
    return int(order[torch.multinomial(likely, 1, generator=source)])


def _ends(model: Any, tokens: Any) -> set[int]:
    """Tokens that end a text."""
    found = model.generation_config.eos_token_id
    ids = set(found) if isinstance(found, list | tuple) else {found}
    return {token for token in (*ids, tokens.eos_token_id) if isinstance(token, int)}


def _texts(array: NDArray[Any]) -> list[str]:
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise Invalid(f"A text is not UTF-8: {error.reason}.", field="text") from None


def _arrays(columns: dict[str, list[Any]], outputs: list[str]) -> list[NDArray[Any]]:
    made: list[NDArray[Any]] = []
    for name in outputs:
        if name == "tokens":
            made.append(np.array(columns[name], dtype=np.int64))
        else:
            array = np.empty(len(columns[name]), dtype=object)
            array[:] = [text.encode() for text in columns[name]]
            made.append(array)
    return made
