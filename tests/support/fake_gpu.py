"""A GPU without values: torch's fake tensors know shape, type and device, and refuse what would have to wait for one.

An operation on tensors of two devices fails as it would on a GPU; so does whatever asks for a value, which a recorded
step must not do.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from emotionnet.torch_classifier import TorchClassifier
from emotionnet.weights import load_info
from yunet.colour import Colour
from yunet.torch_detector import TorchDetector

GPU = torch.device("cuda:0")


@contextmanager
def fake_gpu() -> Generator[FakeTensorMode]:
    """Has tensors made meanwhile be fake ones, on the GPU where it is asked for."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


class NothingWaits(TorchDispatchMode):
    """Fails where a copy between devices would wait for the GPU to have done all that it was given."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls what is to be done, and looks at it if it is a copy."""
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default:
            _check(args[0], made, kwargs.get("non_blocking"))
        elif func is torch.ops.aten.copy_.default:
            _check(args[1], args[0], args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        return made


def _check(source: Tensor, target: Tensor, non_blocking: object) -> None:
    assert non_blocking or source.device == target.device, f"a copy from {source.device} to {target.device} waits"


def sending(mode: FakeTensorMode) -> Callable[[Tensor, torch.device], Tensor]:
    """Returns what stands in for `emotiontrain.transfer.send`: real tensors of the CPU go in, fake ones come out."""
    def send(tensor: Tensor, device: torch.device) -> Tensor:
        with mode:
            return mode.from_tensor(tensor).to(device, non_blocking=True)
    return send


def load_for_it(*colours: Colour) -> tuple[TorchClassifier, TorchDetector]:
    """Returns both networks as they are on a GPU, in half precision, but for their values."""
    classifier, detector = TorchClassifier(load_info("builtin"), "cpu"), TorchDetector("cpu", 0.6, 0.45, 1000)
    for network in (classifier.network, *map(detector.network, colours)):
        move(network)
    for owner in (classifier, detector):
        owner.device, owner.dtype = GPU, torch.float16
    return classifier, detector


def move(network: nn.Module) -> None:
    """Puts a network there, in half precision and without values."""
    with fake_gpu():
        for module in network.modules():
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                dtype = torch.float16 if value.is_floating_point() else value.dtype
                there = torch.empty_like(value, dtype=dtype, device=GPU)
                setattr(module, name, nn.Parameter(there, False) if isinstance(value, nn.Parameter) else there)
