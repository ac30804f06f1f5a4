"""How often a peer's classifier names FER2013's label: `peer_accuracy fer|facex TAR CSV EACH`.

Runs in the peers' environment. The pictures are the 48x48 crops of PrivateTest, given to the classifier as its package
prepares a face that it found.
"""

import csv
import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

OPENCV: Any = cv2
ALSO = {"anger": "angry", "sadness": "sad", "surprised": "surprise"}


def pictures(archive: Path, table: Path, each: int) -> Iterator[tuple[str, Any]]:
    """Yields label and picture of every so many pictures of PrivateTest."""
    with table.open(encoding="utf-8") as file:
        wanted = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file) if row["usage"] == "PrivateTest"}
    chosen = set(sorted(wanted)[::each])
    with tarfile.open(archive) as packed:
        for member in packed:
            name = Path(member.name).name
            content = packed.extractfile(member) if name in chosen else None
            if content:
                yield wanted[name], OPENCV.imdecode(np.frombuffer(content.read(), np.uint8), OPENCV.IMREAD_GRAYSCALE)


def fer() -> Callable[[Any], str]:
    """Returns what names the emotion of a grey crop."""
    network = import_module("fer.fer").FER()
    labels = network._get_labels()

    def name(picture: Any) -> str:
        scaled = OPENCV.resize(picture, (64, 64)).astype(np.float32)
        return labels[int(np.argmax(network._classify_emotions((scaled / 255 - 0.5)[None] * 2)[0]))]

    return name


def facex() -> Callable[[Any], str]:
    """Returns what names the emotion of a grey crop."""
    core: Any = import_module("facex.core")
    network = core.EmotionClassifier(str(Path(core.__file__).parent / "assets" / "model_optimized.tflite"))

    def name(picture: Any) -> str:
        said: dict[str, float] = network.detect_emotion(picture)
        best = max(said, key=lambda label: said[label])
        return ALSO.get(best, best)

    return name


def main() -> None:
    """Prints pictures, and how many are named as labelled."""
    archive, table, each = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    name = {"fer": fer, "facex": facex}[sys.argv[1]]()
    right = [name(picture) == label for label, picture in pictures(archive, table, each)]
    print(json.dumps({"pictures": len(right), "right": sum(right)}))


if __name__ == "__main__":
    main()
