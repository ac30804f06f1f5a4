"""How long the classifier takes for a face, on one thread."""

import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotionnet.classifier import Classifier

RUNS = 9


@dataclass(frozen=True)
class Speed:
    """Medians over several runs of one size.

    Attributes:
        batch: faces in a call.
        milliseconds: a face, from call to answer.
        cpu_milliseconds: a face, of the calling thread's processor time: what remains where other programs wait for
            the same cores; without meaning on a GPU.
    """

    batch: int
    milliseconds: float
    cpu_milliseconds: float

    @property
    def faces_per_second(self) -> float:
        """Faces that one thread classifies in a second."""
        return 1000 / self.milliseconds


def measure_speed(classifier: Classifier, batches: Sequence[int] = (1, 64), runs: int = RUNS) -> list[Speed]:
    """Times a single classifier, after one call that is not counted."""
    side = classifier.info.input.side
    results: list[Speed] = []
    for batch in batches:
        crops = np.random.default_rng(0).integers(0, 256, (batch, side, side), np.uint8)
        classifier.classify(crops)
        wall: list[float] = []
        cpu: list[float] = []
        for _ in range(runs):
            began, began_cpu = time.perf_counter(), time.thread_time()
            classifier.classify(crops)
            wall.append(time.perf_counter() - began)
            cpu.append(time.thread_time() - began_cpu)
        results.append(Speed(batch, round(1000 * statistics.median(wall) / batch, 3),
                             round(1000 * statistics.median(cpu) / batch, 3)))
    return results


def processor() -> str:
    """Returns the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
