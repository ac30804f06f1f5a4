"""Fits what turns a trained network's outputs into probabilities to act on: a temperature, and when to abstain.

Both are fitted on the validation split, against its labels or against the clear majority of the taggers' votes.
"""

import numpy as np
from numpy.typing import NDArray

from emotionnet.weights import LEAST_PICTURES, Calibration, Truth
from emotiontrain.data import Split
from emotiontrain.data.votes import majority
from emotiontrain.evaluation.figures import reliability

COLDEST, HOTTEST = 0.25, 4.0
"""Temperatures are looked for between these; a network of use lies well within."""
TARGET, LEAST_KEPT = 0.9, 0.7
"""What abstaining is for: nine right answers in ten, as long as it withholds at most three answers in ten."""


class CalibrationError(RuntimeError):
    """A calibration cannot be fitted; the message says why and how to mend it."""


def calibrate(logits: NDArray[np.float32], split: Split, on: Truth) -> Calibration:
    """Fits a calibration on a validation split.

    Args:
        logits: (N, classes), the network's outputs for the split's pictures.
        split: the pictures' labels and votes.
        on: what counts as true; pictures without a clear majority of votes have no part in `votes`.

    Returns:
        The calibration; one that changes nothing where fewer than LEAST_PICTURES pictures have a truth.

    Raises:
        CalibrationError: votes are asked for and there are none, or the logits are not numbers.
    """
    if on == "votes" and split.votes is None:
        raise CalibrationError("to calibrate on votes needs votes; give their CSV with --votes, or calibrate on labels")
    truth = split.labels if split.votes is None or on == "labels" else majority(split.votes)
    outputs, truth = logits[truth >= 0].astype(np.float64), truth[truth >= 0]
    if not np.isfinite(outputs).all():
        raise CalibrationError("the network gives no numbers on validation; give a run that did not diverge")
    if len(truth) < LEAST_PICTURES:
        return Calibration(split="validation", truth=on, pictures=len(truth))
    temperature = round(fit_temperature(outputs, truth), 3)
    probabilities = softmax(outputs / temperature)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    threshold = choose_threshold(confidence, right)
    kept = confidence >= threshold
    return Calibration(
        temperature, threshold, "validation", on, len(truth),
        round(reliability(softmax(outputs), truth).error, 4), round(reliability(probabilities, truth).error, 4),
        round(float(kept.mean()), 4), round(float(right[kept].mean()), 4) if kept.any() else None)


def fit_temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Returns the temperature at which the mean negative log likelihood is least (arXiv:1706.04599).

    In 1 / temperature that likelihood is convex, so its slope is zero at one place, which is found by halving.
    Where it falls all the way, as when every answer is right, the end of the range is returned.

    Args:
        logits: (N, classes), N of 1 or more.
        truth: (N,) the true classes.
    """
    gaps = logits - logits[np.arange(len(truth)), truth][:, None]

    def slope(sharpness: float) -> float:
        return float((softmax(sharpness * logits) * gaps).sum(axis=1).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def choose_threshold(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], target: float = TARGET, least_kept: float = LEAST_KEPT
) -> float:
    """Returns the confidence below which the daemon abstains, with 2 digits.

    It is the lowest at which, of the answers that are kept, the share `target` is right: as many answers as that
    accuracy allows (selective classification at a given risk, arXiv:1705.08500, without its margin for chance).
    A network too weak for that keeps its surest answers, the share `least_kept` of all: a daemon that is mostly silent
    serves nobody.

    Args:
        confidence: (N,) highest calibrated probability of each answer.
        right: (N,) whether it was right.
        target: share of right answers among those kept, 0..1.
        least_kept: share of the answers that is kept in any case, 0..1.
    """
    threshold = 0.0
    for step in range(101):
        kept = confidence >= step / 100
        if not kept.any() or kept.mean() < least_kept:
            break
        threshold = step / 100
        if right[kept].mean() >= target:
            break
    return threshold


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns probabilities (N, classes) of logits (N, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
