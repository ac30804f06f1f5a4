"""Accuracy under what cameras, distance, codecs and a detector's boxes do to a face, one thing at a time.

Every corruption works on the picture as it is stored; what it gives is scaled to the network's input as the daemon
scales a crop. All draws are seeded by the corruption's name, so a figure repeats.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier
from emotionnet.preprocess import Grey, InputSpec, crop_square, resize
from emotiontrain.data import Split
from emotiontrain.data.votes import majority

GREY = 128      # of what covers a face
_PICTURE = 48   # pixels of FER2013's side, which blur is given in

Corrupt = Callable[[Grey, np.random.Generator, int], Grey]
"""From a picture (S, S), what it draws from, and the network's side to a picture of any size."""


@dataclass(frozen=True)
class Corruption:
    """One thing that happens to a picture.

    Attributes:
        group: what it belongs to, for example `blur`.
        name: group and strength.
        apply: what happens.
        draws: how often it is drawn and measured, where chance would otherwise blur the figure.
    """

    group: str
    name: str
    apply: Corrupt
    draws: int = 1

    def crops(self, pictures: NDArray[np.uint8], side: int, draw: int = 0) -> NDArray[np.uint8]:
        """Returns the corrupted pictures (N, S, S) as the network's input (N, side, side)."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), draw])
        crops = [resize(self.apply(picture, rng, side), side) for picture in pictures]
        return np.stack(crops) if crops else np.zeros((0, side, side), np.uint8)


@dataclass(frozen=True)
class Loss:
    """What one corruption costs.

    Attributes:
        corruption: which.
        accuracy: under it.
        points: accuracy of the clean pictures less this one, in percentage points.
        low: of the 95 % interval of `points`, from the differences picture by picture.
        high: likewise.
    """

    corruption: Corruption
    accuracy: float
    points: float
    low: float
    high: float


def low_resolution(picture: Grey, rng: np.random.Generator, side: int, pixels: int) -> Grey:
    """Scales down by area, as a face of `pixels` pixels would reach the network."""
    return resize(picture, pixels)


def blur(picture: Grey, rng: np.random.Generator, side: int, sigma: float) -> Grey:
    """Blurs with a Gaussian, `sigma` in pixels of a picture of 48."""
    sigma *= len(picture) / _PICTURE
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


def noise(picture: Grey, rng: np.random.Generator, side: int, deviation: float) -> Grey:
    """Adds Gaussian noise, each pixel its own, in grey levels."""
    return _levels(picture + rng.normal(0, deviation, picture.shape))


def compress(picture: Grey, rng: np.random.Generator, side: int, quality: int) -> Grey:
    """Compresses as JPEG and decodes."""
    content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)


def brighten(picture: Grey, rng: np.random.Generator, side: int, levels: int) -> Grey:
    """Adds grey levels; what leaves 0..255 stays at its end."""
    return _levels(picture.astype(np.float64) + levels)


def scale_contrast(picture: Grey, rng: np.random.Generator, side: int, factor: float) -> Grey:
    """Scales the distance of every pixel from the picture's mean."""
    middle = picture.mean()
    return _levels((picture - middle) * factor + middle)


def cover(picture: Grey, rng: np.random.Generator, side: int, top: float, bottom: float) -> Grey:
    """Covers all columns between two fractions of the height with grey."""
    covered = picture.copy()
    covered[round(top * len(picture)):round(bottom * len(picture))] = GREY
    return covered


def cover_somewhere(picture: Grey, rng: np.random.Generator, side: int, share: float) -> Grey:
    """Covers one rectangle of this share of the area, half to twice as wide as high, wherever it fits, with grey."""
    aspect = 2 ** rng.uniform(-1, 1)
    size = len(picture)
    width = min(round(size * float(np.sqrt(share * aspect))), size)
    height = min(round(size * size * share / width), size)
    x, y = (int(rng.integers(0, size - length + 1)) for length in (width, height))
    covered = picture.copy()
    covered[y:y + height, x:x + width] = GREY
    return covered


def jitter(picture: Grey, rng: np.random.Generator, side: int, strength: float) -> Grey:
    """Cuts the picture out of itself with another square, as a detector's box is never quite the same.

    The square's side is 1 +- `strength` of the picture's and its centre lies up to `strength` of the side off in x and
    in y, each drawn uniformly; the daemon's own cutter repeats the edge where the square reaches over it.
    """
    size = len(picture)
    cut = size * (1 + rng.uniform(-strength, strength))
    x, y = (rng.uniform(-strength, strength, 2) * size + (size - cut) / 2).tolist()
    return crop_square(picture, (x, y, cut, cut), InputSpec(side=side, margin=1, shift_y=0))


