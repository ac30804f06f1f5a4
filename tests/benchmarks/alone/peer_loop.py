"""The loop that peers share: read a frame with OpenCV, have it analysed, count faces. Runs in any environment."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2

WARM = 2


def measure(analyze: Callable[[Any], int]) -> None:
    """Goes through the clip that the command line names and prints what it took.

    Args:
        analyze: takes a frame as OpenCV reads it, and returns how many faces' emotions it read.
    """
    _go_through(analyze, WARM)
    begin, cpu = time.monotonic(), time.process_time()
    frames, faces = _go_through(analyze, sys.maxsize)
    print(json.dumps({"frames": frames, "seconds": time.monotonic() - begin, "cpu": time.process_time() - cpu,
                      "faces": faces}))


def _go_through(analyze: Callable[[Any], int], most: int) -> tuple[int, int]:
    capture: Any = cv2.VideoCapture(sys.argv[1])
    frames = faces = 0
    while frames < most:
        there, frame = capture.read()
        if not there:
            break
        faces += analyze(frame)
        frames += 1
    capture.release()
    return frames, faces
