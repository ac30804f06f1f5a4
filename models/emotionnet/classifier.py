"""From face crops to probabilities: EmotionNet in onnxruntime, or in torch where a GPU is asked for."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from emotionnet.weights import ONNX, TEMPERATURE, WeightsError, WeightsInfo, load_info

CHUNK = 16
"""Crops in one run of the network: with more, a face costs no less (measured), and memory grows."""


class NonFiniteError(RuntimeError):
    """The network gave probabilities that are not numbers; the crops of that call have no result."""


class Classifier(Protocol):
    """Classifies many face crops in one call. Not for several threads at once: give each its own."""

    @property
    def info(self) -> WeightsInfo:
        """The weights in use."""
        ...

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classifies crops.

        Args:
            crops: (N, side, side) full-range luma, as `preprocess.crop_square` cuts them; N may be 0.

        Returns:
            (N, classes) calibrated probabilities, each row's sum 1, in the order of `info.labels`.

        Raises:
            ValueError: crops of another shape or type.
            NonFiniteError: the network gave no numbers.
        """
        ...


def load_classifier(weights: str | Path = "builtin", device: str = "cpu") -> Classifier:
    """Loads a set of weights, checked.

    Args:
        weights: as in `weights.load_info`.
        device: `cpu` runs onnxruntime on one thread; a torch device (`cuda:0`) or `torch:cpu` runs torch,
            which needs emotiond[gpu].

    Raises:
        WeightsError: the set cannot be used.
        RuntimeError: torch or the device is not there.
    """
    info = load_info(weights)
    if device == "cpu":
        return OnnxClassifier(info)
    try:
        from emotionnet.torch_classifier import TorchClassifier
    except ImportError as error:
        raise RuntimeError(f"device {device} needs {error.name}: install emotiond[gpu], or use device cpu") from error
    return TorchClassifier(info, device.removeprefix("torch:"))


class OnnxClassifier:
    """A `Classifier` on one CPU thread; several of them in several threads scale with the cores."""

    def __init__(self, info: WeightsInfo) -> None:
        """Loads the ONNX of `info` and runs it once.

        Raises:
            WeightsError: wrong hash, unreadable, or with an input or output that is not what the JSON says.
        """
        self.info = info
        path, content = info.file(ONNX), info.read(ONNX)
        try:
            self._session = _session(content)
        except Exception as error:  # onnxruntime's errors have no common base
            raise WeightsError(f"{path}: onnxruntime cannot load it ({_first_line(error)}); "
                               "export the set again") from error
        self._input, self._output = _check_graph(self._session, info, path)
        try:
            self.classify(np.full((1, info.input.side, info.input.side), 128, np.uint8))
        except NonFiniteError as error:
            raise WeightsError(f"{path}: a grey picture gives no numbers, so its weights are broken; "
                               "export the set again from a run that did not diverge") from error

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classifies crops, as `Classifier` says."""
        check_crops(crops, self.info)
        out = np.empty((len(crops), len(self.info.labels)), np.float32)
        for start in range(0, len(crops), CHUNK):
            chunk = np.ascontiguousarray(crops[start:start + CHUNK])
            out[start:start + CHUNK] = self._session.run([self._output], {self._input: chunk})[0]
        return check_finite(out)


def check_crops(crops: NDArray[np.uint8], info: WeightsInfo) -> None:
    """Raises ValueError unless `crops` is (N, side, side) uint8."""
    side = info.input.side
    if crops.dtype != np.uint8 or crops.ndim != 3 or crops.shape[1:] != (side, side):
        raise ValueError(f"crops are {crops.shape} {crops.dtype}, but {info.model_id} takes (N, {side}, {side}) uint8")


def check_finite(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns `probabilities`, or raises NonFiniteError."""
    bad = int(np.count_nonzero(~np.isfinite(probabilities).all(axis=1)))
    if bad:
        raise NonFiniteError(f"EmotionNet gave no numbers for {bad} of {len(probabilities)} faces")
    return probabilities


def _session(content: bytes) -> Any:
    runtime: Any = onnxruntime  # its own types are full of holes
    options = runtime.SessionOptions()
    # Threads come from the caller, one session each; more inside a session spin and fight for the same cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # it never gives back what one crowd of faces took, and is no faster here
    options.log_severity_level = 3
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _check_graph(session: Any, info: WeightsInfo, path: Path) -> tuple[str, str]:
    """Returns the names of the graph's input and output, having compared both with `info`."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    side, classes = info.input.side, len(info.labels)
    if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or list(inputs[0].shape[1:]) != [side, side]:
        found = ", ".join(f"{i.type} {i.shape}" for i in inputs)
        raise WeightsError(f"{path}: takes {found}, but the JSON beside it says uint8 crops of {side}x{side}; "
                           "export the set again")
    if len(outputs) != 1 or list(outputs[0].shape[1:]) != [classes]:
        found = ", ".join(str(o.shape) for o in outputs)
        raise WeightsError(f"{path}: gives {found}, but the JSON beside it has {classes} labels; export the set again")
    if isinstance(inputs[0].shape[0], int):
        raise WeightsError(f"{path}: takes exactly {inputs[0].shape[0]} crops at a time, not any number; "
                           "export the set again")
    temperature = session.get_modelmeta().custom_metadata_map.get(TEMPERATURE, "1.0")
    if temperature != repr(float(info.calibration.temperature)):
        raise WeightsError(f"{path}: divides the logits by {temperature[:20]}, but the JSON beside it says "
                           f"{info.calibration.temperature}; export the set again")
    return inputs[0].name, outputs[0].name


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
