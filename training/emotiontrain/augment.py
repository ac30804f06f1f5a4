"""Augmentations on whole batches, each picture with its own draw: torchvision transforms that keep two cores fed.

torchvision's own transforms draw one set of values a call, so that they would have to run picture by picture.
Faces are mirrored left to right but not turned upside down: no camera sees them so, and the network would spend
its few weights on it. Each picture's values are drawn on the CPU, from torch's global generator, but for the noise,
which the device draws; what is done with them is done on the device, for which nothing waits, so that a GPU has work
while the next batch is prepared.
"""

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from emotiontrain.recipe import Augmentation
from emotiontrain.transfer import send

CPU = torch.device("cpu")


def augmentation(strength: Augmentation, side: int, device: torch.device = CPU) -> v2.Compose:
    """Returns the transform from (B, H, W) uint8 on the CPU to (B, 1, side, side) float 0..1 on a device."""
    return v2.Compose([
        LowResolution(strength.low_resolution),
        Jpeg(strength.jpeg),
        ToFloat(device),
        Blur(strength.blur),
        Move(strength, side),
        Light(strength.contrast, strength.brightness),
        Noise(strength.noise),
        Erase(strength.erase),
    ])


class Sometimes(v2.Transform):
    """Changes each picture of a batch with the same probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def choose(self, batch: Tensor) -> Tensor:
        """Draws which pictures are changed, (B,) on the CPU."""
        return torch.rand(len(batch)) < self.probability


class LowResolution(Sometimes):
    """Scales some of (B, H, W) uint8 down to a few pixels and back."""

    SIDES = (16, 20, 24, 28, 32, 40)

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch with some pictures coarser; each drawn side is one call of the scaler."""
        chosen = self.choose(inpt)
        size = torch.randint(len(self.SIDES), (len(inpt),))
        out = inpt.clone()
        for index, side in enumerate(self.SIDES):
            group = chosen & (size == index)
            if group.any() and side < inpt.shape[-1]:
                small = functional.interpolate(inpt[group][:, None].float(), (side, side), mode="area")
                back = functional.interpolate(small, inpt.shape[-2:], mode="bilinear", align_corners=False)
                out[group] = back[:, 0].round().to(torch.uint8)
        return out


class Jpeg(Sometimes):
    """Compresses some of (B, H, W) uint8."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch with some pictures compressed and decoded."""
        chosen, quality = self.choose(inpt), torch.randint(15, 71, (len(inpt),))
        out = inpt.clone()
        for index in np.flatnonzero(chosen.numpy()):
            _, data = cv2.imencode(".jpg", inpt[index].numpy(), [cv2.IMWRITE_JPEG_QUALITY, int(quality[index])])
            out[index] = torch.from_numpy(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)))
        return out


class ToFloat(v2.Transform):
    """Turns (B, H, W) uint8 into (B, 1, H, W) float 0..1 on a device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch as floats."""
        return send(inpt[:, None], self.device).float() / 255


