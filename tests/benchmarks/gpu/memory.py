"""Whether the device's memory grows while batches vary."""

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import torch

from emotiond.config import DetectorConfig, StreamConfig
from emotiond.device.analyzer import SIZES, TorchAnalyzer
from emotiond.frames import Frame, FrameLedger, Ticket
from emotiond.metrics import Metrics
from emotiond.opening import open_source
from emotiond.picture import Picture
from emotionnet.torch_classifier import TorchClassifier
from emotionnet.weights import load_info
from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import Setting
from yunet.torch_detector import TorchDetector

TITLE = "Memory under varying load"
ABOUT = """\
Batches of a random number of frames of the clips, of all their sizes at once, for eight minutes, into one analyzer;
half of the frames are decoded just then, on the device where it does that, by decoders that come and go. The line goes
through what was held once a second in the second half: of a GPU's memory all that is in use, recorded steps and CUDA's
own included, of a CPU's the process' resident part."""
TABLE, GROWTH = "Memory held", "growth in an hour"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Runs it and draws the line."""
    setting.note_clips(sheet)
    device = setting.device.removeprefix("torch:")
    classifier, detector = TorchClassifier(load_info("builtin"), device), TorchDetector(device, 0.6, 0.45, 1000)
    analyzer = TorchAnalyzer(detector, classifier, DetectorConfig(), {"s": StreamConfig(source="a.mp4")},
                             Metrics(FrameLedger(), classifier.info.labels))
    pictures: list[Picture] = []
    for clip in setting.clips.values():
        with av.open(str(clip)) as container:
            pictures += [Picture(frame) for frame in itertools.islice(container.decode(video=0), 0, 200, 20)]
    decoded = _decode_for_ever(list(setting.clips.values()), setting.device)
    choose = random.Random(1)
    most = SIZES[-1] if device.startswith("cuda") else 2
    minutes = 0.3 if setting.quick else 8.0
    begin = next_look = time.monotonic()
    seconds, megabytes, frames = list[float](), list[float](), 0
    while (now := time.monotonic()) < begin + 60 * minutes:
        batch = choose.choices(pictures, k=choose.randint(1, most))
        batch[:len(batch) // 2] = itertools.islice(decoded, len(batch) // 2)
        analyses = analyzer.analyze([Ticket(Frame("s", index, None, 0, "file", 0.0, None, picture), index)
                                     for index, picture in enumerate(batch)])
        if any(analysis.failed for analysis in analyses):
            raise RuntimeError("a frame could not be analysed; the log says why")
        frames += len(batch)
        if now >= next_look:
            seconds.append(now - begin)
            megabytes.append(held(device))
            next_look += 1.0
    half = len(seconds) // 2
    slope = np.polyfit(seconds[half:], megabytes[half:], 1)[0] if len(seconds) - half > 2 else 0.0
    sheet.add(TABLE, f"{minutes:g} minutes", "frames analysed", frames)
    sheet.add(TABLE, f"{minutes:g} minutes", "at half-time", megabytes[half], "MB")
    sheet.add(TABLE, f"{minutes:g} minutes", "at the end", megabytes[-1], "MB")
    sheet.add(TABLE, f"{minutes:g} minutes", GROWTH, 3600 * float(slope), "MB")


def _decode_for_ever(clips: list[Path], device: str) -> Iterator[Picture]:
    """Yields a frame of each clip in turn, decoded on the device where it does that, and opens anew what has ended."""
    for clip in itertools.cycle(clips):
        source = open_source(StreamConfig(source=str(clip)), device)
        try:
            yield from (Picture(decoded.frame) for decoded in itertools.islice(source.frames(), 40))
        finally:
            source.close()


def held(device: str) -> float:
    """Returns MB."""
    if not device.startswith("cuda"):
        return psutil.Process().memory_info().rss / 1e6
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 1e6
