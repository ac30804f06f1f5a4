"""Both networks alone, in batches of several sizes."""

from collections.abc import Callable

import torch
from torch import nn

from emotiond.device.runtime import Runtime
from emotionnet.torch_classifier import TorchClassifier
from emotionnet.weights import load_info
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.clock import seconds_of, work_of
from tests.benchmarks.gpu.limits import MEMORY, PRODUCTS, ceilings
from tests.benchmarks.setting import Setting, take_turns
from yunet.colour import Colour
from yunet.torch_detector import TorchDetector

TITLE = "Networks alone"
ABOUT = """\
Each network as the daemon runs it, recorded as one launch, on pictures that are on the device already; the detector
with its suppression. *Operations* and *memory* are what its convolutions and products calculate, and what its layers
read and write each by itself, as a share of the ceilings above: the higher of the two is the limit that is nearest.
Pooling, scaling, joining and the suppression are in the time and not in these."""
CLASSIFIER, DETECTOR = "EmotionNet, faces a second", "YuNet at 640x384, frames a second"
FACES, FRAMES = (1, 8, 64, 512, 4096), (1, 8, 32, 128)
SIDES = (64, 96)


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures each size in turn."""
    device = setting.device.removeprefix("torch:")
    runtime = Runtime(torch.device(device))
    classifier, detector = TorchClassifier(load_info("builtin"), device), TorchDetector(device, 0.6, 0.45, 200)
    most = 10**9 if device.startswith("cuda") else 64
    runs: dict[tuple[str, str, int], tuple[nn.Module, Callable[[], object]]] = {}
    for side in SIDES:
        for count in filter(lambda count: count <= most, FACES):
            crops = torch.randint(0, 256, (count, side, side), dtype=torch.uint8, device=device)
            runs[CLASSIFIER, f"{count} of {side} pixels", count] = (
                classifier.network, lambda crops=crops: classifier.probabilities(crops))
    for count in filter(lambda count: count <= most // 8, FRAMES):
        planes = torch.randint(0, 256, (count, 3, 385, 641), device=device).to(detector.dtype).contiguous(
            memory_format=torch.channels_last)
        runs[DETECTOR, str(count), count] = (
            detector.network(Colour.YUV_709), lambda planes=planes: detector.find(planes, Colour.YUV_709))
    limits = ceilings(setting)
    work = {key: work_of(network, call) for key, (network, call) in runs.items()}
    steps = {key: runtime.record(lambda call=call: _ignore(call())) for key, (_, call) in runs.items()}
    by_row = {f"{table}: {row}": (table, row, count) for table, row, count in runs}
    for name in take_turns(min(setting.rounds, 3), by_row):
        table, row, count = key = by_row[name]
        seconds = seconds_of(runtime, steps[key], 0.1 if setting.quick else 0.5)
        sheet.add(table, row, "a second", count / seconds)
        sheet.add(table, row, "operations", 100 * work[key].operations / seconds / limits[PRODUCTS][0] / 1e12, "%")
        sheet.add(table, row, "memory", 100 * work[key].bytes / seconds / limits[MEMORY][0] / 1e9, "%")


def _ignore(made: object) -> None:
    """Takes what a step made."""
