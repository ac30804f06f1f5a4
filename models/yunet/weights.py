"""YuNet's weights: where they lie and the check that they are the ones this code was tested with."""

import hashlib
import json
from pathlib import Path

import numpy as np

from yunet.colour import Colour, first_layer

FOLDER = Path(__file__).with_name("weights")
"""`yunet.onnx` and `yunet.safetensors`, with their hashes and provenance in `yunet.json`; see `make_weights`."""

FIRST_LAYER = (16, 3, 3, 3)
"""Shape of its weight."""


class WeightsError(ValueError):
    """The weights cannot be used; the message is one sentence that names the file and the mend."""


def read_weights(name: str, folder: Path | None = None) -> bytes:
    """Reads a file of weights and checks it against the sha256 that stands in `yunet.json`.

    Args:
        name: `yunet.onnx` or `yunet.safetensors`.
        folder: where it and `yunet.json` lie; FOLDER if not given.

    Raises:
        WeightsError: the file or the JSON is missing or unreadable, or the hashes differ.
    """
    folder = folder or FOLDER
    try:
        expected = json.loads((folder / "yunet.json").read_bytes())["sha256"][name]
        content = (folder / name).read_bytes()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / name}: cannot be read or is not described by the yunet.json beside it "
                           f"({error}); reinstall the package") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(f"{folder / name}: sha256 is {found}, not the {expected} of the yunet.json beside it; "
                           "reinstall the package")
    return content


def read_onnx(colour: Colour, folder: Path | None = None) -> bytes:
    """Reads `yunet.onnx`, its first layer turned into the one for pictures of `colour`.

    Raises:
        WeightsError: as `read_weights` does.
    """
    content = read_weights("yunet.onnx", folder)
    places: dict[str, int] = json.loads(((folder or FOLDER) / "yunet.json").read_bytes())["first_layer"]
    shapes = {"weight": FIRST_LAYER, "bias": FIRST_LAYER[:1]}
    stored = {name: np.frombuffer(content, np.float32, int(np.prod(shape)), places[name]).reshape(shape)
              for name, shape in shapes.items()}
    changed = bytearray(content)
    for name, values in zip(shapes, first_layer(stored["weight"], stored["bias"], colour), strict=True):
        changed[places[name]:places[name] + values.nbytes] = values.tobytes()
    return bytes(changed)
