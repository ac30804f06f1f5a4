"""Several processes training one network, as torchrun starts them: gloo on CPUs, NCCL on GPUs."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from emotionnet.torch_classifier import find_device


@dataclass(frozen=True)
class Processes:
    """This process among all of the run.

    Attributes:
        rank: number of this process, from 0; 0 is the one that validates, writes and prints.
        count: how many there are.
        local_rank: number of this process on its machine: which GPU it takes.
        local_count: how many there are on its machine: they share its cores.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process validates, writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Returns this process's device: with `cuda`, each takes the GPU of its number.

        Raises:
            RuntimeError: no such device, or one GPU for several processes.
        """
        if self.count > 1 and name.startswith("cuda:"):
            raise RuntimeError(f"device {name} for {self.count} processes; give `cuda`, and each takes one of its own")
        return find_device(f"cuda:{self.local_rank}" if name == "cuda" else name)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Returns `model` so that its gradients are averaged over all processes."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    def agree(self, value: bool) -> bool:
        """Returns what the first process says."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def join(device: str) -> Generator[Processes, None, None]:
    """Joins the other processes where torchrun's environment says that there are some, and leaves them at the end."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    processes = Processes(int(os.environ["RANK"]), count, int(os.environ["LOCAL_RANK"]),
                          int(os.environ["LOCAL_WORLD_SIZE"]))
    if device.startswith("cuda"):
        torch.cuda.set_device(processes.local_rank)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield processes
    finally:
        distributed.destroy_process_group()
