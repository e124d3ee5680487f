"""PyTorch models: programs of `torch.export` (`model.pt2`), TorchScript (`model.pt`), and whole pickled modules where they are
trusted by name.

A program says what it takes and gives. TorchScript and a pickled module do not: `signature.json` (or the MLflow folder) says what
they take, and what they give is found by trying.
"""

import zipfile
from pathlib import Path
from typing import Literal

from mlaas.kernel.errors import Invalid
from mlaas.modelserver.formats.base import Format, Opened, Original
from mlaas.modelserver.formats.folder import has_file, head, model_file
from mlaas.modelserver.formats.pytorch_trust import unfamiliar

_NAMES = ("model.pt2", "model.pt", "model.ts", "model.pth")
_SUFFIXES = (".pt2", ".pt", ".ts", ".pth")


class PyTorch(Format):
    name = "pytorch"
    packages = ("torch",)
    files = "model.pt2 (torch.export) or model.pt (TorchScript)"

    def detects(self, root: Path) -> bool:
        return has_file(root, _NAMES, _SUFFIXES)

    def open(self, opened: Opened) -> Original:
        from mlaas.modelserver.formats import pytorch_models

        file = model_file(opened.root, _NAMES, _SUFFIXES)
        if file is None:
            raise Invalid(f"{opened.root.name} holds no model.pt2 or model.pt.", field="source")
        kind = kind_of(file)
        if kind == "pickle" and not opened.trusted:
            raise Invalid(
                f"{file.name} is a pickle: opening it runs whatever code its maker put into it.",
                field="trusted",
                hint="Save the model as a program: `torch.export.save(torch.export.export(model, args, dynamic_shapes=...), "
                "'model.pt2')`, or as TorchScript. Where you trust its maker: `trusted: true` (`mlaas serve --trust`).",
            )
        if kind == "program" and not opened.trusted and (found := unfamiliar(file)):
            raise Invalid(
                f"{file.name} holds {found}, which may be code of its maker's.",
                field="trusted",
                hint="Export it with operators of torch itself. Where you trust its maker: `trusted: true` "
                "(`mlaas serve --trust`).",
            )
        return pytorch_models.open_file(file, kind, opened)


def kind_of(file: Path) -> Literal["program", "script", "pickle"]:
    """What a file of torch holds, by the names in it. Raises Invalid for what is none."""
    if head(file, 4) != b"PK\x03\x04":
        if head(file, 1) == b"\x80":
            return "pickle"
        raise Invalid(
            f"{file.name} is no file of torch.",
            field="source",
            hint="Save it with `torch.export.save` or `torch.jit.save`.",
        )
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise Invalid(f"{file.name} is damaged: {error}.", field="source") from None
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "program"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        return "script"
    return "pickle"


FORMAT = PyTorch()
