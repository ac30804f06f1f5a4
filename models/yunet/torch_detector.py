"""YuNet in torch: batches, with decoding and suppression on the device and one transfer each way."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from yunet.colour import Colour
from yunet.decode import LARGEST_LOG_SIZE, anchors
from yunet.detector import Faces, Picture, fill, padded_size
from yunet.network import YuNet, load_network


class TorchDetector:
    """YuNet on a device of torch; pictures alike once padded are one batch. For one thread at a time.

    Raises:
        RuntimeError: torch knows no such device or cannot use it.
    """

    def __init__(self, device: str, score: float, nms_iou: float, max_faces: int) -> None:
        try:
            self._device = torch.device(device)
            network = load_network().to(self._device)
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(f"device {device}: torch cannot use it ({str(error).splitlines()[0]})") from error
        # twice as fast on a CPU, and the order tensor cores want
        self._network: YuNet = network.to(memory_format=torch.channels_last).requires_grad_(False)
        self._score = score
        self._nms_iou = nms_iou
        self._max_faces = max_faces
        self._grids: dict[tuple[int, int], Tensor] = {}

    def detect(self, pictures: Sequence[Picture], colours: Sequence[Colour] = ()) -> list[Faces]:
        """As in `yunet.detector.Detector`."""
        alike: dict[tuple[int, int, Colour], list[int]] = {}
        for i, (picture, colour) in enumerate(zip(pictures, colours or [Colour.BGR] * len(pictures), strict=True)):
            alike.setdefault((*padded_size(picture), colour), []).append(i)
        faces: dict[int, Faces] = {}
        for (height, width, colour), indices in alike.items():
            batch = np.empty((len(indices), 3, height + 1, width + 1), np.uint8)
            for target, i in zip(batch, indices, strict=True):
                fill(target, pictures[i], colour)
            rows = self._detect_batch(torch.from_numpy(batch), colour)
            for place, i in enumerate(indices):
                own = rows[rows[:, 0] == place, 1:][:self._max_faces]
                faces[i] = Faces(own[:, :4], own[:, 4])
        return [faces[i] for i in range(len(pictures))]

    @torch.inference_mode()
    def _detect_batch(self, batch: Tensor, colour: Colour) -> NDArray[np.float32]:
        """Returns a row (place in the batch, x, y, width, height, score) for each face, best first."""
        pictures = batch.to(self._device).to(torch.float32)
        if colour is not Colour.BGR:
            matrix = torch.tensor(colour.to_bgr, dtype=torch.float32, device=self._device)
            black = torch.tensor(colour.black, dtype=torch.float32, device=self._device)
            pictures = torch.einsum("cd,bdhw->bchw", matrix, pictures - black.view(3, 1, 1))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        raw: Tensor = self._network(pictures)                                      # (B, 6, A)
        scores = (raw[:, 0].sigmoid() * raw[:, 1].sigmoid()).sqrt()                # (B, A)
        place, anchor = torch.nonzero(scores >= self._score, as_tuple=True)        # (N,), (N,)
        scores, values = scores[place, anchor], raw[place, 2:, anchor]             # (N,), (N, 4)
        at = self._grid(batch.shape[2] - 1, batch.shape[3] - 1)[anchor]            # (N, 3)
        sizes = values[:, 2:].clamp(max=LARGEST_LOG_SIZE).exp() * at[:, 2:]
        corners = at[:, :2] + values[:, :2] * at[:, 2:] - sizes / 2
        kept = batched_nms(torch.cat([corners, corners + sizes], dim=1), scores, place, self._nms_iou)
        return torch.cat([place[:, None], corners, sizes, scores[:, None]], dim=1)[kept].cpu().numpy()

    def _grid(self, height: int, width: int) -> Tensor:
        """Returns the anchors of a padded size on the device, (A, 3)."""
        if (height, width) not in self._grids:
            self._grids[height, width] = torch.tensor(anchors(height, width).T, device=self._device)
        return self._grids[height, width]
