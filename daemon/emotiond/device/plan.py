"""From the planes of a batch to faces and probabilities, in two steps of fixed shapes that a GPU can record.

The planes are copied into one tensor, which lets go of the decoder's pictures. Step one scales them for the detector,
finds faces, keeps those that count and lists them; step two cuts the first so many of the list out of full-size luma
and classifies them. Nothing comes back to this machine before both are done, and then all of it at once.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from emotiond.config import DetectorConfig
from emotiond.config_values import Rectangle
from emotiond.device.crops import crop_faces
from emotiond.device.geometry import Geometry
from emotiond.device.runtime import Mark, Runtime
from emotiond.device.scaling import LEFT_SITED, Scaling
from emotiond.device.surface import Surface
from emotiond.picture import span
from emotionnet.torch_classifier import TorchClassifier
from yunet.torch_detector import Found, TorchDetector

FACES = (8, 32, 128)
"""Faces that step two takes at once, whichever of these the last batch would have needed; more take it more often."""
ROW = 6
"""Values of a face in the list: its picture's place in the batch, x, y, width, height, score."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found in one picture.

    Attributes:
        boxes: (N, 4) float32 x, y, width, height in pixels of the displayed picture, clipped to it, best first.
        scores: (N,).
        probabilities: (N, classes).
        left_out: faces beyond `detector.max_faces`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    left_out: int


