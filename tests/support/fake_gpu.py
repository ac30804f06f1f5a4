"""A GPU without values: torch's fake tensors know shape, type and device, and refuse what would have to wait for one.

An operation on tensors of two devices fails as it would on a GPU; so does whatever asks for a value, which a recorded
step must not do.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from emotionnet.torch_classifier import TorchClassifier
from emotionnet.weights import load_info
from yunet.colour import Colour
from yunet.torch_detector import TorchDetector

GPU = torch.device("cuda:0")


@contextmanager
def fake_gpu() -> Generator[None]:
    """Has tensors made meanwhile be fake ones, on the GPU where it is asked for."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def load_for_it(*colours: Colour) -> tuple[TorchClassifier, TorchDetector]:
    """Returns both networks as they are on a GPU, in half precision, but for their values."""
    classifier, detector = TorchClassifier(load_info("builtin"), "cpu"), TorchDetector("cpu", 0.6, 0.45, 1000)
    for network in (classifier.network, *map(detector.network, colours)):
        _move(network)
    for owner in (classifier, detector):
        owner.device, owner.dtype = GPU, torch.float16
    return classifier, detector


def _move(network: nn.Module) -> None:
    with fake_gpu():
        for module in network.modules():
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                dtype = torch.float16 if value.is_floating_point() else value.dtype
                there = torch.empty_like(value, dtype=dtype, device=GPU)
                setattr(module, name, nn.Parameter(there, False) if isinstance(value, nn.Parameter) else there)
