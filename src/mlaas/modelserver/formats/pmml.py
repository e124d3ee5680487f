"""PMML files: recognised, so that their owner is told what to do with them, but not opened.

What evaluates PMML as its specification says (JPMML, PMML4S) runs on a Java virtual machine. The one Python library that does not
reads part of the language and passes over the rest without a word: transformations, link functions and targets of a regression
are ignored, and the answers are wrong.
"""

from pathlib import Path
from typing import NoReturn

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened
from mlaas.modelserver.formats.folder import has_file, model_file

_FILES = ("model.pmml",)


class Pmml(Format):
    name = "pmml"
    packages = ()
    files = "model.pmml"

    def detects(self, root: Path) -> bool:
        return has_file(root, _FILES, (".pmml",))

    def open(self, opened: Opened) -> NoReturn:
        file = model_file(opened.root, _FILES, (".pmml",))
        raise Invalid(
            f"{file.name if file is not None else opened.root.name} is a PMML file, which needs a Java virtual machine.",
            field="format",
            hint="Save the model itself where you have it: skops, ONNX, or XGBoost's and LightGBM's own files. Where you only "
            "have PMML, put a model.py beside it that asks JPMML, with `environment: {requirements: [jpmml-evaluator, "
            "pandas]}` and Java on this machine: docs/serving.md, PMML, has it.",
        )


FORMAT = Pmml()
