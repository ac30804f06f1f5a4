"""Checkpoints of a training run: tensors as safetensors, the rest as JSON, never a pickle."""

import fcntl
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from emotionnet.files import write_whole
from emotiontrain.distributed import Processes

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"
BEST, LOCK = "best.safetensors", ".lock"

_MEND = "make room or choose another folder, and the same command goes on from the last whole epoch"


@contextmanager
def lock(folder: Path, processes: Processes) -> Generator[None, None, None]:
    """Makes a run's folder and keeps it for this run, until it ends or is killed; only the first process asks.

    Raises:
        OSError: the folder cannot be made or written, or another run has it.
    """
    if not processes.first:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise OSError(f"{folder}: cannot be a run's folder ({error.strerror}); choose another") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OSError(f"{folder}: another training has this folder; wait for its end, or choose another") from error
        yield


def save_checkpoint(
    folder: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Writes model, its moving average, the optimizer's tensors and `state` in one file, whole or not at all.

    `state` stands in a JSON beside it too, for people; programs read it with `read_state`.

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


def restore(folder: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Gives model, average and optimizer the tensors that `save_checkpoint` wrote of a run with the same settings.

    Raises:
        OSError: the checkpoint cannot be read.
    """
    tensors = safetensors.torch.load_file(folder / TENSORS)

    def under(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(under("model."))
    average.load_state_dict(under("average."))
    values: dict[int, dict[str, Tensor]] = {}
    for key, tensor in under("optimizer.").items():
        index, name = key.split(".", 1)
        values.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})


def read_state(folder: Path) -> dict[str, Any] | None:
    """Returns the `state` of the checkpoint in `folder`, None where there is none.

    Raises:
        OSError: it cannot be read.
    """
    path = folder / TENSORS
    if not path.exists():
        return None
    try:
        opened: Any = safetensors.safe_open(path, framework="pt")
        with opened as file:
            return json.loads(file.metadata()["state"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path}: is no checkpoint that can be read ({error}); "
                      "remove the folder and train again") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors as safetensors, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole({path: safetensors.torch.save({k: v.contiguous().cpu() for k, v in tensors.items()}, metadata)}, _MEND)


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole({path: (json.dumps(content, indent=2) + "\n").encode()}, _MEND)
