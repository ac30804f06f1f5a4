"""Calibration: a temperature that is found again, a threshold worked out by hand, and both on real logits."""

from pathlib import Path

import numpy as np
import pytest

from emotionnet.classifier import load_classifier
from emotionnet.labelled import read_test_pictures
from emotionnet.weights import LABELS, Calibration
from emotiontrain.calibrate import (
    COLDEST,
    HOTTEST,
    LEAST_PICTURES,
    CalibrationError,
    calibrate,
    choose_threshold,
    fit_temperature,
    softmax,
)
from emotiontrain.data import Split
from emotiontrain.evaluation.figures import nll, reliability


def honest(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits (count, 7) and classes drawn from the very probabilities that the logits mean."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, 7))
    truth = (softmax(logits).cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return logits, truth


def make_split(truth: np.ndarray, votes: np.ndarray | None = None) -> Split:
    return Split([f"{i}.jpg" for i in range(len(truth))], np.zeros((len(truth), 1, 1), np.uint8), truth, votes)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.4, 3.0])
def test_the_temperature_undoes_the_factor_that_logits_were_multiplied_by(factor: float) -> None:
    logits, truth = honest(20_000)

    found = fit_temperature(logits * factor, truth)

    assert found == pytest.approx(factor, rel=0.03)
    assert found == pytest.approx(factor * fit_temperature(logits, truth), rel=1e-6)


def test_no_other_temperature_has_a_lower_likelihood_loss() -> None:
    logits, truth = honest(500, seed=3)
    best = fit_temperature(2 * logits, truth)

    losses = [nll(softmax(2 * logits / (best * change)), truth) for change in (0.9, 0.99, 1.0, 1.01, 1.1)]

    assert np.argmin(losses) == 2


def test_extreme_answers_end_at_the_bounds_and_not_at_infinity() -> None:
    truth = np.arange(200) % 7

    assert fit_temperature(np.eye(7)[truth] * 3, truth) == pytest.approx(COLDEST)
    assert fit_temperature(np.eye(7)[truth] * 3, (truth + 1) % 7) == pytest.approx(HOTTEST)
    assert fit_temperature(np.eye(7)[truth] * 5000, truth) <= HOTTEST  # powers of such logits would overflow


def test_the_threshold_is_the_lowest_that_reaches_the_target() -> None:
    confidence = np.array([0.30, 0.42, 0.55, 0.61, 0.70, 0.80, 0.85, 0.90, 0.95, 0.99])
    right = np.array([False, False, True, False, True, True, True, True, True, True])

    assert choose_threshold(confidence, right, 0.7, 0.5) == 0.0     # 7 of 10 as it is
    assert choose_threshold(confidence, right, 0.75, 0.5) == 0.31   # 7 of 9
    assert choose_threshold(confidence, right, 0.85, 0.5) == 0.43   # 7 of 8
    assert choose_threshold(confidence, right, 0.9, 0.5) == 0.62    # 6 of 6; with 0.55 and 0.61 it is 7 of 8
    assert choose_threshold(confidence, right, 0.9, 0.8) == 0.55    # 8 of 10 have to stay
    assert choose_threshold(confidence, np.zeros(10, bool), 0.9, 0.0) == 0.99   # one stays in any case


def test_a_calibration_says_what_it_was_fitted_on_and_what_it_brought() -> None:
    logits, truth = honest(4000, seed=1)

    found = calibrate((3 * logits).astype(np.float32), make_split(truth), "labels")

    confidence = softmax(3 * logits / found.temperature)
    kept = confidence.max(axis=1) >= found.abstain_below
    right = confidence.argmax(axis=1) == truth
    assert (found.split, found.truth, found.pictures) == ("validation", "labels", 4000)
    assert found.ece_before is not None
    assert found.ece_after is not None
    assert found.ece_after < 0.03 < 0.2 < found.ece_before
    assert found.accepted == pytest.approx(kept.mean(), abs=1e-3)
    assert found.accuracy == pytest.approx(right[kept].mean(), abs=1e-3)
    assert found == calibrate((3 * logits).astype(np.float32), make_split(truth), "labels")


def test_on_votes_only_clear_majorities_count() -> None:
    logits, truth = honest(1000, seed=2)
    votes = np.zeros((1000, 8), np.int64)
    votes[np.arange(1000), truth] = 6
    votes[:300, 7] = 6    # half of the votes are for something else
    wrong = (truth + 1) % 7

    found = calibrate(logits.astype(np.float32), make_split(wrong, votes), "votes")

    assert (found.truth, found.pictures) == ("votes", 700)
    assert found.temperature == pytest.approx(fit_temperature(logits[300:], truth[300:]), abs=2e-3)


@pytest.mark.parametrize("count", [1, LEAST_PICTURES - 1])
def test_too_few_pictures_change_nothing(count: int) -> None:
    logits, truth = honest(count)

    found = calibrate((9 * logits).astype(np.float32), make_split(truth), "labels")

    assert found == Calibration(split="validation", truth="labels", pictures=count)
    assert (found.temperature, found.ece_after) == (1.0, None)


def test_missing_votes_and_outputs_that_are_no_numbers_are_refused() -> None:
    logits, truth = honest(200)

    with pytest.raises(CalibrationError, match="give their CSV with --votes"):
        calibrate(logits.astype(np.float32), make_split(truth), "votes")
    logits[7, 3] = np.nan
    with pytest.raises(CalibrationError, match="give a run that did not diverge"):
        calibrate(logits.astype(np.float32), make_split(truth), "labels")


def test_on_real_answers_the_calibration_error_falls_and_pictures_not_fitted_on_gain_too(data_dir: Path) -> None:
    classifier = load_classifier()
    crops, labels = read_test_pictures(
        data_dir / "fer2013/fer2013_kaggle_jpg.tar.xz", LABELS, classifier.info.input.side)
    chosen = np.random.default_rng(0).permutation(len(labels))[:1200]
    # softened or sharpened answers stand for a network that is too modest or too sure
    logits, labels = np.log(classifier.classify(crops[chosen])).astype(np.float64), labels[chosen]
    for factor in (0.15, 2.5):
        fitted, rest = slice(0, 600), slice(600, None)

        found = calibrate((factor * logits[fitted]).astype(np.float32), make_split(labels[fitted]), "labels")

        assert found.ece_before is not None
        assert found.ece_after is not None
        assert found.ece_after < found.ece_before / 2
        before, after = (reliability(softmax(factor * logits[rest] / t), labels[rest]).error
                         for t in (1, found.temperature))
        assert after < before / 2