class Plan:
    """Batches of up to `size` pictures of one geometry. For one thread; a batch is over before the next is begun."""

    def __init__(
        self, geometry: Geometry, size: int, detector: TorchDetector, classifier: TorchClassifier,
        config: DetectorConfig, runtime: Runtime,
    ) -> None:
        """Makes room on the device and records step one."""
        self._geometry, self._size, self._config = geometry, size, config
        self._detector, self._classifier, self._runtime = detector, classifier, runtime
        self._spec, self._classes = classifier.info.input, len(classifier.info.labels)
        device = runtime.device
        self._view = geometry.view
        self._luma = torch.zeros(size, *geometry.stored, dtype=torch.uint8, device=device)
        self._chroma = torch.full((size, 2, *geometry.chroma), 128, dtype=torch.uint8, device=device)
        self._used = torch.zeros(size, dtype=torch.bool, device=device)
        black = torch.tensor(geometry.colour.black, dtype=detector.dtype, device=device).view(1, 3, 1, 1)
        height, width = self._view.padded
        self._planes = black.expand(size, 3, height + 1, width + 1).contiguous(memory_format=torch.channels_last)
        self._first = torch.zeros((), dtype=torch.long, device=device)     # of the list, that step two takes
        self._scale, self._offset, self._limit = (
            torch.tensor(values, dtype=torch.float32, device=device)
            for values in (self._view.scale, self._view.offset, geometry.displayed[::-1]))
        doubles = self._view.upright == geometry.stored and not geometry.full_range and not any(
            side % 2 for side in geometry.stored)
        self._scale_luma = Scaling(geometry.stored, self._view.upright, detector.dtype, device)
        self._scale_chroma = Scaling(geometry.chroma, self._view.upright, detector.dtype, device,
                                     None if doubles else LEFT_SITED)
        self._found: Found
        self._list = self._summary = self._displayed = self._rows = torch.empty(0)
        self._expected = 0      # faces in the last batch
        self._detect = runtime.record(self._step_one)
        self._recorded = {count: runtime.record(lambda count=count: self.classify(count)) for count in FACES[:1]}
        self._marks: tuple[Mark, Mark, Mark] = (None, None, None)
        self._taken = 0
        self._back = torch.empty(0)

    @property
    def seconds(self) -> tuple[float, float]:
        """What the two steps of the last batch took on the device."""
        return (self._runtime.seconds(self._marks[0], self._marks[1]),
                self._runtime.seconds(self._marks[1], self._marks[2]))

    def begin(self, surfaces: list[Surface], masks: list[tuple[Rectangle, ...]]) -> None:
        """Puts a batch into the device's queue.

        Args:
            surfaces: at most `size` pictures.
            masks: for each of them the parts, in fractions of the displayed picture, that are blackened.
        """
        with self._runtime.queue():
            self.copy_in(surfaces, masks)
            begun = self._runtime.mark()
            self._detect()
            found = self._runtime.mark()
            self._first.zero_()
            self._run_step_two(next((count for count in FACES if count >= self._expected), FACES[-1]))
            self._marks = (begun, found, self._runtime.mark())
        self._taken = len(surfaces)

    def end(self) -> list[Result]:
        """Waits for the batch and returns what was found in each picture."""
        self._runtime.wait(self._marks[2])
        summary = self._back[:3 * self._size].view(self._size, 3).numpy().copy()
        rows = self._back[3 * self._size:].view(-1, ROW + self._classes).numpy().copy()
        total = int(summary[:, 0].sum())
        self._expected = total
        parts = [rows[:total]]
        first = len(rows)
        while first < total:        # more faces than expected
            parts.append(self._more(first)[:total - first])
            first += len(parts[-1])
        rows = np.concatenate(parts)
        results: list[Result] = []
        for place in range(self._taken):
            _, left_out, certain = summary[place]
            if certain:
                own = rows[rows[:, 0] == place]
                results.append(Result(own[:, 1:5], own[:, 5], own[:, ROW:], int(left_out)))
            else:
                results.append(self._decode_crowd(place))
        return results

    def copy_in(self, surfaces: list[Surface], masks: list[tuple[Rectangle, ...]]) -> None:
        """Copies planes to the device; arguments as of `begin`."""
        for place, (surface, hidden) in enumerate(zip(surfaces, masks, strict=True)):
            surface.copy_to(self._luma[place], self._chroma[place])
            for mask in hidden:
                self._hide(place, self._geometry.stored_part(mask))
        self._used[:len(surfaces)] = True
        self._used[len(surfaces):] = False

    def _step_one(self) -> None:
        """From planes to the list of faces."""
        self.fill()
        self.find()
        self.select()

    def find(self) -> None:
        """Runs the detector."""
        self._found = self._detector.find(self._planes, self._geometry.colour)

    def select(self) -> None:
        """Lists the faces that count."""
        found = self._found
        corners = (found.boxes[..., :2] * self._scale + self._offset).clamp(min=0).minimum(self._limit)
        ends = ((found.boxes[..., :2] + found.boxes[..., 2:]) * self._scale + self._offset).clamp(min=0)
        sides = ends.minimum(self._limit) - corners                                       # (B, K, 2)
        faces = found.kept & (sides.amin(dim=2) >= self._config.min_face) & (found.scores >= self._config.score)
        faces &= (self._used & found.certain)[:, None]
        rank = faces.cumsum(dim=1)
        left_out = (rank[:, -1] - self._config.max_faces).clamp(min=0)
        faces &= rank <= self._config.max_faces
        places = torch.arange(self._size, device=faces.device)[:, None].expand(faces.shape)
        values = torch.cat([places[..., None], corners, sides, found.scores[..., None]], dim=2).flatten(0, 1)
        chosen, most = faces.flatten(), faces.numel()
        order = torch.where(chosen, chosen.cumsum(dim=0) - 1, most)      # the place of each in the list; none: the last
        slots = torch.zeros(most + 1, dtype=torch.long, device=faces.device)
        slots.scatter_(0, order, torch.arange(most, device=faces.device))
        self._list = values[slots[:-1]]                                                   # (B * K, ROW)
        self._summary = torch.stack([faces.sum(dim=1), left_out, found.certain], dim=1).float()
        self._displayed = self._as_displayed()

    def classify(self, count: int) -> None:
        """From `count` entries of the list, from `_first` on, to rows with probabilities; others are nonsense."""
        at = (self._first + torch.arange(count, device=self._list.device)).clamp(max=len(self._list) - 1)
        rows = self._list[at]
        self._rows = torch.cat([rows, self._classifier.probabilities(self._crops(rows))], dim=1)

    def _run_step_two(self, count: int) -> None:
        """Runs it, and has what it made copied to this machine."""
        if count not in self._recorded:
            self._recorded[count] = self._runtime.record(lambda: self.classify(count))
        self._recorded[count]()
        self.copy_back(count)

    def copy_back(self, count: int) -> None:
        """Has the summary and the rows that step two made copied to this machine."""
        size = 3 * self._size + count * (ROW + self._classes)
        if len(self._back) != size:
            self._back = self._runtime.empty(size, dtype=torch.float32)
        self._back.copy_(torch.cat([self._summary.flatten(), self._rows.flatten()]), non_blocking=True)

    def _more(self, first: int) -> NDArray[np.float32]:
        """Returns further rows, from a place of the list on."""
        with self._runtime.queue():
            self._first.fill_(first)
            self._run_step_two(FACES[-1])
            self._runtime.wait(self._runtime.mark())
        return self._back[3 * self._size:].view(-1, ROW + self._classes).numpy().copy()

    def _decode_crowd(self, place: int) -> Result:
        """Returns the faces of a picture that step one could not settle; waits for the device a few times."""
        faces = self._detector.decode(self._found.raw[place], *self._view.padded)
        corners = np.clip(faces.boxes[:, :2] * self._view.scale + self._view.offset, 0, self._geometry.displayed[::-1])
        ends = np.clip((faces.boxes[:, :2] + faces.boxes[:, 2:]) * self._view.scale + self._view.offset, 0,
                       self._geometry.displayed[::-1])
        boxes = np.concatenate((corners, ends - corners), axis=1).astype(np.float32)
        large = np.flatnonzero((boxes[:, 2:].min(axis=1, initial=math.inf) >= self._config.min_face)
                               & (faces.scores >= self._config.score))
        left_out = max(len(large) - self._config.max_faces, 0)
        large = large[:self._config.max_faces]
        rows = np.concatenate((np.full((len(large), 1), place), boxes[large], faces.scores[large, None]), axis=1)
        probabilities = np.empty((len(large), self._classes), np.float32)
        for start in range(0, len(large), FACES[-1]):
            with self._runtime.queue():
                part = torch.from_numpy(rows[start:start + FACES[-1]].astype(np.float32)).to(self._luma.device)
                probabilities[start:start + len(part)] = self._classifier.probabilities(self._crops(part)).cpu().numpy()
        return Result(boxes[large], faces.scores[large], probabilities, left_out)

    def fill(self) -> None:
        """Writes the searched part of all pictures, scaled, into the detector's planes."""
        view = self._view
        luma, chroma = self._scale_luma(self._luma[:, None]), self._scale_chroma(self._chroma)
        if self._geometry.full_range:
            luma, chroma = luma * (219 / 255) + 16, (chroma - 128) * (224 / 255) + 128
        planes = torch.rot90(torch.cat([luma, chroma], dim=1), self._geometry.turns, dims=(2, 3)).add(0.5).floor()
        height, width = view.size
        self._planes[:, :, 1:height + 1, 1:width + 1] = planes[:, :, view.rows, view.columns]

    def _as_displayed(self) -> Tensor:
        """Returns full-size luma, (B, H, W) uint8; a copy only where it was stored in another way."""
        geometry, luma = self._geometry, self._luma
        if geometry.upright != geometry.stored:
            scaled = interpolate(luma[:, None].float(), geometry.upright, mode="bilinear", antialias=True)
            luma = scaled[:, 0].round().to(torch.uint8)
        return torch.rot90(luma, geometry.turns, dims=(1, 2)) if geometry.turns else luma

    def _crops(self, rows: Tensor) -> Tensor:
        """Cuts the crops of entries of the list."""
        return crop_faces(self._displayed, rows[:, 0].long(), rows[:, 1:5], self._spec,
                          full_range=self._geometry.full_range)

    def _hide(self, place: int, part: Rectangle) -> None:
        left, top, right, bottom = part
        for planes, black in ((self._luma[place], 0 if self._geometry.full_range else 16), (self._chroma[place], 128)):
            height, width = planes.shape[-2:]
            planes[..., span(top, bottom, height), span(left, right, width)] = black
