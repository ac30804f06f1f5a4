"""EmotionNet: the network, its preprocessing, its weights and the classifier that runs it.

Importing this package never imports torch; `emotionnet.network` does.
"""

import os

# onnxruntime's wheels report their use to their maker over the network unless this is set before the import
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
