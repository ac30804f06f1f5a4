"""ultralytics' streaming loop with an untrained YOLO11n at 640 pixels: `peer_ultralytics CLIP`.

No package carries weights of it that find faces. What it costs does not depend on them; nobody's emotion is read.
"""

import json
import os
import sys
import time
from importlib import import_module
from itertools import islice
from typing import Any


def main() -> None:
    """Measures."""
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    network: Any = import_module("ultralytics").YOLO("yolo11n.yaml")

    def go_through(most: int | None) -> int:
        return sum(1 for _ in islice(network(sys.argv[1], stream=True, verbose=False), most))

    go_through(2)
    begin, cpu = time.monotonic(), time.process_time()
    frames = go_through(None)
    print(json.dumps({"frames": frames, "seconds": time.monotonic() - begin, "cpu": time.process_time() - cpu,
                      "faces": 0}))


if __name__ == "__main__":
    main()
