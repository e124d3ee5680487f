"""Import this to be warm: what a process should have imported before a task comes. No tensor, no tokenizer, no thread.

transformers and torch load most of their modules at first use, some seconds' worth: the code of the usual architectures, of
saving and loading, and of the optimisers is named here.
"""

import importlib
import logging

_NEEDED = (
    "numpy",
    "pyarrow",
    "pyarrow.compute",
    "pyarrow.csv",
    "safetensors.torch",
    "tokenizers",
    "torch",
    "torch._dynamo",
    "torch.optim",
    "transformers",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.tokenization_utils_tokenizers",
    "mlaas.runtimes.augment.enlarge",
    "mlaas.runtimes.commit",
    "mlaas.runtimes.data.fetch",
    "mlaas.runtimes.data.read",
    "mlaas.runtimes.report",
    "mlaas.runtimes.transformers.finetune",
    "mlaas.runtimes.transformers.predict",
    "mlaas.runtimes.transformers.prepare",
    "mlaas.runtimes.transformers.training",
    "mlaas.runtimes.transformers.objectives.text_classification",
    "mlaas.runtimes.transformers.objectives.masked",
    "mlaas.runtimes.transformers.objectives.causal",
    "mlaas.runtimes.transformers.objectives.embedding",
    *(
        f"transformers.models.{name}.modeling_{name}"
        for name in ("bert", "distilbert", "roberta", "xlm_roberta", "gpt2", "llama", "longformer")
    ),
    "transformers.models.bert.tokenization_bert",
    "transformers.models.roberta.tokenization_roberta",
    "transformers.models.gpt2.tokenization_gpt2",
)


def warm() -> list[str]:
    """Import all of it; the names of what could not be, which a task then imports (or fails on) itself."""
    missing = []
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:
            logging.getLogger(__name__).info("%s is not warm: %s", name, error)
            missing.append(name)
    _rename_rules()
    return missing


def _rename_rules() -> None:
    """transformers compiles some thousand patterns that rename old weights at the first load, and keeps them."""
    try:
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("bert")
    except Exception as error:
        logging.getLogger(__name__).info("The rename rules are not warm: %s", error)


MISSING = warm()
