"""With which precision networks compute."""

from __future__ import annotations

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself.

    Plain CPUs and GPUs before Ampere only imitate it: on a CPU it is then about 45 times as slow as float32. PyTorch
    counts GPUs that imitate it unless it is told not to.
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
