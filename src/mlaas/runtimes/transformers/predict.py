"""Recipe `predict`: answer a list of inputs with a model."""

from typing import Any

from mlaas.kernel.errors import Invalid
from mlaas.runtimes import model_folder
from mlaas.runtimes.data.fetch import fetch
from mlaas.runtimes.taskfile import TaskFile
from mlaas.runtimes.transformers.spec import PredictInput, PredictParams


def main(task: TaskFile) -> dict[str, Any]:
    """`{predictions: [...], warnings}`, one an input, in the shape that the objective has. Raises Invalid."""
    params = PredictParams.model_validate(task.params)
    _shapes(params.model.objective, params.predict_input)

    import torch

    from mlaas.runtimes.transformers import folder, precision
    from mlaas.runtimes.transformers.objectives import named
    from mlaas.runtimes.transformers.objectives.tokenizing import fits, longest_input, padding_token

    torch.set_num_threads(max(1, round(task.cores)))
    objective = named(params.model.objective)()
    source = fetch(task, "model")
    model_folder.check_model(source, objective.name, shown=params.model.path)
    words = fetch(task, "tokenizer") if params.tokenizer is not None else source
    tokens = folder.tokenizer(words, "tokenizer" if params.tokenizer is not None else "model")
    torch.manual_seed(0)
    model, said, _ = folder.load(source, objective)
    fits(tokens, model.config, "model.path" if params.tokenizer is None else "tokenizer.path")
    if tokens.pad_token_id is None:
        tokens.pad_token = tokens.convert_ids_to_tokens(padding_token(tokens, model.config))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokens.pad_token_id
    model = model.to(precision.device()).eval()
    warnings = [text + " Its answers mean nothing before it is trained." for text in said if "afresh" in text]
    longest = longest_input(tokens, model.config)
    cut = 0
    if params.model.objective != "question-answering":
        texts = [item if isinstance(item, list) else [item] for item in params.predict_input.input_text]
        long = [text for text in texts if sum(map(len, text)) > longest]  # a token has a character at least
        cut = sum(len(tokens(*text, verbose=False)["input_ids"]) > longest for text in long)
    if cut:
        warnings.append(f"{cut} inputs are longer than {longest} tokens and were cut.")
    with torch.inference_mode(), folder.quiet():
        predictions = objective.predict(model, tokens, params.predict_input, source)
    return {"predictions": predictions, **({"warnings": warnings} if warnings else {})}


def _shapes(objective: str, asked: PredictInput) -> None:
    """Raises Invalid for an input that is not of the objective's shape, with its number."""
    wanted: tuple[type, ...]
    if objective == "question-answering":
        wanted, words = (dict,), 'a question with its context: {"question": "...", "context": "..."}'
    elif objective == "next-sentence-prediction":
        wanted, words = (list,), "a pair: [text, text_pair]"
    elif objective == "text-classification":
        wanted, words = (str, list), "a text, or a pair: [text, text_pair]"
    else:
        wanted, words = (str,), "a text"
    for i, item in enumerate(asked.input_text):
        if not isinstance(item, wanted):
            raise Invalid(
                f"Input {i} is not what {objective} answers.",
                field=f"predict_input.input_text.{i}",
                hint=f"Each input is {words}.",
            )
