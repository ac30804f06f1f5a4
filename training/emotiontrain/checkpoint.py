"""Checkpoints of a training run: tensors as safetensors, the rest as JSON, never a pickle."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"
BEST = "best.safetensors"


def save_checkpoint(
    folder: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Writes model, its moving average, the optimizer's tensors and `state`, each file whole or not at all.

    Raises:
        OSError: a file cannot be written; the ones before it stay.
    """
    tensors: dict[str, Tensor] = {}
    tensors |= {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
    write_tensors(folder / TENSORS, tensors, {"state": json.dumps(state)})
    write_json(folder / STATE, state)


def load_checkpoint(
    folder: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restores what `save_checkpoint` wrote and returns its `state`, or None where there is no checkpoint.

    Raises:
        OSError: the checkpoint cannot be read.
    """
    path = folder / TENSORS
    if not path.exists():
        return None
    try:
        opened: Any = safetensors.safe_open(path, framework="pt")
        with opened as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path}: is no checkpoint that can be read ({error}); "
                      "remove the folder and train again") from error

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    # before anything is loaded: another recipe's tensors need not fit
    values: dict[int, dict[str, Tensor]] = {}
    for key, tensor in under("optimizer.").items():
        index, name = key.split(".", 1)
        values.setdefault(int(index), {})[name] = tensor
    try:
        model.load_state_dict(under("model."))
        average.load_state_dict(under("average."))
    except RuntimeError:
        return state  # of another network: the caller compares the settings and says so
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    content = safetensors.torch.save({k: v.contiguous().cpu() for k, v in tensors.items()}, metadata)
    _write_whole(path, lambda partial: partial.write_bytes(content))


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    text = json.dumps(content, indent=2) + "\n"
    _write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{path}: cannot be written ({error.strerror}); make room or choose another folder, and the same "
                      "command goes on from the last whole epoch") from error
