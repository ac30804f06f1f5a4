"""Cuts face crops out of luma on a device, as `emotionnet.preprocess.crop_square` does on a CPU.

Every crop takes the same number of samples, so that shapes do not depend on the faces; weights scale them, which are
OpenCV's: by area where a crop shrinks, and else linear, in its whole numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from emotionnet.preprocess import InputSpec

SAMPLES = 512
"""Pixels of a crop in each direction; of larger ones so many rows and columns are taken, five for each of the crop."""

_ONE = 2048     # a weight of 1 in OpenCV's linear scaling


def crop_faces(luma: Tensor, places: Tensor, boxes: Tensor, spec: InputSpec, *, full_range: bool) -> Tensor:
    """Cuts the squares around faces and scales them; the picture's edge is repeated where one reaches over it.

    Args:
        luma: (B, H, W) uint8.
        places: (N,) int64, whose face each is.
        boxes: (N, 4) x, y, width, height in pixels of `luma`.
        spec: side, margin and shift.
        full_range: whether luma goes from 0 to 255, not from 16 to 235.

    Returns:
        (N, side, side) float32, whole numbers of 0..255 of full range.
    """
    x, y, width, height = boxes.unbind(dim=1)
    side = (spec.margin * (width * height).clamp(min=0).sqrt()).clamp(min=2)
    across = _resample(x + width / 2 - side / 2, side, luma.shape[2], spec.side)
    down = _resample(y + height / 2 - side / 2 + spec.shift_y * side, side, luma.shape[1], spec.side)
    shrinks = ((across.length > spec.side) & (down.length > spec.side))[:, None, None]
    samples = luma[places[:, None, None], down.at[:, :, None], across.at[:, None, :]].float()    # (N, SAMPLES, SAMPLES)
    rows = samples @ torch.where(shrinks, across.area, across.linear).transpose(1, 2)            # (N, SAMPLES, side)
    crops = torch.where(shrinks, (down.area @ rows).round(), _blend_rows(rows, down))
    return crops if full_range else ((crops - 16) * (255 / 219)).round().clamp(0, 255)


class _Axis(NamedTuple):
    """How one axis of N crops is scaled.

    Attributes:
        length: (N,) pixels of the square.
        at: (N, SAMPLES) int64, those that are taken.
        area: (N, target, SAMPLES) weights of each sample by area.
        linear: (N, target, SAMPLES) linear ones, in parts of _ONE.
        low: (N, target) int64, the lower one of the two samples that linear scaling blends.
        weights: (N, target) int64, of the lower and of the higher one, in parts of _ONE.
    """

    length: Tensor
    at: Tensor
    area: Tensor
    linear: Tensor
    low: Tensor
    weights: tuple[Tensor, Tensor]


def _resample(begin: Tensor, side: Tensor, size: int, target: int) -> _Axis:
    """Chooses samples and weights of one axis.

    Args:
        begin: (N,) where each square begins.
        side: (N,) of each square.
        size: pixels that there are.
        target: pixels of the crop.
    """
    first = begin.round()
    length = (begin + side).round().maximum(first + 1) - first                    # (N,), whole pixels
    taken = length.clamp(max=SAMPLES)[:, None]                                    # samples that count
    sample = torch.arange(SAMPLES, device=begin.device)
    pixel = torch.arange(target, device=begin.device)
    at = (first[:, None] + (sample * (length[:, None] / taken)).floor()).clamp(0, size - 1).long()
    ratio = taken / target
    begins, ends = (pixel * ratio)[..., None], ((pixel + 1) * ratio)[..., None]   # (N, target, 1)
    area = (ends.minimum(sample + 1.0) - begins.maximum(sample + 0.0)).clamp(min=0) / ratio[..., None]
    centre = ((pixel + 0.5) * ratio - 0.5).clamp(min=0).minimum(taken - 1)        # (N, target)
    low = centre.floor()
    higher = ((centre - low) * _ONE).round()
    lower = ((1 - (centre - low)) * _ONE).round()
    linear = ((sample == low[..., None]) * lower[..., None] + (sample == low[..., None] + 1) * higher[..., None])
    return _Axis(length, at, area, linear, low.long(), (lower.long(), higher.long()))


def _blend_rows(rows: Tensor, axis: _Axis) -> Tensor:
    """Blends rows (N, SAMPLES, side), in parts of _ONE, as OpenCV does: with two roundings towards 0 on the way."""
    parts = rows.long() >> 4
    lower, higher = (
        (parts.gather(1, at[..., None].expand(-1, -1, rows.shape[2])) * weight[..., None]) >> 16
        for at, weight in zip((axis.low, (axis.low + 1).clamp(max=SAMPLES - 1)), axis.weights, strict=True))
    return ((lower + higher + 2) >> 2).to(rows.dtype)
