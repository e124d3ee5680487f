"""The number format that a training computes in."""

import torch

from mlaas.kernel.errors import Invalid


def compute_type(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the processor multiplies it in hardware, else float32. Raises Invalid for a bf16 that would
    only be emulated on an accelerator."""
    if wanted == "fp32":
        return torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
        if wanted == "bf16" and not fast:
            raise Invalid("The accelerator has no bfloat16.", field="model_train.precision", hint="Use fp32 or auto.")
    else:
        fast = wanted == "bf16" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
