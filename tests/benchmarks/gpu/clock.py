"""How long a step takes on a device, and what it moves and calculates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from emotiond.device.runtime import Runtime

MOST_CALLS = 1000


def seconds_of(runtime: Runtime, step: Callable[[], object], at_least: float) -> float:
    """Returns the seconds of one call, from so many calls in a row that they take `at_least` seconds or so."""
    def measured(calls: int) -> float:
        with runtime.queue():
            begin = runtime.mark()
            for _ in range(calls):
                step()
            end = runtime.mark()
        runtime.wait(end)
        return runtime.seconds(begin, end) / calls

    measured(1)     # what is made at the first call
    first = max(measured(1), 1e-7)
    return measured(max(min(int(at_least / first), MOST_CALLS), 1))


@dataclass(frozen=True)
class Work:
    """What a network has to do for one batch.

    Attributes:
        operations: multiplications and additions of convolutions and products of matrices.
        bytes: what its layers read and write, weights included, each by itself; not those that are mere functions.
    """

    operations: int
    bytes: int


@torch.inference_mode()
def work_of(network: nn.Module, call: Callable[[], object]) -> Work:
    """Counts what `call`, which runs the network once, takes."""
    moved = 0

    def count(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        nonlocal moved
        tensors = [each for each in (*given, *(made if isinstance(made, tuple) else (made,)))
                   if isinstance(each, Tensor)]
        moved += sum(tensor.nbytes for tensor in (*tensors, *module.parameters(recurse=False)))

    hooks = [module.register_forward_hook(count) for module in network.modules()
             if not any(module.children()) and not isinstance(module, nn.Identity)]
    with FlopCounterMode(display=False) as counter:
        call()
    for hook in hooks:
        hook.remove()
    return Work(counter.get_total_flops(), moved)
