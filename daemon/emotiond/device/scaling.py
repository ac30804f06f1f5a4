"""Scales whole planes on a device as libswscale's AREA does on a CPU, by two products with matrices of weights."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

LEFT_SITED = 0.25
"""How far right of its chroma sample a pixel's middle lies, in samples, in H.264's and MPEG-2's 4:2:0."""


class Scaling:
    """From planes of one size to planes of another."""

    def __init__(
        self, size: tuple[int, int], target: tuple[int, int], dtype: torch.dtype, device: torch.device,
        shift: float | None = 0.0,
    ) -> None:
        """Makes the weights.

        Args:
            size: height and width that there are.
            target: height and width that shall be.
            dtype: to calculate in.
            device: where.
            shift: how far right of its sample a pixel's middle lies, in samples; None repeats each sample, where
                `target` is a multiple.
        """
        self._target, self._dtype, self._shift = target, dtype, shift
        self._ratio = (size[0] // target[0], size[1] // target[1])
        self._is_whole = size == (target[0] * self._ratio[0], target[1] * self._ratio[1]) and shift == 0
        if shift is not None and not self._is_whole:
            self._rows, self._columns = (
                _weights(length, wanted, moved).to(device, dtype)
                for length, wanted, moved in zip(size, target, (0.0, shift), strict=True))

    def __call__(self, planes: Tensor) -> Tensor:
        """Scales planes (B, C, H, W) of any type; waits for nothing."""
        planes = planes.to(self._dtype)
        if self._shift is None:
            return interpolate(planes, self._target, mode="nearest")
        if self._is_whole:
            return planes if self._ratio == (1, 1) else avg_pool2d(planes, self._ratio)
        return self._rows @ planes @ self._columns.T


def _weights(size: int, target: int, shift: float) -> Tensor:
    """Returns each sample's weight in each pixel of the result, (target, size) float64.

    A pixel is the mean of what it covers, beyond the edge of the edge's sample; where the result is larger, it lies
    between two samples.
    """
    ratio = size / target
    pixel, sample = torch.arange(target, dtype=torch.float64)[:, None], torch.arange(-1, size + 1, dtype=torch.float64)
    if ratio < 1:
        centre = ((pixel + 0.5) * ratio - 0.5 + shift).clamp(0, size - 1)
        return (1 - (centre - sample[1:-1]).abs()).clamp(min=0)
    begin = pixel * ratio + shift
    weights = ((begin + ratio).minimum(sample + 1) - begin.maximum(sample)).clamp(min=0) / ratio
    weights[:, 1] += weights[:, 0]
    weights[:, -2] += weights[:, -1]
    return weights[:, 1:-1]