def mirror(picture: Grey, rng: np.random.Generator, side: int) -> Grey:
    """Swaps left and right."""
    return np.ascontiguousarray(picture[:, ::-1])


def rotate(picture: Grey, rng: np.random.Generator, side: int, degrees: float) -> Grey:
    """Turns by the angle to one side or the other; the edge is repeated."""
    middle = (len(picture) - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), degrees * (1 if rng.random() < 0.5 else -1), 1)
    return np.asarray(cv2.warpAffine(picture, matrix, picture.shape, flags=cv2.INTER_LINEAR,
                                     borderMode=cv2.BORDER_REPLICATE), np.uint8)


RESOLUTION_24, JITTER_10 = "resolution 24 px", "crop jitter 10 %"

CORRUPTIONS: tuple[Corruption, ...] = (
    *(Corruption("resolution", f"resolution {n} px", partial(low_resolution, pixels=n)) for n in (32, 24, 16)),
    *(Corruption("crop jitter", f"crop jitter {n} %", partial(jitter, strength=n / 100), draws=3) for n in (5, 10, 20)),
    *(Corruption("blur", f"blur sigma {n} px", partial(blur, sigma=n)) for n in (0.75, 1.5, 2.5)),
    *(Corruption("noise", f"noise {n} levels", partial(noise, deviation=n)) for n in (8, 16, 24)),
    *(Corruption("JPEG", f"JPEG quality {n}", partial(compress, quality=n)) for n in (50, 30, 15)),
    *(Corruption("brightness", f"brightness {n:+} levels", partial(brighten, levels=n)) for n in (-80, -40, 40, 80)),
    *(Corruption("contrast", f"contrast x {n}", partial(scale_contrast, factor=n)) for n in (0.25, 0.5, 1.5)),
    Corruption("occlusion", "eyes covered", partial(cover, top=0.22, bottom=0.48)),
    Corruption("occlusion", "mouth covered", partial(cover, top=0.62, bottom=0.95)),
    Corruption("occlusion", "upper half covered", partial(cover, top=0, bottom=0.5)),
    Corruption("occlusion", "lower half covered", partial(cover, top=0.5, bottom=1)),
    *(Corruption("occlusion", f"rectangle, {n} % covered", partial(cover_somewhere, share=n / 100)) for n in (10, 25)),
    Corruption("pose", "mirrored", mirror),
    *(Corruption("pose", f"turned {n} degrees", partial(rotate, degrees=n)) for n in (10, 20)),
)

BARS: dict[str, float] = {RESOLUTION_24: 12.0, JITTER_10: 1.0}
"""The most percentage points that a corruption should cost: this project's targets for the weights that it ships."""


def judge(points: float, interval: Sequence[float], most: float) -> str:
    """Returns whether a loss is `within` its target or `above` it; `undecided` where its 95 % interval spans it."""
    if interval[0] <= most < interval[1]:
        return "undecided"
    return "within" if points <= most else "above"


def measure_robustness(
    classifier: Classifier, split: Split, clean: NDArray[np.float32],
    corruptions: Sequence[Corruption] = CORRUPTIONS, step: Callable[[], object] = lambda: None,
) -> dict[str, list[Loss]]:
    """Measures every corruption on all pictures.

    Args:
        classifier: of the split's labels.
        split: with its votes, if it has them.
        clean: (N, C) probabilities of the pictures as they are.
        corruptions: what to measure.
        step: called after each classified draw.

    Returns:
        By what it is measured against: `labels`, and `votes` (the clear majority) where the split has such.
    """
    targets = {"labels": split.labels}
    if split.votes is not None and (majority(split.votes) >= 0).any():
        targets["votes"] = majority(split.votes)
    losses: dict[str, list[Loss]] = {name: [] for name in targets}
    for corruption in corruptions:
        answers: list[NDArray[np.int64]] = []
        for draw in range(corruption.draws):
            crops = corruption.crops(split.pictures, classifier.info.input.side, draw)
            answers.append(classifier.classify(crops).argmax(axis=1))
            step()
        for name, target in targets.items():
            losses[name].append(_loss(corruption, np.stack(answers), clean.argmax(axis=1), target))
    return losses


def _loss(
    corruption: Corruption, answers: NDArray[np.int64], clean: NDArray[np.int64], target: NDArray[np.int64]
) -> Loss:
    """Compares answers (draws, N) with those of the clean pictures (N,), where there is a target."""
    known = target >= 0
    right = (answers == target)[:, known].mean(axis=0)
    lost = 100 * ((clean == target)[known] - right)
    half = 1.959964 * float(lost.std() / np.sqrt(len(lost)))
    points = float(lost.mean())
    return Loss(corruption, round(float(right.mean()), 4), round(points, 2), round(points - half, 2),
                round(points + half, 2))


def _levels(values: NDArray[np.float64]) -> Grey:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
