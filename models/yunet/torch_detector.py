"""YuNet in torch: batches on a device, from planes to boxes in steps whose shapes do not depend on what is found."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from yunet.colour import Colour
from yunet.decode import LARGEST_LOG_SIZE, anchors, decode, suppress
from yunet.detector import Faces, Picture, fill, padded_size
from yunet.network import YuNet, load_network

CANDIDATES = 256
"""Anchors of a picture that go into suppression, the best ones: about 40 faces have so many above the least score."""

ROUNDS = 8
"""Of suppression. Each box of a chain, where every one overlaps the next, is settled one round after the one before."""


class Found(NamedTuple):
    """What was found in a batch; every tensor is on the device.

    Attributes:
        boxes: (B, K, 4) float32 x, y, width, height in pixels of the planes, best first; K candidates.
        scores: (B, K) float32.
        kept: (B, K) bool, which of them are faces.
        certain: (B,) bool. Where it is False, a crowd had more candidates or longer chains; use `TorchDetector.decode`.
        raw: (B, 6, A) float32, the network's output.
    """

    boxes: Tensor
    scores: Tensor
    kept: Tensor
    certain: Tensor
    raw: Tensor


class TorchDetector:
    """YuNet on a device of torch, in half precision on a GPU. For one thread at a time.

    Attributes:
        device: what it runs on.
        dtype: of the planes it takes.
        candidates: anchors of a picture that go into suppression, where it has so many.

    Raises:
        RuntimeError: torch knows no such device or cannot use it.
    """

    def __init__(self, device: str, score: float, nms_iou: float, max_faces: int) -> None:
        self._networks: dict[Colour, YuNet] = {}
        self._grids: dict[tuple[int, int], Tensor] = {}
        self._score, self._nms_iou, self._max_faces, self.candidates = score, nms_iou, max_faces, CANDIDATES
        try:
            self.device = torch.device(device)
            self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
            self.network(Colour.YUV_601)
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(f"device {device}: torch cannot use it ({str(error).splitlines()[0]})") from error

    def detect(self, pictures: Sequence[Picture], colours: Sequence[Colour] = ()) -> list[Faces]:
        """As in `yunet.detector.Detector`; pictures alike once padded are one batch."""
        alike: dict[tuple[int, int, Colour], list[int]] = {}
        for i, (picture, colour) in enumerate(zip(pictures, colours or [Colour.BGR] * len(pictures), strict=True)):
            alike.setdefault((*padded_size(picture), colour), []).append(i)
        faces: dict[int, Faces] = {}
        for (height, width, colour), indices in alike.items():
            batch = np.empty((len(indices), 3, height + 1, width + 1), np.uint8)
            for target, i in zip(batch, indices, strict=True):
                fill(target, pictures[i], colour)
            found = self.find(torch.from_numpy(batch).to(self.device).to(self.dtype), colour)
            boxes, scores, kept, certain = (tensor.cpu().numpy() for tensor in found[:4])
            for place, i in enumerate(indices):
                own = np.flatnonzero(kept[place])[:self._max_faces]
                faces[i] = (Faces(boxes[place, own], scores[place, own]) if certain[place]
                            else self.decode(found.raw[place], height, width))
        return [faces[i] for i in range(len(pictures))]

    @torch.inference_mode()
    def find(self, planes: Tensor, colour: Colour) -> Found:
        """Finds faces without waiting for the device, so that it can be recorded as a CUDA graph.

        Args:
            planes: (B, 3, H + 1, W + 1) of `dtype`, 0..255, as `YuNet.forward` takes them.
            colour: what they are.
        """
        raw = self.network(colour)(planes.contiguous(memory_format=torch.channels_last)).float()
        grid = self.grid(planes.shape[2] - 1, planes.shape[3] - 1)                 # (3, A)
        all_scores = (raw[:, 0].sigmoid() * raw[:, 1].sigmoid()).sqrt()            # (B, A)
        scores, anchor = all_scores.topk(min(self.candidates, all_scores.shape[1]), dim=1)      # (B, K), best first
        likely = scores >= self._score
        values = raw[:, 2:].gather(2, anchor[:, None].expand(-1, 4, -1))           # (B, 4, K)
        at, stride = grid[:2, anchor].transpose(0, 1), grid[2, anchor][:, None]    # (B, 2, K), (B, 1, K)
        sizes = values[:, 2:].clamp(max=LARGEST_LOG_SIZE).exp() * stride
        corners = at + values[:, :2] * stride - sizes / 2
        kept, settled = _suppress(corners, sizes, likely, self._nms_iou)
        certain = settled & ((all_scores >= self._score).sum(dim=1) <= scores.shape[1])
        return Found(torch.cat([corners, sizes], dim=1).transpose(1, 2), scores, kept, certain, raw)

    def decode(self, raw: Tensor, height: int, width: int) -> Faces:
        """Returns the faces of one picture, however many, from its raw output (6, A); waits for the device.

        Args:
            raw: as in `Found`.
            height: of the padded picture.
            width: likewise.
        """
        boxes, scores = decode(raw.cpu().numpy(), anchors(height, width), self._score)
        kept = suppress(boxes, self._nms_iou, self._max_faces)
        return Faces(boxes[kept], scores[kept])

    def network(self, colour: Colour) -> YuNet:
        """Returns the network for planes of a colour, on the device."""
        if colour not in self._networks:
            network = load_network(colour).to(self.device, self.dtype).requires_grad_(False)
            # twice as fast on a CPU, and the order tensor cores want
            self._networks[colour] = network.to(memory_format=torch.channels_last)
        return self._networks[colour]

    def grid(self, height: int, width: int) -> Tensor:
        """Returns the anchors of a padded size on the device, (3, A)."""
        if (height, width) not in self._grids:
            self._grids[height, width] = torch.tensor(anchors(height, width), device=self.device)
        return self._grids[height, width]


def _suppress(corners: Tensor, sizes: Tensor, likely: Tensor, iou: float) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression as `decode.suppress` does it, in a fixed number of steps.

    A box goes when a better one that stays overlaps it. Beginning with all of them staying, each round settles the
    boxes that hang on settled ones.

    Args:
        corners: (B, 2, K) left and top, best box first.
        sizes: (B, 2, K).
        likely: (B, K) bool, the boxes that count.
        iou: intersection over union above which two boxes are one face.

    Returns:
        Which boxes stay (B, K), and for which pictures that is settled (B,).
    """
    ends = corners + sizes
    shared = (torch.minimum(ends[..., :, None], ends[..., None, :])
              - torch.maximum(corners[..., :, None], corners[..., None, :])).clamp(min=0).prod(dim=1)     # (B, K, K)
    area = sizes.prod(dim=1)
    one_face = shared > iou * (area[:, :, None] + area[:, None, :] - shared)
    covers = (one_face & likely[:, :, None]).triu(diagonal=1).to(corners.dtype)      # [better, worse]
    kept = before = likely
    for _ in range(ROUNDS):
        before = kept
        kept = likely & ((kept.to(covers.dtype)[:, None] @ covers)[:, 0] == 0)
    return kept, (kept == before).all(dim=1)
