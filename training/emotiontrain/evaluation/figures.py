"""Figures of a set of weights on a split: how often it is right, how well it knows that, and how surely both are known.

Everything here is numpy on probabilities (N, C) and labels (N,); `classify` makes the probabilities with the daemon's
own classifier and scaling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier
from emotionnet.preprocess import resize
from emotionnet.weights import LABELS, WeightsError, WeightsInfo
from emotiontrain.data.votes import majority, shares

Floats = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64]

BINS = 15
"""Of the calibration error and the reliability diagram, as Guo et al. have them (arXiv:1706.04599)."""

_Z = 1.959964   # of the normal distribution at 97.5 %
_LEAST = 1e-12  # a likelihood below it counts as it


@dataclass(frozen=True)
class Reliability:
    """Bins of the top confidence, each of the same width, open below and closed above; empty bins hold zeros.

    Attributes:
        edges: (bins + 1,) from 0 to 1.
        counts: (bins,) pictures.
        confidence: (bins,) mean top confidence.
        accuracy: (bins,) share of right answers.
    """

    edges: NDArray[np.float64]
    counts: Labels
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def error(self) -> float:
        """The expected calibration error: the mean over pictures of |accuracy - confidence| of their bin."""
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / max(self.counts.sum(), 1))


@dataclass(frozen=True)
class RiskCoverage:
    """What abstaining brings: the most confident answers first, one more at each step.

    Attributes:
        confidence: (N,) top confidence of the answer that joins, falling.
        coverage: (N,) share of the pictures answered.
        risk: (N,) share of wrong ones among those answered. Answers of one confidence join in no order: each of
            them counts as wrong by their mean.
    """

    confidence: NDArray[np.float64]
    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]

    @property
    def aurc(self) -> float:
        """Area under the curve: the mean risk over all N coverages (Geifman and El-Yaniv, arXiv:1705.08500)."""
        return float(self.risk.mean())

    def above(self, threshold: float) -> tuple[float, float]:
        """Returns coverage and accuracy of the answers at or above a confidence; accuracy is nan where none are."""
        answered = int(np.count_nonzero(self.confidence >= threshold))
        if not answered:
            return 0.0, float("nan")
        return float(self.coverage[answered - 1]), 1 - float(self.risk[answered - 1])


def classify(classifier: Classifier, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scales pictures (N, S, S) as the daemon scales its crops and returns their probabilities (N, C)."""
    side = classifier.info.input.side
    crops = [resize(picture, side) for picture in pictures]
    return classifier.classify(np.stack(crops) if crops else np.zeros((0, side, side), np.uint8))


def check_labels(info: WeightsInfo, labels: Sequence[str]) -> None:
    """Compares the labels of a set of weights with those of the data.

    Raises:
        WeightsError: they are not the same, in the same order.
    """
    if info.labels != tuple(labels):
        raise WeightsError(f"{info.folder / info.name}.json: its labels are {', '.join(info.labels)}, but the data's "
                           f"are {', '.join(labels)}; give weights that were trained on this data")


