"""A user's script: OpenCV reads, its FaceDetectorYN finds, onnxruntime with its own choice of threads classifies.

`peer_script CLIP YUNET`, with YuNet's file as OpenCV's users have it.
"""

import json
import sys
from typing import Any, cast

import cv2
import numpy as np
import onnxruntime

from emotionnet.preprocess import InputSpec, crop_square
from emotionnet.weights import BUILTIN
from tests.benchmarks.alone.peer_loop import measure

SCORE, NMS_IOU, MOST = 0.6, 0.45, 5000
OPENCV: Any = cv2


def main() -> None:
    """Measures."""
    session = cast(Any, onnxruntime).InferenceSession(
        str(BUILTIN.with_suffix(".onnx")), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    spec = InputSpec(**json.loads(BUILTIN.read_bytes())["input"])
    detector = OPENCV.FaceDetectorYN.create(sys.argv[2], "", (320, 320), SCORE, NMS_IOU, MOST)

    def analyze(frame: Any) -> int:
        detector.setInputSize((frame.shape[1], frame.shape[0]))
        found = detector.detect(frame)[1]
        grey = OPENCV.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for face in [] if found is None else found:
            crop = crop_square(grey, tuple(face[:4].tolist()), spec)
            session.run(None, {name: crop[np.newaxis]})
        return 0 if found is None else len(found)

    measure(analyze)


if __name__ == "__main__":
    main()
