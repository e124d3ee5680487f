"""Any model as an encoder: texts in, one vector each out.

Vectors are computed in 32-bit floats: an index lives longer than a process, and a query must meet the very vectors that were
stored, also on another machine.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from mlaas.kernel.errors import Invalid, NotFound
from mlaas.runtimes import model_folder
from mlaas.runtimes.embed import pooling

Vectors = npt.NDArray[np.float32]
Role = Literal["query", "document"]
# Lengths at or above this are placeholders for "no limit" in tokenizer configurations.
_UNLIMITED = 1_000_000


class Encoder:
    """`dimension` of the vectors, `max_length` in tokens, `pooling` as the model's folder says.

    Raises NotFound for a missing tokenizer folder, Invalid (field `model.path` or `tokenizer.path`) for a folder that is no
    model, for weights that do not fit their configuration and for a tokenizer that does not fit the model.
    """

    def __init__(self, model: Path, tokenizer: Path | None = None, *, cores: float | None = None) -> None:
        if cores:
            torch.set_num_threads(max(1, int(cores)))
        self.folder = Path(model)
        model_folder.check_model(self.folder, "no-objective")
        self.pooling = pooling.load(self.folder)
        self.model = _model(self.folder)
        self.tokenizer = _tokenizer(self.folder, tokenizer, self.model)
        self.max_length = self._max_length()
        self.dimension = int(self.encode([""], role="document")[0].shape[1])

    def encode(self, texts: Sequence[str], *, role: Role = "query", batch_size: int = 32) -> tuple[Vectors, int]:
        """(vectors of shape (texts, dimension), how many texts were longer than the model takes and truncated).

        Texts are run in order of length, so that a batch has little padding; the vectors come in the order given.
        """
        if not texts:
            return np.empty((0, self.dimension), np.float32), 0
        prompt = self.pooling.prompts.get(role, "")
        prepared = [prompt + text for text in texts] if prompt else list(texts)
        if self.pooling.lower_case:
            prepared = [text.lower() for text in prepared]
        tokens, truncated = self._tokens(prepared)
        lengths = np.fromiter((len(ids) for ids in tokens), np.int64, len(tokens))
        order = np.argsort(-lengths, kind="stable")
        parts: list[Vectors] = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                parts.append(self._run([tokens[i] for i in order[start : start + batch_size]]).numpy())
        vectors = np.empty((len(tokens), parts[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts)
        return vectors, truncated

    def _tokens(self, texts: list[str]) -> tuple[list[list[int]], int]:
        encoded = self.tokenizer(
            texts,
            truncation=True,
            max_length=self.max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        full = [i for i, item in enumerate(ids) if len(item) >= self.max_length]
        if encoded.encodings is not None:
            return ids, sum(bool(encoded.encodings[i].overflowing) for i in full)
        whole = self.tokenizer([texts[i] for i in full], verbose=False)["input_ids"] if full else []
        return ids, sum(len(item) > self.max_length for item in whole)

    def _run(self, batch: list[list[int]]) -> torch.Tensor:
        length = max(1, max(len(ids) for ids in batch))
        ids = np.full((len(batch), length), self.tokenizer.pad_token_id, np.int64)
        mask = np.zeros((len(batch), length), np.int64)
        for row, item in enumerate(batch):
            ids[row, : len(item)] = item
            mask[row, : max(1, len(item))] = 1  # a text without tokens is one of padding, never a division by zero
        attention = torch.from_numpy(mask)
        output = self.model(input_ids=torch.from_numpy(ids), attention_mask=attention)
        return self.pooling(output.last_hidden_state.float(), attention)

    def _max_length(self) -> int:
        config = self.model.config
        limits = [
            self.pooling.max_length,
            getattr(self.tokenizer, "model_max_length", None),
            _positions(config),
        ]
        return min([int(limit) for limit in limits if limit and limit < _UNLIMITED], default=512)


def _positions(config: Any) -> int | None:
    """How many tokens have a position; families that follow RoBERTa start counting after the padding id."""
    limit = getattr(config, "max_position_embeddings", None)
    offset = (
        config.pad_token_id + 1
        if config.model_type in {"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"} and config.pad_token_id
        else 0
    )
    return limit - offset if isinstance(limit, int) and limit > offset else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Loading without its report of unused heads: what matters of it is checked and said as an error."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()


def _model(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Invalid(
            f"{folder.name} cannot be loaded as a model: {first}",
            field="model.path",
            hint="It must be a folder that transformers' AutoModel loads, without code of its own.",
        ) from error
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    if missing or report.get("mismatched_keys"):
        wrong = missing or [str(key) for key in report["mismatched_keys"]]
        raise Invalid(
            f"The weights of {folder.name} do not fit its configuration: "
            f"{len(wrong)} tensors are missing, such as {sorted(wrong)[0]}.",
            field="model.path",
            hint="config.json and the weights must come from the same model.",
        )
    if config.is_encoder_decoder:
        model = model.get_encoder()
    return model.eval()


def _tokenizer(folder: Path, given: Path | None, model: Any) -> Any:
    field = "tokenizer.path" if given else "model.path"
    source = Path(given) if given else folder
    if not source.is_dir():
        raise NotFound(
            f"There is no tokenizer folder at {source}.",
            field=field,
            hint="Leave tokenizer out to use the model's own.",
        )
    model_folder.check_tokenizer(source, field=field)
    tokenizer = _load_tokenizer(source, field)
    room = model.get_input_embeddings().num_embeddings
    model_folder.check_fit(max(tokenizer.get_vocab().values(), default=0), room, field=field)
    if (
        given
        and source.resolve() != folder.resolve()
        and any((folder / name).is_file() for name in model_folder.TOKENIZERS)
    ):
        own, other = _load_tokenizer(folder, "model.path").get_vocab(), tokenizer.get_vocab()
        same = sum(other.get(token) == number for token, number in own.items())
        if same < 0.9 * len(own):
            raise Invalid(
                f"The tokenizer does not fit the model: only {same} of {len(own)} tokens have the number that the model knows.",
                field=field,
                hint="Use the tokenizer that the model was trained with; leave tokenizer out to use the model's own.",
            )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise Invalid(
            "The tokenizer has no token to pad with.", field=field, hint="Set pad_token in its configuration."
        )
    return tokenizer


def _load_tokenizer(folder: Path, field: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raise bare exceptions for damaged files
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise Invalid(
            f"{folder.name} holds no tokenizer that can be loaded: {first}",
            field=field,
            hint="Copy the whole folder again.",
        ) from error
