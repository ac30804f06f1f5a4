"""A batch's way through the analyzer, step by step."""

import itertools
from collections.abc import Callable

import av
import torch

from emotiond.config import DetectorConfig
from emotiond.device.geometry import Geometry
from emotiond.device.plan import FACES, Plan
from emotiond.device.runtime import Runtime
from emotiond.device.surface import Surface
from emotiond.picture import Picture, Scalers
from emotionnet.torch_classifier import TorchClassifier
from emotionnet.weights import load_info
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.clock import seconds_of
from tests.benchmarks.setting import Setting, take_turns
from yunet.torch_detector import TorchDetector

TITLE = "A batch, step by step"
ABOUT = """\
Frames of the clips in batches of one geometry, the largest that there are, in this machine's memory: *copy* takes their
planes through pinned memory to the device (decoded there, they take a copy inside it instead), *scale* fills the
detector's input, *detect and list* is YuNet, the suppression and the choice of faces, *crop and classify* step two, as
often as the faces need it, *back* the copy of what was found. *Whole* is all of it in the daemon's own order."""
TABLE = "Time of each step, ms a frame"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures every clip."""
    setting.note_clips(sheet)
    device = setting.device.removeprefix("torch:")
    size = 32 if device.startswith("cuda") else 2
    runtime, scalers = Runtime(torch.device(device)), Scalers()
    classifier, detector = TorchClassifier(load_info("builtin"), device), TorchDetector(device, 0.6, 0.45, 1000)
    plans: dict[str, tuple[Plan, list[Surface]]] = {}
    for name, clip in setting.clips.items():
        with av.open(str(clip)) as container:
            frames = list(itertools.islice(container.decode(video=0), 0, 10 * size, 10))
        surfaces = [Surface(Picture(frame), scalers) for frame in itertools.islice(itertools.cycle(frames), size)]
        geometry = Geometry.of(surfaces[0], (0.0, 0.0, 1.0, 1.0), DetectorConfig().width)
        plans[name] = Plan(geometry, size, detector, classifier, DetectorConfig(), runtime), surfaces
    for name in take_turns(min(setting.rounds, 3), plans):
        plan, surfaces = plans[name]
        _measure(setting, sheet, name, plan, surfaces, runtime)


def _measure(
    setting: Setting, sheet: Sheet, name: str, plan: Plan, surfaces: list[Surface], runtime: Runtime
) -> None:
    masks = [() for _ in surfaces]
    plan.begin(surfaces, masks)
    found = sum(len(result.scores) for result in plan.end())
    count = next((count for count in FACES if count >= found), FACES[-1])
    again = -(-found // count)      # so often does step two run for more faces than it takes at once

    def copy() -> None:
        plan.copy_in(surfaces, masks)

    steps: dict[str, tuple[Callable[[], None], int]] = {
        "copy": (copy, 1), "scale": (runtime.record(plan.fill), 1), "detect and list": (runtime.record(plan.find), 1),
        "crop and classify": (plan.prepare(count), again), "back": (lambda: plan.copy_back(count), again)}
    sheet.add(TABLE, name, "faces a frame", found / len(surfaces))
    for step, (run, times) in steps.items():
        seconds = times * seconds_of(runtime, run, 0.05 if setting.quick else 0.3)
        sheet.add(TABLE, name, step, 1000 * seconds / len(surfaces), "ms")

    def whole() -> None:
        plan.begin(surfaces, masks)
        plan.end()

    sheet.add(TABLE, name, "whole", 1000 * seconds_of(runtime, whole, 0.05 if setting.quick else 0.3) / len(surfaces),
              "ms")
