"""The evaluation as a whole: what is measured of a set of weights on a split, as one document of plain values."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier
from emotionnet.files import write_whole
from emotionnet.weights import WeightsInfo
from emotiontrain.data import Dataset, Split
from emotiontrain.data.votes import majority
from emotiontrain.evaluation import figures as evaluate
from emotiontrain.evaluation.augmented import PASSES, measure_augmented
from emotiontrain.evaluation.daemon_path import BAR, SCENES, PathResult, measure_daemon_path
from emotiontrain.evaluation.page import build_page
from emotiontrain.evaluation.parallel import ParallelClassifier
from emotiontrain.evaluation.robustness import BARS, CORRUPTIONS, Loss, judge, measure_robustness
from emotiontrain.evaluation.speed import measure_speed, processor

PAGE = "index.html"
CURVE_POINTS = 200
THRESHOLDS = tuple(i / 20 for i in range(4, 20))

Document = dict[str, Any]
Step = Callable[[str, int], object]
"""Told what is being done and how many passes of it have just been done."""


def measure(classifier: Classifier, split: Split) -> Document:
    """Classifies the split once and returns all that its probabilities say.

    Returns:
        `figures` as the weights' JSON keeps them, `intervals` of the same names (95 %), and for the `labels` and, where
        there are, the clear majority of the `votes`: `reliability` and `risk_coverage`; `votes_agreement`.
    """
    return _describe(evaluate.classify(classifier, split.pictures), split, classifier.info)


def measure_all(
    classifier: ParallelClassifier, split: Split, step: Step = lambda _, __: None, scenes: Sequence[Any] = SCENES,
    corruptions: Sequence[Any] = CORRUPTIONS,
) -> Document:
    """Measures what `measure` does, and robustness, the daemon's path, test-time augmentation and speed.

    Args:
        classifier: of the split's labels.
        split: with its votes, if it has them.
        step: called as the work goes on.
        scenes: of the daemon's path.
        corruptions: of the robustness.
    """
    speed = measure_speed(classifier.each[0])
    step("pictures as they are", 1)
    clean = evaluate.classify(classifier, split.pictures)
    losses = measure_robustness(classifier, split, clean, corruptions, lambda: step("corrupted pictures", 1))
    path = measure_daemon_path(classifier, split, clean, scenes, len(classifier.each),
                               lambda: step("faces found in frames", PATH_STEPS))
    augmented = measure_augmented(classifier, split, clean, lambda: step("test-time augmentation", 1))
    return _describe(clean, split, classifier.info) | {
        "robustness": {name: [_loss(loss) for loss in each] for name, each in losses.items()},
        "daemon_path": [_scene(result) for result in path],
        "augmented": augmented,
        "speed": {"processor": processor(),
                  "sizes": [asdict(one) | {"faces_per_second": round(one.faces_per_second, 1)} for one in speed]},
        "bars": BARS | {"daemon path": BAR},
    }


PATH_STEPS = 3   # a scene takes about as long as so many passes
STEPS = 1 + sum(c.draws for c in CORRUPTIONS) + PATH_STEPS * len(SCENES) + PASSES
"""What `measure_all` counts up to in its steps."""


def describe(info: WeightsInfo, data: Dataset, split: str, source: str, command: str) -> Document:
    """Returns where the figures come from: weights, data, versions, command and day."""
    chosen = data.test if split == "test" else data.validation
    return {
        "weights": {"id": info.model_id, "file": f"{info.name}.json", "sha256": info.sha256,
                    "parameters": info.parameters, "side": info.input.side, "calibration": asdict(info.calibration),
                    "provenance": info.provenance},
        "data": {"source": source, "split": split, "pictures": len(chosen), "counts": data.counts(chosen),
                 "clear_votes": None if chosen.votes is None else int((majority(chosen.votes) >= 0).sum()),
                 "dropped": data.dropped, "notes": list(data.notes)},
        "command": command,
        "day": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), "machine": platform.machine()} | _versions(),
    }


def write_page(folder: Path, document: Document) -> Path:
    """Writes the page of a whole document into a folder, whole or not at all, and returns its path.

    Raises:
        OSError: it cannot be written.
    """
    write_whole({folder / PAGE: build_page(document).encode()})
    return folder / PAGE


def summary(document: Document) -> str:
    """Returns the figures as lines for a terminal."""
    figures, intervals = document["figures"], document["intervals"]
    low, high = intervals["accuracy"]
    names = list(figures["recall"])
    width = max(map(len, names)) + 2
    lines = [
        f"{figures['pictures']} pictures: accuracy {figures['accuracy']:.2%} ({low:.2%} to {high:.2%})",
        f"macro-F1 {figures['macro_f1']:.4f}, balanced accuracy {figures['balanced_accuracy']:.2%}, "
        f"nll {figures['nll']:.4f}, ECE {figures['ece']:.4f}, Brier {figures['brier']:.4f}, "
        f"AURC {document['risk_coverage']['labels']['aurc']:.4f}",
    ]
    if "votes" in figures:
        votes = figures["votes"]
        lines.append(f"clear majority of votes, {votes['pictures']} pictures: accuracy {votes['accuracy']:.2%}, "
                     f"ECE {votes['ece']:.4f}, nll {votes['nll']:.4f}")
    lines.append("true \\ answer".ljust(width + 4) + "".join(name.rjust(width) for name in [*names, "recall"]))
    for name, row in zip(names, figures["confusion"], strict=True):
        share = figures["recall"][name]
        lines.append(name.ljust(width + 4) + "".join(str(n).rjust(width) for n in row)
                     + ("-" if share is None else f"{share:.1%}").rjust(width))
    return "\n".join(lines)


def comparisons(document: Document) -> list[str]:
    """Returns a line about each loss that has a target, if it was measured; `robustness.judge` gives the last word."""
    bars = document.get("bars", {})
    found = [(f"{loss['name']}, against {truth}", loss["points"], loss["interval"], bars[loss["name"]])
             for truth, losses in document.get("robustness", {}).items() for loss in losses if loss["name"] in bars]
    found += [(f"daemon's path, {scene['name']}, {scene['found']:.1%} found, against {truth}", scene[truth]["points"],
               (scene[truth]["low"], scene[truth]["high"]), bars["daemon path"])
              for scene in document.get("daemon_path", []) for truth in ("labels", "votes") if scene[truth]]
    return [f"{name}: {abs(points):.2f} points {'gained' if points < 0 else 'lost'} (loss at 95 %: {low:.1f} to "
            f"{high:.1f}), target at most {most:g}: {judge(points, (low, high), most)}"
            for name, points, (low, high), most in found]


def _describe(probabilities: NDArray[np.float32], split: Split, info: WeightsInfo) -> Document:
    """Returns the part of the document that the probabilities (N, C) of the pictures as they are give."""
    figures = evaluate.figures(probabilities, split.labels, info.labels, split.votes)
    document: Document = {
        "figures": figures,
        "intervals": _intervals(probabilities, split.labels, info.labels),
        "reliability": {"labels": _bins(probabilities, split.labels)},
        "risk_coverage": {"labels": _risk(probabilities, split.labels, info)},
    }
    if split.votes is not None and "votes" in figures:
        clear = majority(split.votes)
        chosen, clear = probabilities[clear >= 0], clear[clear >= 0]
        matrix = evaluate.confusion_matrix(chosen, clear)
        document["intervals"]["votes"] = _intervals(chosen, clear, info.labels)
        document["reliability"]["votes"] = _bins(chosen, clear)
        document["risk_coverage"]["votes"] = _risk(chosen, clear, info)
        document["votes_agreement"] = {
            "brier": round(evaluate.brier(chosen, clear), 4), "macro_f1": round(float(evaluate.macro_f1(matrix)), 4),
            "balanced_accuracy": round(float(evaluate.balanced_accuracy(matrix)), 4),
            **evaluate.votes_agreement(probabilities, split.votes)}
    return document


def _intervals(probabilities: NDArray[np.float32], truth: NDArray[np.int64], names: Sequence[str]) -> Document:
    confusion = evaluate.confusion_matrix(probabilities, truth)
    hits, drawn = np.diag(confusion), evaluate.bootstrap(confusion)

    def by_class(counts: NDArray[np.int64]) -> dict[str, list[float]]:
        return dict(zip(names, np.round(evaluate.wilson(hits, counts), 4).tolist(), strict=True))

    return {
        "accuracy": np.round(evaluate.wilson(int(hits.sum()), int(confusion.sum())), 4).tolist(),
        "macro_f1": evaluate.percentiles(evaluate.macro_f1(drawn)),
        "balanced_accuracy": evaluate.percentiles(evaluate.balanced_accuracy(drawn)),
        "ece": evaluate.ece_interval(probabilities, truth),
        "recall": by_class(confusion.sum(axis=1)),
        "precision": by_class(confusion.sum(axis=0)),
    }


def _bins(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> list[dict[str, float]]:
    bins = evaluate.reliability(probabilities, truth)
    columns = (bins.edges[:-1], bins.edges[1:], bins.counts, bins.confidence, bins.accuracy)
    names = ("low", "high", "pictures", "confidence", "accuracy")
    return [{name: round(value, 4) for name, value in zip(names, row, strict=True)}
            for row in zip(*(column.tolist() for column in columns), strict=True)]


def _risk(probabilities: NDArray[np.float32], truth: NDArray[np.int64], info: WeightsInfo) -> Document:
    curve = evaluate.risk_coverage(probabilities, truth)
    shown = np.unique(np.linspace(0, len(truth) - 1, CURVE_POINTS).astype(int))
    # the first few answers say little of the risk and much of chance
    shown = shown[shown >= min(len(truth) // 100, len(truth) - 1)]

    def row(threshold: float) -> dict[str, float | None]:
        coverage, right = curve.above(threshold)
        return {"abstain_below": threshold, "coverage": round(coverage, 4),
                "accuracy": None if np.isnan(right) else round(right, 4)}

    return {
        "aurc": round(curve.aurc, 4),
        "curve": [[round(c, 4), round(r, 4)] for c, r
                  in zip(curve.coverage[shown].tolist(), curve.risk[shown].tolist(), strict=True)],
        "thresholds": [row(threshold) for threshold in THRESHOLDS],
        "default": row(info.calibration.abstain_below),
    }


def _loss(loss: Loss) -> Document:
    return {"group": loss.corruption.group, "name": loss.corruption.name, "draws": loss.corruption.draws,
            "accuracy": loss.accuracy, "points": loss.points, "interval": [loss.low, loss.high]}


def _scene(result: PathResult) -> Document:
    return {"name": result.scene.name, "side": result.scene.side, "found": result.found,
            "labels": asdict(result.labels) if result.labels else None,
            "votes": asdict(result.votes) if result.votes else None}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in ("emotiond", "numpy", "onnxruntime", "opencv-python-headless", "opencv-python", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
