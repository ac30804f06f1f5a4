"""Figures of a set of weights on a split, measured through the daemon's own classifier and preprocessing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier
from emotionnet.preprocess import resize
from emotionnet.weights import LABELS, WeightsError
from emotiontrain.data import Split


def evaluate(classifier: Classifier, split: Split) -> dict[str, Any]:
    """Classifies every picture of `split` once, whole, one crop each, and returns the figures of `figures`.

    Raises:
        WeightsError: the labels of the weights are not those of the data.
    """
    info = classifier.info
    if info.labels != LABELS:
        raise WeightsError(f"{info.folder / info.name}.json: its labels are {', '.join(info.labels)}, but the data's "
                           f"are {', '.join(LABELS)}; give weights that were trained on this data")
    crops = np.stack([resize(picture, info.input.side) for picture in split.pictures])
    return figures(classifier.classify(crops), split.labels)


def figures(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Compares probabilities (N, classes) with labels (N,).

    Returns:
        `pictures` (N), `accuracy`, `macro_f1` (mean of the classes' F1), `nll` (mean negative log likelihood, nats),
        `recall` and `precision` by label, and `confusion`: rows are the true labels, columns the predicted, counts.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    hits = np.diag(confusion).astype(np.float64)
    true, claimed = confusion.sum(axis=1), confusion.sum(axis=0)
    likelihood = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1)
    return {
        "pictures": len(labels),
        "accuracy": round(float(hits.sum() / len(labels)), 4),
        "macro_f1": round(float((2 * hits / np.maximum(true + claimed, 1)).mean()), 4),
        "nll": round(float(-np.log(likelihood).mean()), 4),
        "recall": _by_label(hits / np.maximum(true, 1)),
        "precision": _by_label(hits / np.maximum(claimed, 1)),
        "confusion": confusion.tolist(),
    }


def table(result: dict[str, Any]) -> str:
    """Returns the figures as lines for a terminal."""
    width = max(map(len, LABELS)) + 2
    lines = [f"{result['pictures']} pictures: accuracy {result['accuracy']:.2%}, macro-F1 {result['macro_f1']:.4f}, "
             f"nll {result['nll']:.4f}",
             "true \\ predicted".ljust(18) + "".join(label.rjust(width) for label in LABELS) + "recall".rjust(width)]
    for label, row in zip(LABELS, result["confusion"], strict=True):
        lines.append(label.ljust(18) + "".join(str(n).rjust(width) for n in row)
                     + f"{result['recall'][label]:.1%}".rjust(width))
    return "\n".join(lines)


def _by_label(values: NDArray[np.float64]) -> dict[str, float]:
    return {label: round(value, 4) for label, value in zip(LABELS, values.tolist(), strict=True)}
