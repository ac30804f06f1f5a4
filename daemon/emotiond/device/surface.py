"""A decoded picture's planes as tensors, where they are: on the GPU that decoded them, or in this machine's memory."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from emotiond.picture import Picture, Scalers, view_plane

_EIGHT_BITS, _TEN_BITS = ("yuv420p", "yuvj420p", "nv12"), ("p010le", "p016le")


class Surface:
    """Luma and chroma (4:2:0) of a picture as decoded.

    Attributes:
        picture: what it is of; holds the memory of its planes.
        full_range: whether luma goes from 0 to 255, not from 16 to 235.
    """

    __slots__ = ("_planes", "full_range", "picture")

    def __init__(self, picture: Picture, scalers: Scalers) -> None:
        """Takes the planes as they are, or converts them where the pixels are of another kind."""
        frame = picture.frame
        self.picture, self.full_range = picture, picture.is_full_range
        if frame.format.name == "cuda":     # the capsule itself, since PyAV refuses to be told a stream
            self._planes = [from_dlpack(plane.__dlpack__()) for plane in frame.planes]
            if frame.sw_format and frame.sw_format.name in _TEN_BITS:
                self._planes = [_upper_bytes(plane) for plane in self._planes]
            return
        if frame.format.name not in _EIGHT_BITS:
            frame, self.full_range = scalers.convert(frame), False
        height, width = frame.height, frame.width
        half = -(-width // 2)
        sizes = [(height, width), *[(-(-height // 2), 2 * half if frame.format.name == "nv12" else half)] * 2]
        self._planes = [torch.from_numpy(view_plane(plane, columns, rows))
                        for plane, (rows, columns) in zip(frame.planes, sizes, strict=False)]
        if frame.format.name == "nv12":
            self._planes[1] = self._planes[1].unflatten(1, (half, 2))

    def copy_to(self, luma: Tensor, chroma: Tensor) -> None:
        """Copies to the device, into (H, W) and (2, H/2, W/2); `picture` is to be kept until the device has done it."""
        first, *others = self._planes
        luma.copy_(first, non_blocking=True)
        for target, plane in zip(chroma, others if len(others) == 2 else others[0].unbind(dim=2), strict=True):
            height, width = plane.shape
            target[:height, :width].copy_(plane, non_blocking=True)


def _upper_bytes(plane: Tensor) -> Tensor:
    """Returns the upper eight bits of values of sixteen."""
    values: Any = plane.view(torch.uint8)
    return values[..., 1::2] if plane.dim() == 2 else values.view(*plane.shape, 2)[..., 1]
