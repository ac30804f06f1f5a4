"""The plain loop: decode, scale, detect, crop, classify, one after the other on one thread.

What somebody writes who knows PyAV, numpy and onnxruntime, with the models in fp32, each library's defaults but for
one thread, and nothing of the daemon.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import onnxruntime
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from emotionnet.preprocess import InputSpec, crop_square, expand_range
from emotionnet.weights import BUILTIN
from yunet.decode import anchors, decode, suppress
from yunet.weights import FOLDER

YUNET = FOLDER / "yunet.onnx"
WIDTH = 640
LEAST_FACE = 24      # pixels; the daemon's default
SCORE, NMS_IOU, MOST = 0.6, 0.45, 200


def open_session(path: Path) -> Any:
    """Loads an fp32 network for one thread."""
    content = path.read_bytes()
    assert b"QuantizeLinear" not in content, f"{path} is not the fp32 reference"
    options = cast(Any, onnxruntime).SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return cast(Any, onnxruntime).InferenceSession(content, options, providers=["CPUExecutionProvider"])


def analyze(frame: av.VideoFrame, scaler: VideoReformatter, yunet: Any, emotionnet: Any, spec: InputSpec) -> int:
    """Finds the faces of a frame and reads their emotions; returns how many there are."""
    height = round(frame.height * min(WIDTH / frame.width, 1))
    width = min(WIDTH, frame.width)
    small = scaler.reformat(frame, width, height, "bgr24", threads=1).to_ndarray()
    padded = -(-height // 32) * 32, -(-width // 32) * 32
    picture = np.zeros((1, 3, padded[0] + 1, padded[1] + 1), np.float32)     # the network wants a row and a column more
    picture[0, :, 1:height + 1, 1:width + 1] = small.transpose(2, 0, 1)
    raw = yunet.run(["raw"], {"picture": picture})[0]
    boxes, _ = decode(raw[0], anchors(*padded), SCORE)
    boxes = boxes[suppress(boxes, NMS_IOU, MOST)] * (frame.width / width)
    boxes = boxes[np.minimum(boxes[:, 2], boxes[:, 3]) >= LEAST_FACE]
    if not len(boxes):
        return 0
    plane = frame.planes[0]
    luma = np.frombuffer(cast(memoryview, plane), np.uint8).reshape(-1, plane.line_size)[:frame.height, :frame.width]
    crops = expand_range(np.stack([crop_square(luma, tuple(box), spec) for box in boxes.tolist()]))
    probabilities: NDArray[np.float32] = emotionnet.run(None, {emotionnet.get_inputs()[0].name: crops})[0]
    return len(probabilities)


def main() -> None:
    """Goes through a clip: frames, seconds by the clock and of the processor, and faces."""
    yunet, emotionnet = open_session(YUNET), open_session(BUILTIN.with_suffix(".onnx"))
    spec = InputSpec(**json.loads(BUILTIN.read_bytes())["input"])

    def go_through(most: int | None) -> tuple[int, int]:
        scaler, frames, faces = VideoReformatter(), 0, 0
        with av.open(sys.argv[1]) as container:
            video = container.streams.video[0]
            video.codec_context.thread_count = 1
            for frame in islice(container.decode(video), most):
                faces += analyze(frame, scaler, yunet, emotionnet, spec)
                frames += 1
        return frames, faces

    go_through(2)
    begin, cpu = time.monotonic(), time.process_time()
    frames, faces = go_through(None)
    print(json.dumps({"frames": frames, "seconds": time.monotonic() - begin, "cpu": time.process_time() - cpu,
                      "faces": faces}))


if __name__ == "__main__":
    main()