class Blur(Sometimes):
    """Blurs some of (B, 1, H, W) with Gaussians of .4 to 1.5 pixels."""

    RADIUS = 4

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch with some pictures blurred: one separable kernel a picture, as a grouped convolution."""
        chosen, sigma = self.choose(inpt), 0.4 + 1.1 * torch.rand(len(inpt))
        if not chosen.any():
            return inpt
        sigma = sigma[chosen, None]
        kernel = torch.exp(-torch.arange(-self.RADIUS, self.RADIUS + 1) ** 2 / (2 * sigma ** 2))
        kernel = send(kernel / kernel.sum(dim=1, keepdim=True), inpt.device)      # (n, 2r + 1)
        rows = _rows(chosen, inpt)
        few = inpt[rows].transpose(0, 1)                                          # (1, n, H, W): a group a picture
        few = functional.pad(few, [self.RADIUS] * 4, mode="replicate")
        few = functional.conv2d(few, kernel[:, None, :, None], groups=len(kernel))
        few = functional.conv2d(few, kernel[:, None, None, :], groups=len(kernel))
        out = inpt.clone()
        out[rows] = few.transpose(0, 1)
        return out


class Move(v2.Transform):
    """Mirrors, turns, zooms and shifts (B, 1, H, W) in one resampling to (B, 1, side, side)."""

    def __init__(self, strength: Augmentation, side: int) -> None:
        super().__init__()
        self.strength, self.side = strength, side

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch moved; what comes into view repeats the picture's edge."""
        count, strength = len(inpt), self.strength
        angle = torch.deg2rad(_uniform(count, strength.rotate))
        scale = 1 + _uniform(count, strength.zoom)
        mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
        turn = torch.where(torch.rand(count) < strength.upside_down, -1.0, 1.0)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        theta = send(torch.stack([
            torch.stack([cos * mirror, -sin * turn, _uniform(count, 2 * strength.shift)], dim=1),
            torch.stack([sin * mirror, cos * turn, _uniform(count, 2 * strength.shift)], dim=1),
        ], dim=1), inpt.device)                                                   # (B, 2, 3)
        if inpt.shape[-1] > 2 * self.side:  # bilinear sampling would skip pixels
            inpt = functional.interpolate(inpt, (self.side, self.side), mode="area")
        grid = functional.affine_grid(theta, [count, 1, self.side, self.side], align_corners=False)
        return functional.grid_sample(inpt, grid, mode="bilinear", padding_mode="border", align_corners=False)


class Light(v2.Transform):
    """Changes contrast and brightness of (B, 1, H, W)."""

    def __init__(self, contrast: float, brightness: float) -> None:
        super().__init__()
        self.contrast, self.brightness = contrast, brightness

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch in other light, within 0..1."""
        contrast = send((1 + _uniform(len(inpt), self.contrast)).view(-1, 1, 1, 1), inpt.device)
        brightness = send(_uniform(len(inpt), self.brightness).view(-1, 1, 1, 1), inpt.device)
        middle = inpt.mean(dim=(1, 2, 3), keepdim=True)
        return ((inpt - middle) * contrast + middle + brightness).clamp(0, 1)


class Noise(Sometimes):
    """Adds Gaussian noise to some of (B, 1, H, W)."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch with some pictures noisy, within 0..1."""
        chosen, strength = self.choose(inpt), 0.06 * torch.rand(len(inpt))
        if not chosen.any():
            return inpt
        out, rows = inpt.clone(), _rows(chosen, inpt)
        few = out[rows]
        out[rows] = (few + torch.randn_like(few) * send(strength[chosen].view(-1, 1, 1, 1), inpt.device)).clamp(0, 1)
        return out


class Erase(Sometimes):
    """Covers a rectangle of some of (B, 1, H, W) with the picture's mean (arXiv:1708.04896)."""

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Returns the batch with some pictures partly covered."""
        count, _, side, _ = inpt.shape
        centre, half = torch.rand(count, 2) * side, torch.rand(count, 2) * side * 0.2
        along = torch.arange(side) + 0.5
        rows = (along[None] - centre[:, :1]).abs() < half[:, :1]                  # (B, side)
        columns = (along[None] - centre[:, 1:]).abs() < half[:, 1:]
        chosen = self.choose(inpt).view(-1, 1, 1)
        rows, columns = send(rows[:, :, None] & chosen, inpt.device), send(columns[:, None, :], inpt.device)
        mask = (rows & columns)[:, None]
        return torch.where(mask, inpt.mean(dim=(1, 2, 3), keepdim=True), inpt)


def _uniform(count: int, limit: float) -> Tensor:
    return (torch.rand(count) * 2 - 1) * limit


def _rows(chosen: Tensor, batch: Tensor) -> Tensor:
    """Returns the places of those chosen on the batch's device, which need not be asked for them."""
    return send(chosen.nonzero()[:, 0], batch.device)
