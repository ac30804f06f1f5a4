"""Copies to a GPU for which nothing has to wait."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a CPU's tensor on a device; a plain copy to a GPU would wait for all that it has yet to do."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
