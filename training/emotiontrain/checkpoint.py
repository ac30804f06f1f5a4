"""Checkpoints of a training run: tensors as safetensors, the rest as JSON, never a pickle."""

import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"


def save_checkpoint(
    folder: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Writes model, its moving average, the optimizer's tensors and `state`, each file whole or not at all."""
    tensors: dict[str, Tensor] = {}
    tensors |= {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v.contiguous() for k, v in average.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v.contiguous() for k, v in values.items()}
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{TENSORS}.part"
    safetensors.torch.save_file(tensors, partial, metadata={"state": json.dumps(state)})
    os.replace(partial, folder / TENSORS)
    write_json(folder / STATE, state)


def load_checkpoint(
    folder: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restores what `save_checkpoint` wrote and returns its `state`, or None where there is no checkpoint."""
    path = folder / TENSORS
    if not path.exists():
        return None
    opened: Any = safetensors.safe_open(path, framework="pt")
    with opened as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
    tensors = safetensors.torch.load_file(path)

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(under("model."))
    average.load_state_dict(under("average."))
    values: dict[int, dict[str, Tensor]] = {}
    for key, tensor in under("optimizer.").items():
        index, name = key.split(".", 1)
        values.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, whole or not at all."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)