def figures(
    probabilities: Floats, labels: Labels, names: Sequence[str] = LABELS, votes: Labels | None = None
) -> dict[str, Any]:
    """Returns the figures that a set of weights carries in its JSON, to four digits.

    Args:
        probabilities: (N, C), each row's sum 1.
        labels: (N,) indices of the true classes.
        names: of the classes.
        votes: (N, C + 1) taggers' votes.

    Returns:
        `pictures` (N), `accuracy`, `macro_f1` (mean F1 of the classes that are labels or answers), `balanced_accuracy`
        (mean recall of the classes that are labels), `nll` (mean negative log likelihood, nats), `ece` (see
        `reliability`), `brier` (see `brier`), `recall` and `precision` by class (None where there is nothing to
        count), and `confusion`: rows are the true classes, columns the answers, counts. With votes, `votes` holds
        `pictures` with a clear majority, and `accuracy`, `ece`, `nll`, `recall` against it.
    """
    confusion = confusion_matrix(probabilities, labels)
    result: dict[str, Any] = {
        "pictures": len(labels),
        "accuracy": _short(float(accuracy(confusion))),
        "macro_f1": _short(float(macro_f1(confusion))),
        "balanced_accuracy": _short(float(balanced_accuracy(confusion))),
        "nll": _short(nll(probabilities, labels)),
        "ece": _short(reliability(probabilities, labels).error),
        "brier": _short(brier(probabilities, labels)),
        "recall": by_class(recall(confusion), names),
        "precision": by_class(recall(confusion.T), names),
        "confusion": confusion.tolist(),
    }
    clear = None if votes is None else majority(votes)
    if clear is not None and (clear >= 0).any():
        chosen, clear = probabilities[clear >= 0], clear[clear >= 0]
        matrix = confusion_matrix(chosen, clear)
        result["votes"] = {
            "pictures": len(clear),
            "accuracy": _short(float(accuracy(matrix))),
            "ece": _short(reliability(chosen, clear).error),
            "nll": _short(nll(chosen, clear)),
            "recall": by_class(recall(matrix), names),
        }
    return result


def confusion_matrix(probabilities: Floats, labels: Labels) -> Labels:
    """Returns counts (C, C): rows are the true classes, columns the answers."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def accuracy(confusion: Labels) -> NDArray[np.float64]:
    """Returns the share of right answers of confusion matrices (..., C, C)."""
    return np.trace(confusion, axis1=-2, axis2=-1) / np.maximum(confusion.sum(axis=(-2, -1)), 1)


def recall(confusion: Labels) -> NDArray[np.float64]:
    """Returns the share of each true class answered rightly, (..., C); nan where it has no pictures.

    That of the transposed matrix is the precision.
    """
    hits, true = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    return np.where(true > 0, hits / np.maximum(true, 1), np.nan)


def balanced_accuracy(confusion: Labels) -> NDArray[np.float64]:
    """Returns the mean recall of the classes with pictures, of matrices (..., C, C)."""
    return _mean(recall(confusion), confusion.sum(axis=-1) > 0)


def macro_f1(confusion: Labels) -> NDArray[np.float64]:
    """Returns the mean F1 of the classes that are labels or answers, of matrices (..., C, C)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    either = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return _mean(2 * hits / np.maximum(either, 1), either > 0)


def nll(probabilities: Floats, labels: Labels) -> float:
    """Returns the mean negative log likelihood of the labels, in nats."""
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(likelihood, _LEAST, 1)).mean())


def brier(probabilities: Floats, labels: Labels) -> float:
    """Returns the mean over pictures of the squared distance to the label's corner, summed over classes: 0 to 2."""
    corners = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - corners) ** 2).sum(axis=1).mean())


def reliability(probabilities: Floats, labels: Labels, bins: int = BINS) -> Reliability:
    """Sorts answers into bins of equal width over 0..1 by their top confidence.

    The expected calibration error (ECE) of all figures here is that of these bins: top answer only, 15 bins,
    weighted by their pictures, no correction for the noise of small bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = (confidence[:, None] > edges[1:-1]).sum(axis=1)
    counts = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (confidence, right))
    means = [total / np.maximum(counts, 1) for total in sums]
    return Reliability(edges, counts.astype(np.int64), *means)


def risk_coverage(probabilities: Floats, labels: Labels) -> RiskCoverage:
    """Returns the curve of risk against coverage by top confidence."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    wrong = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    _, group, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    wrong = (np.bincount(group, weights=wrong) / counts)[group]
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(labels) + 1)
    return RiskCoverage(confidence[order], answered / len(labels), np.cumsum(wrong[order]) / answered)


