"""From a set of weights to one in 8-bit integers for CPUs: static quantisation, its ranges taken from crops."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType, shape_inference
from onnxruntime.quantization.calibrate import CalibrationDataReader

from emotionnet.files import write_whole
from emotionnet.preprocess import resize
from emotionnet.weights import ONNX, WeightsError, WeightsInfo, check_info, info_json
from emotiontrain.provenance import versions

SUFFIX = "-int8"
"""What the name of a quantised set has more than that of the set it was made from."""

BATCH = 32
FLOAT = ("MatMul", "Softmax")     # small matrices of the attention: integers are slower there


def quantize(info: WeightsInfo, pictures: NDArray[np.uint8], folder: Path, *, seed: int, command: str) -> WeightsInfo:
    """Writes a set whose convolutions and activations are of 8 bits; probabilities and calibration stay as they are.

    Weights have a scale for each channel and 7 bits: with 8, processors without VNNI overflow in silence.

    Args:
        info: the set to quantise.
        pictures: (N, h, w) crops whose activations give the ranges: training pictures, never those it is measured on.
        folder: gets the set, which holds no safetensors.
        seed: with which `pictures` were drawn, for the JSON.
        command: for the JSON.

    Raises:
        WeightsError: the set cannot be used, is quantised already or lies in `folder`, or no set may have its name.
        OSError: it cannot be written.
    """
    if info.quantized:
        raise WeightsError(f"{info.folder}: is in 8 bits already; give the set that it was made from")
    if folder.resolve() == info.folder.resolve():
        raise WeightsError(f"{folder}: holds the set itself, and a folder is for one set; give another one")
    with tempfile.TemporaryDirectory() as scratch:
        source, prepared, made = (Path(scratch) / name for name in ("source.onnx", "prepared.onnx", "made.onnx"))
        source.write_bytes(info.read(ONNX))
        cast(Any, shape_inference).quant_pre_process(source, prepared, skip_symbolic_shape=True)
        cast(Any, quantization).quantize_static(
            prepared, made, cast(Any, _Crops(pictures, info.input.side)), quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
            nodes_to_exclude=_stays_float(onnx.load(prepared)))
        model = onnx.load(made)
    for node in model.graph.node:
        node.doc_string = ""
    del model.graph.value_info[:]
    content = model.SerializeToString(deterministic=True)
    name = f"{info.name}{SUFFIX}"
    written = replace(
        info, name=name, folder=folder, metrics={}, sha256={f"{name}{ONNX}": hashlib.sha256(content).hexdigest()},
        provenance={"quantized": {"from": info.model_id, "sha256": info.sha256[f"{info.name}{ONNX}"],
                                  "pictures": len(pictures), "seed": seed, "command": command,
                                  "versions": versions()}, **info.provenance})
    check_info(written)
    write_whole({folder / f"{name}{ONNX}": content, folder / f"{name}.json": info_json(written)})
    return written


class _Crops(CalibrationDataReader):
    """Hands crops to onnxruntime's calibration in batches."""

    def __init__(self, pictures: NDArray[np.uint8], side: int) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = (
            np.stack([resize(picture, side) for picture in pictures[start:start + BATCH]])
            for start in range(0, len(pictures), BATCH))

    def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]  # None ends it
        batch = next(self._batches, None)
        return None if batch is None else {"crops": batch}


def _stays_float(model: onnx.ModelProto) -> list[str]:
    """Returns the nodes up to the first activation, which one channel of input makes cheap, and those of FLOAT."""
    nodes = list(model.graph.node)
    activation = next(index for index, node in enumerate(nodes) if node.op_type == "Sigmoid")
    after = next(index for index in range(activation, len(nodes)) if nodes[index].op_type == "Mul")
    return [node.name for index, node in enumerate(nodes) if index <= after or node.op_type in FLOAT]
