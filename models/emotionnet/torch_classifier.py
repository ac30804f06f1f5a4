"""The classifier in torch, for a GPU: batches of a few fixed sizes, everything but the crops stays on the device."""

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from emotionnet.classifier import check_crops, check_finite
from emotionnet.network import Conv, EmotionNet, calibrated, shapes
from emotionnet.weights import SAFETENSORS, WeightsError, WeightsInfo

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Sizes that batches are filled up to, so that a device prepares a few shapes once instead of any size anew."""


class TorchClassifier:
    """A `Classifier` on a torch device, in half precision on a GPU.

    Attributes:
        info: the weights in use.
        device: what it runs on.
        dtype: that it calculates in.
        network: on the device, its batch normalisations folded.
    """

    def __init__(self, info: WeightsInfo, device: str) -> None:
        """Loads the safetensors of `info`.

        Raises:
            WeightsError: wrong hash, unreadable, or tensors that are not those of this network with these labels.
            RuntimeError: the device is not there.
        """
        self.info = info
        self.device = find_device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        network = fold_norms(load_network(info)).requires_grad_(False)
        self.network = network.to(self.device, self.dtype).to(memory_format=torch.channels_last)

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classifies crops, as `Classifier` says."""
        check_crops(crops, self.info)
        out = np.empty((len(crops), len(self.info.labels)), np.float32)
        for start in range(0, len(crops), BUCKETS[-1]):
            chunk = crops[start:start + BUCKETS[-1]]
            padded = np.zeros((bucket(len(chunk)), *crops.shape[1:]), np.uint8)
            padded[:len(chunk)] = chunk
            probabilities = self.probabilities(torch.from_numpy(padded).to(self.device))
            out[start:start + len(chunk)] = probabilities[:len(chunk)].cpu().numpy()
        return check_finite(out)

    @torch.inference_mode()
    def probabilities(self, crops: Tensor) -> Tensor:
        """Classifies crops that are on the device, without waiting for it.

        Args:
            crops: (N, side, side) full-range luma, 0..255, of any type.

        Returns:
            (N, classes) float32 calibrated probabilities; not a number where the network gave none.
        """
        spec = self.info.input
        grey = ((crops.float() * (1 / 255) - spec.mean) * (1 / spec.std)).to(self.dtype)     # as preprocess.normalize
        planes = grey[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        return calibrated(self.network.logits(planes).float(), self.info.calibration.temperature)


def load_network(info: WeightsInfo) -> EmotionNet:
    """Returns EmotionNet with the weights of `info`, in evaluation mode, float32, on the CPU.

    Raises:
        WeightsError: wrong hash, unreadable, or tensors that are not those of this network with these labels.
    """
    path = info.file(SAFETENSORS)
    try:
        tensors = load(info.read(SAFETENSORS))
    except SafetensorError as error:
        raise WeightsError(f"{path}: is no readable safetensors ({error}); export the set again") from error
    expected = shapes(len(info.labels))
    for name in sorted(expected.keys() | tensors.keys()):
        shape = tuple(tensors[name].shape) if name in tensors else None
        if shape != expected.get(name):
            raise WeightsError(f"{path}: its {name} is {_size(shape)}, but EmotionNet with the {len(info.labels)} "
                               f"labels of the JSON beside it has {_size(expected.get(name))}; give a set that fits")
        if not torch.isfinite(tensors[name]).all():
            raise WeightsError(f"{path}: its {name} holds values that are not numbers; "
                               "export the set again from a run that did not diverge")
    network = EmotionNet(3, len(info.labels))
    network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    return network.eval()


def fold_norms(network: EmotionNet) -> EmotionNet:
    """Folds each batch normalisation into the convolution before it, in place: the same function in fewer steps."""
    for module in network.modules():
        if isinstance(module, Conv):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.register_module("bn", nn.Identity())
    return network


def _size(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "one value"


def find_device(name: str) -> torch.device:
    """Returns a torch device that is there.

    Raises:
        RuntimeError: it is not.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise RuntimeError(f"device {name} is not there ({str(error).splitlines()[0]}); use device cpu") from error
    return device


def bucket(count: int) -> int:
    """Returns the size that a batch of `count`, at most the largest, is filled up to."""
    return next(size for size in BUCKETS if size >= count)
