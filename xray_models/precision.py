"""Which precision pays on this machine."""

import torch


def bf16_helps() -> bool:
    """Whether this machine computes bfloat16 in hardware (CUDA from Ampere on, CPUs with AVX512-bf16 or AMX)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
