"""Test-time augmentation: one answer from several looks at a picture, which costs as many times as much.

The daemon does not do it; its figures stand apart from all others.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier
from emotionnet.preprocess import InputSpec, crop_square
from emotiontrain.data import Split
from emotiontrain.evaluation.figures import figures

SHIFT = 1 / 24
"""Of a look to one side, as a fraction of the picture's side."""

PASSES = 9


def measure_augmented(
    classifier: Classifier, split: Split, clean: NDArray[np.float32], step: Callable[[], object] = lambda: None
) -> dict[str, dict[str, Any]]:
    """Returns the figures of the mean probabilities of several looks, by what they are.

    Args:
        classifier: of the split's labels.
        split: what to look at.
        clean: (N, C) probabilities of the pictures as they are.
        step: called after each of the PASSES.
    """
    def look(x: float, y: float, mirrored: bool) -> NDArray[np.float32]:
        pictures = split.pictures[:, :, ::-1] if mirrored else split.pictures
        spec = InputSpec(side=classifier.info.input.side, margin=1, shift_y=0)
        size = pictures.shape[-1]
        crops = [crop_square(np.ascontiguousarray(p), (x * size, y * size, size, size), spec) for p in pictures]
        answer = classifier.classify(np.stack(crops))
        step()
        return answer

    names, votes = classifier.info.labels, split.votes
    mirrored = look(0, 0, True)
    mean = (clean + mirrored) / 2
    shifts = ((-SHIFT, 0.0), (SHIFT, 0.0), (0.0, -SHIFT), (0.0, SHIFT))
    every = np.mean([clean, mirrored, *(look(x, y, m) for x, y in shifts for m in (False, True))], axis=0)
    return {"mirrored too, 2 looks": figures(mean, split.labels, names, votes),
            "mirrored and shifted, 10 looks": figures(every, split.labels, names, votes)}
