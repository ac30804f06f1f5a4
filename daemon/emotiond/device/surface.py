"""A decoded picture's planes as tensors, where they are: on the GPU that decoded them, or in this machine's memory."""

from typing import Any

import torch
from av.video.frame import VideoFrame
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from emotiond.picture import Picture, Scalers, view_plane

_EIGHT_BITS, _TEN_BITS = ("yuv420p", "yuvj420p", "nv12"), ("p010le", "p016le")


class Surface:
    """Luma and chroma (4:2:0) of a picture as decoded.

    Attributes:
        picture: what it is of; holds the memory of its planes.
        full_range: whether luma goes from 0 to 255, not from 16 to 235.
        planes: luma (H, W), and chroma (H/2, W/2, 2) or twice (H/2, W/2); uint8.
    """

    __slots__ = ("full_range", "picture", "planes")

    def __init__(self, picture: Picture, scalers: Scalers) -> None:
        """Takes the planes as they are, or converts them where the pixels are of another kind."""
        frame = picture.frame
        self.picture, self.full_range = picture, picture.is_full_range
        kind = frame.sw_format.name if frame.sw_format else ""
        if frame.format.name == "cuda" and kind in ("nv12", *_TEN_BITS):
            self.planes = shared_planes(frame, kind)
            return
        if frame.format.name not in _EIGHT_BITS:
            frame, self.full_range = scalers.convert(frame), False
        self.planes = _planes_here(frame)

    def copy_to(self, luma: Tensor, chroma: Tensor) -> None:
        """Copies into (H, W) and (2, H/2, W/2); `picture` is to be kept until the device has done it."""
        first, *others = self.planes
        luma.copy_(first, non_blocking=True)
        if len(others) == 1:
            self._copy_chroma(chroma, others[0].permute(2, 0, 1))
        else:
            for target, plane in zip(chroma, others, strict=True):
                self._copy_chroma(target, plane)

    def _copy_chroma(self, target: Tensor, planes: Tensor) -> None:
        height, width = planes.shape[-2:]
        if target.shape == planes.shape:
            target.copy_(planes, non_blocking=True)
            return
        target[..., :height, :width].copy_(planes, non_blocking=True)
        target[..., height:, :width] = target[..., height - 1:height, :width]     # of an odd side there may be one less
        target[..., width:] = target[..., width - 1:width]


def shared_planes(frame: VideoFrame, kind: str) -> list[Tensor]:
    """Returns a frame's planes where they are, by DLPack; of ten bits and more the upper eight.

    Args:
        frame: one of a GPU's decoder.
        kind: of its pixels: `nv12`, `p010le` or `p016le`.
    """
    planes = [from_dlpack(plane.__dlpack__()) for plane in frame.planes]     # with a stream PyAV would refuse
    return [_upper_bytes(plane) for plane in planes] if kind in _TEN_BITS else planes


def _planes_here(frame: VideoFrame) -> list[Tensor]:
    height, width = frame.height, frame.width
    half, interleaved = -(-width // 2), frame.format.name == "nv12"
    sizes = [(height, width), *[(-(-height // 2), 2 * half if interleaved else half)] * 2]
    planes = [torch.from_numpy(view_plane(plane, columns, rows))
              for plane, (rows, columns) in zip(frame.planes, sizes, strict=False)]
    return [planes[0], planes[1].unflatten(1, (half, 2))] if interleaved else planes


def _upper_bytes(plane: Tensor) -> Tensor:
    values: Any = plane.view(torch.uint8)
    return values[..., 1::2] if plane.dim() == 2 else values.view(*plane.shape, 2)[..., 1]
