"""EmotionNet: the network, its preprocessing, its weights and the classifier that runs it.

Importing this package never imports torch; `emotionnet.network` does.
"""

import os

# onnxruntime's wheels report their use to their maker over the network unless this is set before the import
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

MOST_PIXELS = 64 * 1024 * 1024
"""Of a picture's file; a few bytes can claim many more. OpenCV reads its own limit when it is imported."""
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MOST_PIXELS))
