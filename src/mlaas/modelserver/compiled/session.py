"""ONNX Runtime sessions as a model server wants them: one thread, little memory. The library is imported when first used."""

from importlib import import_module
from pathlib import Path
from typing import Any


def preload() -> None:
    """Import ONNX Runtime (about 0.1 s): called in a thread at start by whoever expects models that need it."""
    import_module("onnxruntime")


def open_session(model: Path | bytes, *, threads: int = 1, optimise: bool = True, device: str = "cpu") -> Any:
    """A session that runs in the calling thread, without an arena: memory goes back after each run.

    `optimise` False leaves the graph as it is, which loads faster: for graphs of a single node. `device` is `cpu`, `cuda`,
    `cuda:N` or `auto`; one that ONNX Runtime does not have falls back to the CPU.
    """
    ort = import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    if threads > 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    content = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(content, options, providers=_providers(ort, device))


def _providers(ort: Any, device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind in ("cuda", "auto") and "CUDAExecutionProvider" in ort.get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
