"""However a transformer is asked, it says what torch says (see `test_agreement.py`): tiny ones with random weights. Their
tolerance is that of the parity check, 1e-4 absolute and relative."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.modelserver.formats.agreement import Case, Inputs, Plain, Ways, check, served
from tests.integration.modelserver.formats.test_transformers import bert, texts
from tests.integration.transformers.conftest import minilm, tiny_bert, tiny_gpt2

__all__ = ["minilm", "tiny_bert", "tiny_gpt2"]
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
LONGEST = 64  # tokens that the tiny BERT takes
WORDS = ["detector", "CERN", "muon", "naïve", "α", "12.5", "GeV", "don't", "[brackets]", "物理"]
MADE = 8  # tokens that the tiny GPT-2 makes
SEED = 7
LABELS = {0: "O", 1: "B-ORG", 2: "I-ORG"}
SURE: dict[str, Any] = {"initializer_range": 0.5}  # weights that make the tiny model sure of something


def text(cut: bool = True) -> st.SearchStrategy[str]:
    """A sentence of words, some longer than the model takes, or any characters at all."""
    words = st.lists(st.sampled_from(WORDS), max_size=10).map(" ".join)
    sentences = [words, st.text(st.characters(exclude_categories=["Cs"]), max_size=40)]
    return st.one_of(*sentences, st.just("too long " * LONGEST)) if cut else st.one_of(*sentences)


def columns(*strategies: st.SearchStrategy[str]) -> st.SearchStrategy[Inputs]:
    """One to four rows of texts."""
    rows = st.lists(st.tuples(*strategies), min_size=1, max_size=4)
    return rows.map(lambda drawn: [texts(*column) for column in zip(*drawn, strict=True)])


def strings(array: Any) -> list[str]:
    return [item.decode() for item in array]


class Torch:
    """The folder's model and tokenizer as transformers has them, one text at a time."""

    def __init__(self, folder: Path, auto: str) -> None:
        import transformers

        self.tokens = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = getattr(transformers, auto).from_pretrained(folder).eval()

    def __call__(self, *parts: str, **more: Any) -> Any:
        import torch

        given = {"truncation": True, "max_length": LONGEST, "return_tensors": "pt", **more}
        with torch.inference_mode():
            return self.model(**self.tokens(*([part] for part in parts), **given))


Files = dict[str, Path]


def classification(files: Files, folder: Path) -> Plain:
    bert(files["bert"], folder, "BertForSequenceClassification", num_labels=3, **SURE)
    torch = Torch(folder, "AutoModelForSequenceClassification")

    def answer(inputs: Inputs) -> dict[str, Any]:
        probabilities = [torch(each).logits[0].softmax(0).numpy() for each in strings(inputs[0])]
        labels = [torch.model.config.id2label[int(each.argmax())] for each in probabilities]
        scores = [each.max() for each in probabilities]
        return {"label": labels, "score": scores, "probabilities": np.stack(probabilities)}

    return answer


def following(files: Files, folder: Path) -> Plain:
    bert(files["bert"], folder, "BertForNextSentencePrediction", **SURE)
    torch = Torch(folder, "AutoModelForNextSentencePrediction")

    def answer(inputs: Inputs) -> dict[str, Any]:
        pairs = zip(*map(strings, inputs), strict=True)
        return {"probabilities": np.stack([torch(*pair).logits[0].softmax(0).numpy() for pair in pairs])}

    return answer


def tokens(files: Files, folder: Path) -> Plain:
    """As transformers' pipeline aggregates them where a word has the tag of its first piece."""
    import transformers

    bert(files["bert"], folder, "BertForTokenClassification", num_labels=3, id2label=LABELS, **SURE)
    pipeline = transformers.pipeline("token-classification", str(folder), aggregation_strategy="first", device="cpu")

    def one(text: str) -> str:
        found = pipeline(text)
        places = [(each["entity_group"], each["start"], each["end"]) for each in found]
        return json.dumps(
            [{"label": label, "text": text[start:end], "start": start, "end": end} for label, start, end in places]
        )

    return lambda inputs: {"entities": [one(text) for text in strings(inputs[0])]}


def embedding(files: Files, folder: Path) -> Plain:
    """The mean of the last states, as sentence-transformers pools without other word."""
    bert(files["bert"], folder, "BertModel", **SURE)
    torch = Torch(folder, "AutoModel")

    def answer(inputs: Inputs) -> dict[str, Any]:
        return {
            "embedding": np.stack([torch(text).last_hidden_state[0].mean(0).numpy() for text in strings(inputs[0])])
        }

    return answer


def generation(files: Files, folder: Path, **options: Any) -> Plain:
    """The likeliest tokens, or those drawn with a seed."""
    shutil.copytree(files["gpt2"], folder, dirs_exist_ok=True)
    found = Torch(folder, "AutoModelForCausalLM")
    found.tokens.truncation_side = "left"
    start = found.tokens.bos_token

    def one(text: str) -> str:
        import torch

        given = found.tokens(text or start, return_tensors="pt", truncation=True, max_length=LONGEST - MADE)
        torch.manual_seed(SEED)
        made = found.model.generate(**given, max_new_tokens=MADE, pad_token_id=0, **{"do_sample": False, **options})
        return str(found.tokens.decode(made[0][given["input_ids"].shape[1] :], skip_special_tokens=True))

    return lambda inputs: {"text": [one(text) for text in strings(inputs[0])]}


def drawn(files: Files, folder: Path) -> Plain:
    return generation(files, folder, do_sample=True, temperature=2.0, top_k=0)


WRITERS: dict[str, Callable[[Files, Path], Plain]] = {
    "text classification": classification,
    "next sentence": following,
    "token classification": tokens,
    "embedding": embedding,
    "generation": generation,
    "generation, drawn": drawn,
}


def cases(files: Files) -> dict[str, Case]:
    def case(name: str, rows: st.SearchStrategy[Inputs], **more: Any) -> Case:
        return Case(lambda folder: WRITERS[name](files, folder), rows, 1e-4, 1e-4, **more)

    return {
        "text classification": case("text classification", columns(text())),
        "next sentence": case("next sentence", columns(text(), text())),
        "token classification": case("token classification", columns(text(cut=False))),
        "embedding": case("embedding", columns(text())),
        "generation": case("generation", columns(text(cut=False)), compiled=False, parameters={"max_new_tokens": MADE}),
        "generation, drawn": case(
            "generation, drawn",
            columns(text(cut=False)),
            compiled=False,
            parameters={"max_new_tokens": MADE, "temperature": 2.0, "seed": SEED},
        ),
    }


@pytest.fixture(scope="module", params=list(WRITERS))
def ways(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, tiny_gpt2: Path
) -> Iterator[Ways]:
    case = cases({"bert": tiny_bert, "gpt2": tiny_gpt2})[request.param]
    with served(case, tmp_path_factory.mktemp("agreement")) as found:
        yield found


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_way_of_asking_gives_the_librarys_answer(ways: Ways, data: st.DataObject) -> None:
    check(ways, data.draw(ways.case.rows))
