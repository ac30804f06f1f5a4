"""From a network in torch to a set of weights: safetensors, ONNX and the JSON that describes them."""

import copy
import hashlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from emotionnet.files import write_whole
from emotionnet.network import EmotionNet, calibrated, parameter_count
from emotionnet.preprocess import InputSpec
from emotionnet.weights import (
    ONNX,
    SAFETENSORS,
    TEMPERATURE,
    Calibration,
    WeightsError,
    WeightsInfo,
    check_info,
    info_json,
)

OPSET = 18


def save_weights(
    folder: Path, network: EmotionNet, *, name: str, version: str, labels: tuple[str, ...], spec: InputSpec,
    metrics: dict[str, Any], provenance: dict[str, Any], calibration: Calibration | None = None,
) -> WeightsInfo:
    """Writes a set of weights: all of its files, or none where one cannot be written.

    Kernels are rounded to half precision first, so both files hold one and the same network at half the size.

    Args:
        folder: gets `<name>.safetensors`, `<name>.onnx` and `<name>.json`; made where it is missing.
        network: the network to save; it is not changed.
        name: name of the set.
        version: version of the set.
        labels: the classes, in the order of the outputs.
        spec: the picture that the network takes.
        metrics: split -> figures.
        provenance: how the set was made.
        calibration: of the probabilities, which both files apply; temperature 1 if not given.

    Raises:
        WeightsError: the network is not of the width that is loaded, its outputs are not as many as the labels, it
            holds values that are no numbers, or the set could not be loaded by its name, version or labels.
        OSError: a file cannot be written.
    """
    if network.width != 1:
        raise WeightsError(f"{folder}: the network is {network.width} times as wide as what a set of weights holds; "
                           "keep it as a teacher, and export a run of width 1")
    if network.classify.linear.out_features != len(labels):
        raise WeightsError(f"{folder}: the network has {network.classify.linear.out_features} outputs, but there are "
                           f"{len(labels)} labels; give as many labels")
    calibration = calibration or Calibration()
    broken = [key for key, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    if broken:
        raise WeightsError(f"{folder}: {broken[0]} holds values that are not numbers; "
                           "export a run that did not diverge")
    rounded = round_kernels(network)
    names = sorted((f"{name}{ONNX}", f"{name}{SAFETENSORS}"))
    info = WeightsInfo(name, version, labels, spec, parameter_count(rounded), dict.fromkeys(names, "0" * 64), metrics,
                       provenance, folder, calibration)
    check_info(info)
    files = {
        f"{name}{SAFETENSORS}": save({key: _pack(tensor) for key, tensor in rounded.state_dict().items()}),
        f"{name}{ONNX}": to_onnx(rounded, spec, calibration.temperature),
    }
    info = replace(info, sha256={file: hashlib.sha256(files[file]).hexdigest() for file in names})
    # the JSON last: a set of which only some files are new is refused by their hashes
    write_whole({folder / file: content for file, content in files.items()}
                | {folder / f"{name}.json": info_json(info)})
    return info


def to_onnx(network: EmotionNet, spec: InputSpec, temperature: float = 1.0) -> bytes:
    """Returns `network` as an ONNX model from crops to probabilities.

    The graph takes `crops` (faces, side, side) uint8 and gives `probabilities` (faces, classes) float32, for any
    number of faces. Normalisation and temperature are inside; the temperature stands in its metadata too. Where half
    precision holds a kernel exactly it is stored so and cast, which onnxruntime does once, when it loads the model.
    """
    example = torch.zeros((2, spec.side, spec.side), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own parts
        program = torch.onnx.export(
            _Deployed(network, spec, temperature).eval(), (example,),
            input_names=["crops"], output_names=["probabilities"],
            dynamic_shapes=[{0: torch.export.Dim("faces", min=1)}], opset_version=OPSET, dynamo=True, verbose=False)
    if program is None:  # only without dynamo
        raise RuntimeError("torch.onnx.export returned no program")
    model = program.model_proto
    _strip(model)
    model.metadata_props.add(key=TEMPERATURE, value=repr(float(temperature)))
    _halve(model.graph)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def round_kernels(network: EmotionNet) -> EmotionNet:
    """Returns a copy of `network` in evaluation mode whose kernels and matrices are values of half precision."""
    rounded = copy.deepcopy(network).cpu().float().eval()
    for parameter in rounded.parameters():
        if parameter.ndim > 1:
            half = parameter.data.half().float()
            parameter.data = torch.where(torch.isfinite(half), half, parameter.data)
    return rounded


def _pack(tensor: Tensor) -> Tensor:
    """Returns kernels that half precision holds exactly in half precision, anything else as it is."""
    exact = tensor.ndim > 1 and tensor.is_floating_point() and torch.equal(tensor.half().float(), tensor)
    return (tensor.half() if exact else tensor).contiguous()


class _Deployed(nn.Module):
    """The network from crops to probabilities, with what only training needs folded away; the function is the same."""

    def __init__(self, network: EmotionNet, spec: InputSpec, temperature: float) -> None:
        super().__init__()
        self.network: Any = copy.deepcopy(network)
        self.mean, self.std, self.temperature = spec.mean, spec.std, temperature
        # Grey stands in all three channels, so one channel under the sum of the three kernels gives the same.
        first: Any = self.network.backbone[0].conv
        grey = nn.Conv2d(1, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False)
        grey.weight.data = first.weight.data.sum(dim=1, keepdim=True)
        self.network.backbone[0].conv = grey
        _replace_normalisation(self.network)

    def forward(self, crops: Tensor) -> Tensor:
        grey = (crops[:, None].float() * (1 / 255) - self.mean) * (1 / self.std)
        return calibrated(self.network(grey)[1], self.temperature)


class _Affine(nn.Module):
    """What batch normalisation does in evaluation mode.

    It stays beside its kernel rather than in it, because the product would not be a value of half precision;
    onnxruntime multiplies the two when it loads the model.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        if norm.running_var is None or norm.running_mean is None:
            raise ValueError("batch normalisation without running statistics cannot be exported")
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1))
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def _replace_normalisation(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _Affine(child))
        else:
            _replace_normalisation(child)


def _strip(model: onnx.ModelProto) -> None:
    """Removes what the exporter notes for debugging: stack traces with this machine's paths, shapes in between."""
    graph = model.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    del graph.value_info[:]
    del graph.metadata_props[:]
    del model.metadata_props[:]


def _halve(graph: onnx.GraphProto) -> None:
    """Stores each kernel that half precision holds exactly in half precision, with a cast in front of its user."""
    casts: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < 256:
            continue
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
