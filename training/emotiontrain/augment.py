"""Augmentations on whole batches: one resampling of each picture, so that two cores keep the network fed."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Strengths; each picture draws its own values uniformly within them.

    Attributes:
        rotate: degrees to either side.
        zoom: fraction of the side to either side.
        shift: fraction of the side to either side.
        contrast: factor's distance from 1.
        brightness: added, as a fraction of the full range.
        erase: probability of one grey rectangle of up to 40 % of each side.
    """

    rotate: float = 12.0
    zoom: float = 0.12
    shift: float = 0.08
    contrast: float = 0.3
    brightness: float = 0.12
    erase: float = 0.25


def resample(pictures: Tensor, side: int) -> Tensor:
    """Scales (B, H, W) uint8 to (B, 1, side, side) float 0..1, bilinear as the daemon's preprocessing enlarges."""
    scaled = functional.interpolate(pictures[:, None].float(), (side, side), mode="bilinear", align_corners=False)
    return scaled / 255


def augment(pictures: Tensor, side: int, strength: Augmentation, generator: torch.Generator) -> Tensor:
    """Resamples (B, H, W) uint8 to (B, 1, side, side) float 0..1 under random flips, shears of view and light.

    Faces are mirrored left to right but never upside down: no camera sees them so, and the network would
    spend its few weights on it.
    """
    count = len(pictures)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle = torch.deg2rad(uniform(strength.rotate))
    scale = 1 + uniform(strength.zoom)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([
        torch.stack([cos * mirror, -sin, uniform(2 * strength.shift)], dim=1),
        torch.stack([sin * mirror, cos, uniform(2 * strength.shift)], dim=1),
    ], dim=1)                                                                     # (B, 2, 3)
    grid = functional.affine_grid(theta, [count, 1, side, side], align_corners=False)
    out = functional.grid_sample(
        pictures[:, None].float() / 255, grid, mode="bilinear", padding_mode="border", align_corners=False)

    contrast = (1 + uniform(strength.contrast)).view(-1, 1, 1, 1)
    middle = out.mean(dim=(1, 2, 3), keepdim=True)
    out = ((out - middle) * contrast + middle + uniform(strength.brightness).view(-1, 1, 1, 1)).clamp_(0, 1)
    return _erase(out, strength.erase, generator)


def _erase(pictures: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Covers one rectangle of a picture with its mean, with the given probability (arXiv:1708.04896)."""
    count, _, side, _ = pictures.shape
    centre = torch.rand(count, 2, generator=generator) * side
    half = torch.rand(count, 2, generator=generator) * side * 0.2
    along = torch.arange(side) + 0.5
    rows = (along[None] - centre[:, :1]).abs() < half[:, :1]                      # (B, side)
    columns = (along[None] - centre[:, 1:]).abs() < half[:, 1:]
    chosen = torch.rand(count, 1, 1, generator=generator) < probability
    mask = (rows[:, :, None] & columns[:, None, :] & chosen)[:, None]
    return torch.where(mask, pictures.mean(dim=(1, 2, 3), keepdim=True), pictures)
