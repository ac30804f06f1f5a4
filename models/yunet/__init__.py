"""YuNet, the face detector: network, box decoding, weights and the detectors that run it.

Wu, Peng, Yu: YuNet, a tiny millisecond-level face detector, https://doi.org/10.1007/s11633-023-1423-y.
Importing this package never imports torch; `yunet.network` and `yunet.torch_detector` do.
"""

import os

# onnxruntime's wheels report their use to their maker over the network unless this is set before the import
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
