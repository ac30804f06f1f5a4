"""From the planes of a batch to faces and probabilities, in two steps of fixed shapes that a GPU can record.

The planes are copied into one tensor. Step one scales them for the detector, finds faces, keeps those that count and
lists them; step two cuts so many of the list out of full-size luma and classifies them. Then all of it comes back to
this machine in one copy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from emotiond.analyzer import select, to_picture
from emotiond.config import DetectorConfig
from emotiond.config_values import Rectangle
from emotiond.device.crops import crop_faces
from emotiond.device.geometry import Geometry
from emotiond.device.runtime import Mark, Runtime
from emotiond.device.scaling import LEFT_SITED, Scaling
from emotiond.device.surface import Surface
from emotiond.picture import span
from emotionnet.classifier import NonFiniteError
from emotionnet.torch_classifier import TorchClassifier
from yunet.decode import CHANNELS
from yunet.torch_detector import TorchDetector

FACES = (8, 32, 128)
"""Faces that step two takes at once: the first of these that the last batch would have fit in, again for the rest."""
ROW = 6
"""Values of a face in the list: its picture's place in the batch, x, y, width, height, score."""
SUMMARY = 4
"""Values of a picture: its faces in the list, those left out, whether it is settled, whether scores are numbers."""


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
    """Batches of up to `size` pictures of one geometry. For one thread; a batch is over before the next is begun.

    What the steps hand on lies in tensors that are made once: a recorded step knows its tensors, not their names, and
    what it only needs on its way may be anybody's when it is over.
    """

    def __init__(
        self, geometry: Geometry, size: int, detector: TorchDetector, classifier: TorchClassifier,
        config: DetectorConfig, runtime: Runtime,
    ) -> None:
        """Makes room on the device and records step one."""
        self._geometry, self._size, self._config = geometry, size, config
        self._detector, self._classifier, self._runtime = detector, classifier, runtime
        self._spec, self._classes = classifier.info.input, len(classifier.info.labels)
        self._view = view = geometry.view
        height, width = view.padded
        black = geometry.colour.black
        self._black_luma = 0 if geometry.full_range else black[0]
        self._luma = self._zeros(size, *geometry.stored, dtype=torch.uint8)
        self._chroma = self._zeros(size, 2, *geometry.chroma, dtype=torch.uint8).fill_(black[1])
        self._here: tuple[Tensor, Tensor] | None = None      # for planes that were decoded in this machine's memory
        self._used = self._zeros(size, dtype=torch.bool)
        self._planes = torch.empty_like(
            self._zeros(size, 3, height + 1, width + 1, dtype=detector.dtype), memory_format=torch.channels_last)
        for plane, value in zip(self._planes.unbind(dim=1), black, strict=True):
            plane.fill_(value)
        anchors = detector.grid(height, width).shape[1]
        self._raw = self._zeros(size, CHANNELS, anchors)
        self._list = self._zeros(size * min(detector.candidates, anchors), ROW)
        self._summary = self._zeros(size, SUMMARY)
        self._first = self._zeros(1, dtype=torch.long)       # of the list, that step two takes
        turned = geometry.turns or geometry.upright != geometry.stored
        self._displayed = self._zeros(size, *geometry.displayed, dtype=torch.uint8) if turned else self._luma
        self._rows: dict[int, Tensor] = {}
        self._back: dict[int, Tensor] = {}
        self._scale, self._offset, self._limit = (
            torch.tensor(values, dtype=torch.float32, device=runtime.device)
            for values in (view.scale, view.offset, geometry.displayed[::-1]))
        doubles = view.upright == geometry.stored and not geometry.full_range and not any(
            side % 2 for side in geometry.stored)
        self._scale_luma = Scaling(geometry.stored, view.upright, detector.dtype, runtime.device)
        self._scale_chroma = Scaling(geometry.chroma, view.upright, detector.dtype, runtime.device,
                                     None if doubles else LEFT_SITED)
        self._detect = runtime.record(self._step_one)
        self._recorded: dict[int, Callable[[], None]] = {}
        self._expected = 0      # faces in the last batch
        self._count = FACES[0]  # that step two took last
        self._taken = 0
        self._marks: tuple[Mark, Mark, Mark] = (None, None, None)

    @property
    def nbytes(self) -> int:
        """What it takes of the device's memory, without what steps need on their way."""
        tensors = [value for value in (*vars(self).values(), *self._rows.values()) if isinstance(value, Tensor)]
        return sum({value.data_ptr(): value.nbytes for value in tensors}.values())

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
        self._taken = len(surfaces)
        with self._runtime.queue():
            self.copy_in(surfaces, masks)
            begun = self._runtime.mark()
            self._detect()
            found = self._runtime.mark()
            self._run_step_two(0, next((count for count in FACES if count >= self._expected), FACES[-1]))
            self._marks = (begun, found, self._runtime.mark())

    def end(self) -> list[Result]:
        """Waits for the batch and returns what was found in each picture.

        Raises:
            NonFiniteError: the detector gave no numbers.
        """
        self._runtime.wait(self._marks[2])
        summary, rows = self._read_back()
        if not summary[:self._taken, 3].all():
            raise NonFiniteError("YuNet gave no numbers for a picture")
        self._expected = int(summary[:, 0].sum())
        parts = [rows[:self._expected]]
        taken = len(parts[0])
        while taken < self._expected:       # more than the last time
            with self._runtime.queue():
                self._run_step_two(taken, FACES[-1])
                mark = self._runtime.mark()
            self._runtime.wait(mark)
            parts.append(self._read_back()[1][:self._expected - taken])
            taken += len(parts[-1])
        rows = np.concatenate(parts)
        results: list[Result] = []
        for place in range(self._taken):
            _, left_out, settled, _ = summary[place]
            own = rows[rows[:, 0] == place]
            results.append(Result(own[:, 1:5], own[:, 5], own[:, ROW:], int(left_out)) if settled
                           else self._decode_crowd(place))
        return results

    def close(self) -> None:
        """Lets go of all its memory at once; recorded steps hold the plan, which holds them."""
        vars(self).clear()

    def copy_in(self, surfaces: list[Surface], masks: list[tuple[Rectangle, ...]]) -> None:
        """Copies planes to the device; arguments as of `begin`."""
        for place, (surface, hidden) in enumerate(zip(surfaces, masks, strict=True)):
            luma, chroma = self._luma[place], self._chroma[place]
            if self._runtime.is_cuda and not surface.planes[0].is_cuda:
                here = self._here = self._here or (self._pinned_like(self._luma), self._pinned_like(self._chroma))
                surface.copy_to(here[0][place], here[1][place])
                luma.copy_(here[0][place], non_blocking=True)
                chroma.copy_(here[1][place], non_blocking=True)
            else:
                surface.copy_to(luma, chroma)
            for mask in hidden:
                self._hide(place, self._geometry.stored_part(mask))
        self._used[:len(surfaces)] = True
        self._used[len(surfaces):] = False

    def fill(self) -> None:
        """Writes the searched part of all pictures, scaled, into the detector's planes."""
        luma, chroma = self._scale_luma(self._luma[:, None]), self._scale_chroma(self._chroma)
        if self._geometry.full_range:
            luma, chroma = luma * (219 / 255) + 16, (chroma - 128) * (224 / 255) + 128
        planes = torch.rot90(torch.cat([luma, chroma], dim=1), self._geometry.turns, dims=(2, 3)).add(0.5).floor()
        height, width = self._view.size
        self._planes[:, :, 1:height + 1, 1:width + 1] = planes[:, :, self._view.rows, self._view.columns]

    def find(self) -> None:
        """Runs the detector and lists the faces that count."""
        found = self._detector.find(self._planes, self._geometry.colour)
        corners = (found.boxes[..., :2] * self._scale + self._offset).clamp(min=0).minimum(self._limit)
        ends = ((found.boxes[..., :2] + found.boxes[..., 2:]) * self._scale + self._offset).clamp(min=0)
        sides = ends.minimum(self._limit) - corners                                       # (B, K, 2)
        faces = found.kept & (sides.amin(dim=2) >= self._config.min_face) & (found.scores >= self._config.score)
        faces &= (self._used & found.certain)[:, None]                                    # (B, K)
        rank = faces.cumsum(dim=1)
        left_out = (rank[:, -1] - self._config.max_faces).clamp(min=0)
        faces &= rank <= self._config.max_faces
        places = torch.arange(self._size, device=faces.device)[:, None].expand(faces.shape)
        values = torch.cat([places[..., None], corners, sides, found.scores[..., None]], dim=2).flatten(0, 1)
        values = values.nan_to_num(0, 0, 0)      # of a network that gives no numbers; pixels are taken by them
        chosen, most = faces.flatten(), faces.numel()
        order = torch.where(chosen, chosen.cumsum(dim=0) - 1, most)      # the place of each in the list; none: the last
        slots = torch.zeros(most + 1, dtype=torch.long, device=faces.device)
        slots.scatter_(0, order, torch.arange(most, device=faces.device))
        self._list.copy_(values[slots[:-1]])
        self._raw.copy_(found.raw)
        self._summary.copy_(torch.stack(
            [faces.sum(dim=1), left_out, found.certain, found.raw.isfinite().flatten(1).all(dim=1)], dim=1))

    def display(self) -> None:
        """Turns full-size luma as it is displayed, where it was stored in another way."""
        geometry, luma = self._geometry, self._luma
        if geometry.upright != geometry.stored:
            scaled = interpolate(luma[:, None].float(), geometry.upright, mode="bilinear", antialias=True)
            luma = scaled[:, 0].round().to(torch.uint8)
        if self._displayed is not self._luma:
            self._displayed.copy_(torch.rot90(luma, geometry.turns, dims=(1, 2)))

    def classify(self, count: int) -> None:
        """From `count` entries of the list, from `_first` on, to rows with probabilities; others are nonsense."""
        at = (self._first + torch.arange(count, device=self._list.device)).clamp(max=len(self._list) - 1)
        rows = self._list[at]
        self._rows[count].copy_(torch.cat([rows, self._classifier.probabilities(self._crops(rows))], dim=1))

    def copy_back(self, count: int) -> None:
        """Has the summary and the rows that step two made copied to this machine."""
        self._back[count].copy_(torch.cat([self._summary.flatten(), self._rows[count].flatten()]), non_blocking=True)

    def prepare(self, count: int) -> Callable[[], None]:
        """Returns step two for so many rows; the first time it makes room for them and records it."""
        if count not in self._recorded:
            width = ROW + self._classes
            self._rows[count] = self._zeros(count, width)
            self._back[count] = self._runtime.empty(SUMMARY * self._size + count * width, dtype=torch.float32)
            self._recorded[count] = self._runtime.record(lambda: self.classify(count))
        return self._recorded[count]

    def _step_one(self) -> None:
        self.fill()
        self.find()
        self.display()

    def _run_step_two(self, first: int, count: int) -> None:
        self._first.fill_(first)
        self._count = count
        self.prepare(count)()
        self.copy_back(count)

    def _read_back(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns summary (size, SUMMARY) and rows (count, ROW + classes) of the batch that is over."""
        values, end = self._back[self._count].numpy().copy(), SUMMARY * self._size
        return values[:end].reshape(self._size, SUMMARY), values[end:].reshape(self._count, -1)

    def _decode_crowd(self, place: int) -> Result:
        """Returns the faces of a picture that step one could not settle; waits for the device a few times."""
        with self._runtime.queue():
            raw = self._raw[place].cpu()
        faces = self._detector.decode(raw, *self._view.padded)
        height, width = self._geometry.displayed
        boxes = to_picture(faces.boxes, self._view.scale, self._view.offset, (width, height))
        chosen, left_out = select(boxes, faces.scores, self._config.score, self._config)
        rows = np.concatenate((np.full((len(chosen), 1), place), boxes[chosen], faces.scores[chosen, None]), axis=1)
        probabilities = np.empty((len(chosen), self._classes), np.float32)
        for start in range(0, len(chosen), FACES[-1]):
            with self._runtime.queue():
                part = torch.from_numpy(rows[start:start + FACES[-1]].astype(np.float32)).to(self._luma.device)
                probabilities[start:start + len(part)] = self._classifier.probabilities(self._crops(part)).cpu().numpy()
        return Result(boxes[chosen], faces.scores[chosen], probabilities, left_out)

    def _crops(self, rows: Tensor) -> Tensor:
        """Cuts the crops of entries of the list."""
        return crop_faces(self._displayed, rows[:, 0].long(), rows[:, 1:5], self._spec,
                          full_range=self._geometry.full_range)

    def _hide(self, place: int, part: Rectangle) -> None:
        left, top, right, bottom = part
        for planes, black in ((self._luma[place], self._black_luma), (self._chroma[place], 128)):
            height, width = planes.shape[-2:]
            planes[..., span(top, bottom, height), span(left, right, width)] = black

    def _pinned_like(self, planes: Tensor) -> Tensor:
        return self._runtime.empty(*planes.shape, dtype=planes.dtype)

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._runtime.device)