def wilson(hits: NDArray[Any] | int, count: NDArray[Any] | int) -> NDArray[np.float64]:
    """Returns the 95 % interval of shares (Wilson, 10.1080/01621459.1927.10502953), (..., 2); all of 0..1 for none."""
    n = np.maximum(np.asarray(count, np.float64), 1)
    share = np.asarray(hits, np.float64) / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    interval = np.clip(np.stack([centre - half, centre + half], axis=-1), 0, 1)
    return np.where(np.asarray(count)[..., None] > 0, interval, (0.0, 1.0))


def bootstrap(confusion: Labels, draws: int = 2000, seed: int = 0) -> Labels:
    """Returns confusion matrices (draws, C, C) of pictures drawn anew with replacement.

    Drawing N pictures from N is drawing N times from the cells of their matrix, so no picture is touched.
    """
    total = int(confusion.sum())
    drawn = np.random.default_rng(seed).multinomial(total, confusion.ravel() / max(total, 1), draws)
    return drawn.reshape(draws, *confusion.shape)


def ece_interval(probabilities: Floats, labels: Labels, draws: int = 1000, seed: int = 0) -> list[float]:
    """Returns a 95 % interval of the calibration error, two numbers, from pictures drawn anew with replacement.

    Noise in a bin counts as a gap, so drawing anew raises the error about as much as the pictures' own chance raised
    it. The interval is therefore the draws' percentiles, reflected at the error itself, and not below 0.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    place = (confidence[:, None] > np.linspace(0, 1, BINS + 1)[1:-1]).sum(axis=1)
    random = np.random.default_rng(seed)
    errors = [np.abs(np.bincount(place[drawn], weights=gaps[drawn])).sum() / len(labels)
              for drawn in (random.integers(0, len(labels), len(labels)) for _ in range(draws))]
    error = np.abs(np.bincount(place, weights=gaps)).sum() / len(labels)
    return percentiles(np.maximum(2 * error - np.array(errors), 0))


def percentiles(values: NDArray[np.float64]) -> list[float]:
    """Returns the middle 95 % of bootstrapped values, two numbers."""
    return [_short(value) for value in np.percentile(values, (2.5, 97.5)).tolist()]


def votes_agreement(probabilities: Floats, votes: Labels) -> dict[str, float | None]:
    """Compares probabilities (N, C) with votes (N, C + 1) themselves, not with their majority.

    Returns:
        `cross_entropy` of the probabilities against the shares of votes (nats, mean over pictures with shares, as
        `votes.shares` has them) and `entropy` of those shares, below which it cannot fall; `agreement`: how often the
        network says what a random tagger says, and `taggers`: how often two taggers say the same, over the
        pictures with two votes and more, any vote counted. None where there are no such pictures.
    """
    share = shares(votes).astype(np.float64)
    usable = share.sum(axis=1) > 0
    share, likelihood = share[usable], np.clip(probabilities[usable].astype(np.float64), _LEAST, 1)
    total = votes.sum(axis=1)
    several = total >= 2
    own = votes[np.arange(len(votes)), probabilities.argmax(axis=1)][several] / total[several]
    pairs = (votes * (votes - 1)).sum(axis=1)[several] / (total * (total - 1))[several]
    return {
        "pictures": int(usable.sum()),
        "cross_entropy": _mean_or_none(-(share * np.log(likelihood)).sum(axis=1)),
        "entropy": _mean_or_none(-(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)),
        "agreement": _mean_or_none(own),
        "taggers": _mean_or_none(pairs),
    }


def by_class(values: NDArray[np.float64], names: Sequence[str]) -> dict[str, float | None]:
    """Returns values (C,) by the classes' names, rounded; None where there is none."""
    pairs = zip(names, values.tolist(), strict=True)
    return {name: None if np.isnan(value) else _short(value) for name, value in pairs}


def _mean(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the mean over the last axis of the values that count."""
    return np.where(counted, values, 0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1)


def _mean_or_none(values: NDArray[np.float64]) -> float | None:
    return _short(float(values.mean())) if values.size else None


def _short(value: float) -> float:
    return round(value, 4)
