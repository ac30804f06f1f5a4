"""Finds faces in pictures with YuNet: on a CPU through onnxruntime, elsewhere through torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from yunet.colour import Colour
from yunet.decode import STRIDES, anchors, decode, suppress
from yunet.weights import WeightsError, read_onnx

__all__ = ["Colour", "Detector", "Faces", "OnnxDetector", "Picture", "WeightsError", "load_detector"]

NMS_IOU = 0.45
"""Measured on 200 pictures of WIDER FACE: average precision of faces of 32 px and more is .896 at 0.3, .910 at 0.45
and .912 at 0.5; F1 at score 0.6 is highest at 0.45."""

SHRINK_AFTER = 200
"""Pictures in a row, all smaller than the largest before them, after which memory goes back to the system."""

Picture = NDArray[np.uint8]
"""Three planes of a picture, (3, H, W), 0..255; a `Colour` says what they are."""


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one picture, best first.

    Attributes:
        boxes: (N, 4) x, y, width, height in pixels of the picture given; may reach over its edge.
        scores: (N,) from the detector's least score to 1.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


class Detector(Protocol):
    """Finds faces in pictures. An instance serves one thread at a time; give each its own."""

    def detect(self, pictures: Sequence[Picture], colours: Sequence[Colour] = ()) -> list[Faces]:
        """Returns the faces of each picture, in the order of the pictures.

        Args:
            pictures: each (3, H, W) of 0..255; any size of 32 and more, sizes may differ. Faces of about 10 to 300
                pixels are found.
            colours: what the planes of each picture are; B, G, R where none are given.

        Raises:
            ValueError: a picture is not (3, H, W) uint8.
        """
        ...


def load_detector(
    device: str = "cpu", score: float = 0.6, nms_iou: float = NMS_IOU, max_faces: int = 200
) -> Detector:
    """Loads YuNet.

    Args:
        device: `cpu` is onnxruntime on one thread; `cuda:0` and the like, and `torch:cpu`, are torch.
        score: faces below it are left out; 0.01 to 0.99, the best F1 is near 0.6.
        nms_iou: intersection over union above which two boxes are one face.
        max_faces: the best so many of a picture are kept.

    Raises:
        WeightsError: the weights are missing or not the ones this code was tested with.
        ValueError: torch is missing for the device, or a score out of range.
        RuntimeError: there is no such device.
    """
    if not 0.01 <= score <= 0.99:
        raise ValueError(f"score is {score}, must be from 0.01 to 0.99")
    if device == "cpu":
        return OnnxDetector(score, nms_iou, max_faces)
    try:
        from yunet.torch_detector import TorchDetector
    except ModuleNotFoundError as error:
        raise ValueError(f"device {device} needs {error.name}; install emotiond[gpu]") from error
    return TorchDetector(device.removeprefix("torch:"), score, nms_iou, max_faces)


class OnnxDetector:
    """YuNet in onnxruntime on one thread, picture by picture.

    A batch in one call is slower here, by a quarter at four pictures of 640x384: one fits the cache.
    Not for several threads at once: the network's input is a buffer that is kept. So is onnxruntime's memory, which
    grows with the largest picture (one of 640x2560 takes 90 MB) and is given back once such pictures are over.
    Each colour that comes has a session of its own, whose first layer takes its planes as they are.
    """

    def __init__(self, score: float, nms_iou: float, max_faces: int) -> None:
        self._score = score
        self._nms_iou = nms_iou
        self._max_faces = max_faces
        self._sessions = {Colour.YUV_601: _open_session(read_onnx(Colour.YUV_601))}
        self._buffer = np.empty(0, np.float32)
        self._largest, self._since = 0, 0    # pixels of the largest picture that memory is held for; pictures since
        self._shrinking = cast(Any, onnxruntime).RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def detect(self, pictures: Sequence[Picture], colours: Sequence[Colour] = ()) -> list[Faces]:
        """As in `Detector`."""
        return [self._detect_one(picture, colour)
                for picture, colour in zip(pictures, colours or [Colour.BGR] * len(pictures), strict=True)]

    def _detect_one(self, picture: Picture, colour: Colour) -> Faces:
        height, width = padded_size(picture)
        if self._holds_too_much(height * width):
            self._give_back()
        size = 3 * (height + 1) * (width + 1)
        if self._buffer.size < size:
            self._buffer = np.empty(size, np.float32)
        network_input = self._buffer[:size].reshape(1, 3, height + 1, width + 1)
        fill(network_input[0], picture, colour)
        raw: NDArray[np.float32] = self._session(colour).run(["raw"], {"picture": network_input})[0]
        boxes, scores = decode(raw[0], anchors(height, width), self._score)
        kept = suppress(boxes, self._nms_iou, self._max_faces)
        return Faces(boxes[kept], scores[kept])

    def _session(self, colour: Colour) -> Any:
        if colour not in self._sessions:
            self._sessions[colour] = _open_session(read_onnx(colour))
        return self._sessions[colour]

    def _holds_too_much(self, pixels: int) -> bool:
        """Tells whether the last pictures, this one included, were all smaller than what memory is held for."""
        if pixels >= self._largest:
            self._largest, self._since = pixels, 0
            return False
        self._since += 1
        if self._since < SHRINK_AFTER:
            return False
        self._largest, self._since = pixels, 0
        return True

    def _give_back(self) -> None:
        """Runs each session once on next to nothing, since onnxruntime gives a session's memory back after a run."""
        self._buffer = np.empty(0, np.float32)
        least = np.zeros((1, 3, STRIDES[-1] + 1, STRIDES[-1] + 1), np.float32)
        for session in self._sessions.values():
            session.run(["raw"], {"picture": least}, self._shrinking)


def padded_size(picture: Picture) -> tuple[int, int]:
    """Returns height and width rounded up to what the network takes.

    Raises:
        ValueError: the picture is not (3, H, W) uint8.
    """
    if picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape or picture.dtype != np.uint8:
        raise ValueError(f"picture is {picture.dtype} of {picture.shape}, must be uint8 of (3, height, width)")
    multiple = STRIDES[-1]
    return -(-picture.shape[1] // multiple) * multiple, -(-picture.shape[2] // multiple) * multiple


def fill(target: NDArray[np.float32] | NDArray[np.uint8], picture: Picture, colour: Colour) -> None:
    """Writes a picture into `target` (3, H + 1, W + 1): a black row and column first, black right of it and below."""
    height, width = picture.shape[1:]
    target[:, 1:height + 1, 1:width + 1] = picture
    for plane, black in zip(target, colour.black, strict=True):
        plane[0] = plane[height + 1:] = black
        plane[1:height + 1, 0] = black
        plane[1:height + 1, width + 1:] = black


def _open_session(model: bytes) -> Any:
    options = cast(Any, onnxruntime).SessionOptions()  # its own module has no types
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False  # it would plan one block for each size of picture: no faster, and 50 MB more
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
