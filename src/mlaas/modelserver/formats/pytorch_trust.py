"""What a program of `torch.export` may hold to be opened for anybody.

torch builds such a program by looking names up (`torch.os.system` is one), by evaluating the text of symbolic sizes, by running
its guards as Python and by loading native code that was packed with it. So its documents are read before torch does: operators
and arithmetic only, and sizes that are sums and products.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlaas.kernel.errors import Invalid

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized|quantized_decomposed|torchao|torchvision|mkldnn)\.(__[a-z]+__|_?[A-Za-z]\w*)(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan|invoke_subgraph|flex_attention"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\._?sym_[a-z]\w*"
    r"|math\.[a-z]\w*"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|and_|or_|xor|not_|invert|lshift|rshift"
    r"|eq|ne|lt|le|gt|ge|getitem|index)"
)
_SIZE = re.compile(  # SymPy's: Add(Symbol('s31', positive=True, integer=True), Integer(1)), or s31 + 1
    r"(?>[A-Z][A-Za-z]*|[a-z]+\d+|True|False|positive|negative|nonnegative|integer|real|evaluate|'\w+'"
    r"|\d+(?:\.\d+)?(?:e[+-]?\d+)?|[\s+\-*/%(),<>=!&|~])*+"
)
_LARGEST = 1 << 28  # bytes of a document


def unfamiliar(file: Path) -> str:
    """What in a program's file is neither operators nor arithmetic; "" where there is nothing. Raises Invalid for a file whose
    documents cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if any("data/aotinductor/" in name for name in names):
                return "native code (AOTInductor)"
            if any("opaque_obj" in name for name in names):
                return "pickled objects"
            for item in archive.infolist():
                if "/models/" in f"/{item.filename}" or item.filename.endswith("exported_program.json"):
                    if item.file_size > _LARGEST:
                        raise Invalid(f"{file.name}: the description of its graph is too large.", field="source")
                    found = _unfamiliar(json.loads(archive.read(item)))
                    if found:
                        return found
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise Invalid(f"{file.name} is damaged: {error}.", field="source") from None
    return ""


def _unfamiliar(document: Any) -> str:
    for key, value in _strings(document):
        if key == "target" and value and not _OPERATOR.fullmatch(value):
            return f"a call of '{value[:100]}'"
        if key == "expr_str" and not _SIZE.fullmatch(value):
            return f"a size '{value[:100]}'"
    return ""


def _strings(document: Any) -> Iterator[tuple[str, str]]:
    """Every text in a document that has a key, with that."""
    pending = [document]
    while pending:
        here = pending.pop()
        if isinstance(here, dict):
            for key, value in here.items():
                if isinstance(value, str):
                    yield key, value
                else:
                    pending.append(value)
        elif isinstance(here, list):
            pending.extend(here)
