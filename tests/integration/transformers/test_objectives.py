"""Every objective trains on a small real model, saves, and its result predicts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlaas.kernel.errors import Invalid
from mlaas.runtimes.taskfile import TaskFile
from mlaas.runtimes.transformers import finetune, predict

from .conftest import PLACES, affiliations, write_csv, write_lines

Make = Callable[..., TaskFile]


def train(task: Make, model: Path, data: Path, objective: str, **more: Any) -> dict[str, Any]:
    settings = {"epochs": 3, "batch_size": 8, "optimizer": {"init_lr": 5e-3}, **more}
    body = {
        "model": {"path": str(model), "objective": objective},
        "dataset": {"path": str(data), "train_test_split": 0.2},
        "model_train": settings,
    }
    result = finetune.main(task("finetune", body))
    assert result["history"]["loss"][-1] < result["history"]["loss"][0]
    assert {"loss", "accuracy"} <= set(result["evaluation"])
    assert result["dataset"]["samples_test"] > 0
    return result


def answer(task: Make, objective: str, inputs: list[Any], folder: Path, **more: Any) -> list[dict[str, Any]]:
    body = {"model": {"path": str(folder), "objective": objective}, "predict_input": {"input_text": inputs, **more}}
    predictions: list[dict[str, Any]] = predict.main(task("predict", body))["predictions"]
    return predictions


@pytest.mark.parametrize("kind", ["tiny_gpt2", "tiny_llama"])
def test_causal_lm(task: Make, kind: str, request: pytest.FixtureRequest, tmp_path: Path, workdir: Path) -> None:
    data = write_csv(tmp_path / "d.csv", ("text",), [(text,) for text, _ in affiliations(60)])
    result = train(task, request.getfixturevalue(kind), data, "causal-lm")
    assert result["evaluation"]["perplexity"] == pytest.approx(np.exp(result["evaluation"]["loss"]))
    found = answer(task, "causal-lm", ["INFN, Sez", "CERN"], workdir / "output", max_new_tokens=5)
    assert all(1 <= one["tokens"] <= 5 for one in found)
    assert any(one["text"] for one in found)


def test_masked_lm_then_without_an_objective(task: Make, tiny_bert: Path, tmp_path: Path, workdir: Path) -> None:
    data = write_csv(tmp_path / "d.csv", ("text",), [(text,) for text, _ in affiliations(60)])
    result = train(task, tiny_bert, data, "masked-lm", mlm_probability=0.15)
    assert result["evaluation"]["perplexity"] > 1
    saved = workdir / "output"
    found = answer(task, "masked-lm", ["INFN, [MASK] Phys, [MASK]"], saved, top_k=3)[0]
    assert [len(mask) for mask in found["masks"]] == [3, 3]
    assert found["masks"][0][0]["score"] >= found["masks"][0][1]["score"]
    assert "[MASK]" not in found["text"]
    assert found["text"].startswith("infn")
    with pytest.raises(Invalid, match="has no"):
        answer(task, "masked-lm", ["no mask"], saved)
    vectors = answer(task, "no-objective", ["INFN, Bari", "CERN, Geneva", "INFN, Bari"], saved)
    assert vectors[0] == vectors[2] != vectors[1]
    assert np.linalg.norm(vectors[0]["embedding"]) == pytest.approx(1, abs=1e-5)


def test_next_sentence_prediction(task: Make, tiny_bert: Path, tmp_path: Path, workdir: Path) -> None:
    places = list(PLACES.values())
    rows = [(f"We are in {p}", f"The city is {q}", str(int(p != q))) for p in places for q in places for _ in range(4)]
    data = write_csv(tmp_path / "d.csv", ("text", "text_pair", "label"), rows)
    train(task, tiny_bert, data, "next-sentence-prediction")
    found = answer(task, "next-sentence-prediction", [["We are in Bari", "The city is Bari"]], workdir / "output")
    assert set(found[0]["scores"]) == {"is_next", "not_next"}


def test_token_classification(task: Make, tiny_bert: Path, tmp_path: Path, workdir: Path) -> None:
    rows = []
    for text, _ in affiliations(80):
        words = text.replace(",", "").split()
        rows.append({"tokens": words, "tags": ["B-LOC" if word in PLACES.values() else "O" for word in words]})
    result = train(task, tiny_bert, write_lines(tmp_path / "d.jsonl", rows), "token-classification", epochs=4)
    assert result["evaluation"]["f1"] > 0.8
    assert set(result["evaluation"]["per_class"]) == {"LOC"}
    text = "INFN Dept Phys Frascati 12"
    (entity,) = answer(task, "token-classification", [text], workdir / "output")[0]["entities"]
    assert (entity["label"], entity["text"]) == ("LOC", "Frascati")
    assert text[entity["start"] : entity["end"]] == "Frascati"


def test_question_answering(task: Make, tiny_bert: Path, tmp_path: Path, workdir: Path) -> None:
    rows = []
    for text, label in affiliations(80):
        place = PLACES[label]
        context = "It is known. " * 3 + text
        rows.append(
            {
                "question": "Which city?",
                "context": context,
                "answers": {"text": [place], "answer_start": [context.index(place)]},
            }
        )
    result = train(task, tiny_bert, write_lines(tmp_path / "d.jsonl", rows), "question-answering", epochs=6)
    assert result["evaluation"]["f1"] > 0.5
    assert "exact_match" in result["evaluation"]
    context = "Nothing here. " * 40 + "INFN, Sez, Bari, 12"
    (found,) = answer(task, "question-answering", [{"question": "Which city?", "context": context}], workdir / "output")
    assert context[found["start"] : found["end"]] == found["answer"] != ""


@pytest.mark.parametrize("columns", [("text", "text_pair"), ("text", "label"), ("text",)])
def test_no_objective(task: Make, tiny_bert: Path, tmp_path: Path, workdir: Path, columns: tuple[str, ...]) -> None:
    rows = [{"text": text, "text_pair": PLACES[label] + text[:6], "label": label} for text, label in affiliations(60)]
    data = write_lines(tmp_path / "d.jsonl", [{name: row[name] for name in columns} for row in rows])
    train(task, tiny_bert, data, "no-objective")
    found = answer(task, "no-objective", ["INFN, Bari"], workdir / "output")
    assert len(found[0]["embedding"]) == 32


def test_embeddings_are_those_of_sentence_transformers(task: Make, minilm: Path) -> None:
    """Reference value: mean pooling and unit length, as the model's folder says."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    text = "INFN Bari, Dept Phys, Bari, Italy"
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    with torch.no_grad():
        mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
    expected = (mean / mean.norm()).numpy()
    found = answer(task, "no-objective", [text, "longer " * 20], minilm)[0]["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
