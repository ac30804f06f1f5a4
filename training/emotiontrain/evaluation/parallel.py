"""A classifier made of several, a thread each, for measuring on all cores."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier, load_classifier
from emotionnet.weights import WeightsInfo

_LEAST = 64  # crops that are worth a thread


class ParallelClassifier:
    """A `Classifier` that shares a call's crops among several of the same weights."""

    def __init__(self, classifiers: Sequence[Classifier]) -> None:
        self.each = tuple(classifiers)
        self.info: WeightsInfo = classifiers[0].info
        self._threads = ThreadPoolExecutor(len(classifiers))

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Classifies crops, as `Classifier` says; the answers are those of one classifier alone."""
        used = min(len(self.each), len(crops) // _LEAST + 1)
        parts = np.array_split(crops, used)
        return np.concatenate(list(self._threads.map(_classify, self.each[:used], parts)))


def _classify(classifier: Classifier, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return classifier.classify(crops)


def load_parallel(weights: str, device: str, threads: int) -> ParallelClassifier:
    """Loads a set of weights `threads` times for the CPU, once for any other device.

    Raises:
        WeightsError: as in `load_classifier`.
        RuntimeError: as in `load_classifier`.
    """
    return ParallelClassifier([load_classifier(weights, device) for _ in range(threads if device == "cpu" else 1)])
