"""A sheet of training pictures: some of each class, as they are and as training varies them."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emotionnet.files import write_whole
from emotionnet.preprocess import resize
from emotiontrain.augment import augmentation
from emotiontrain.data import Dataset
from emotiontrain.recipe import Recipe

COLUMNS = 8
"""Pictures of a class in each half."""

MOST_CLASSES = 40
"""Rows of a sheet; a set with more shows its first ones."""

_GAP = 3        # white pixels between pictures
_INCHES = 0.62  # side of a picture on the sheet
_DPI = 150


def draw_sheet(data: Dataset, path: Path, recipe: Recipe | None = None) -> None:
    """Writes the sheet as PNG; the same data give the same sheet.

    Args:
        data: what to show; its training pictures are.
        path: of the PNG; an older one is replaced.
        recipe: whose augmentation and side the second half shows.

    Raises:
        OSError: the file cannot be written.
    """
    recipe = recipe or Recipe()
    labels = data.labels[:MOST_CLASSES]
    chosen = [_choose(np.flatnonzero(data.train.labels == index)) for index in range(len(labels))]
    side = recipe.input.side
    real = [[resize(picture, side) / 255 for picture in data.train.pictures[rows]] for rows in chosen]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        transform = augmentation(recipe.augmentation, side)
        varied = [list(transform(torch.from_numpy(data.train.pictures[rows]))[:, 0].numpy()) for rows in chosen]

    counts = data.counts(data.train)
    width, height = 2 * COLUMNS * _INCHES + 1.9, len(labels) * _INCHES + 0.75
    figure = Figure((width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    bottom, top = 0.1 / height, 1 - 0.5 / height
    half = COLUMNS * _INCHES / width
    left = figure.add_axes((1.4 / width, bottom, half, top - bottom))
    right = figure.add_axes((1 - half - 0.1 / width, bottom, half, top - bottom))
    _show(left, real, side, "as they are")
    _show(right, varied, side, "the same, as training varies them")
    left.set_yticks([(row + 0.5) * (side + _GAP) for row in range(len(labels))],
                    [f"{_short(label)}\n{counts[label]:,}" for label in labels])
    figure.suptitle(f"{len(data.train):,} training pictures", x=0.1 / width, y=1 - 0.15 / height, ha="left", va="top",
                    fontsize=9)
    content = BytesIO()
    figure.savefig(content, format="png")
    write_whole({path: content.getvalue()})


def _choose(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns up to COLUMNS of the indices, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(COLUMNS, len(rows))).round().astype(int)]


def _show(axes: Axes, rows: Sequence[Sequence[NDArray[np.floating]]], side: int, title: str) -> None:
    """Lays the pictures out in one white array, which is much faster than a plot for each.

    Args:
        axes: to draw into.
        rows: a class each, of pictures (side, side), 0..1.
        side: of a picture, pixels.
        title: above the pictures.
    """
    step = side + _GAP
    sheet = np.ones((len(rows) * step, COLUMNS * step), np.float32)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            y, x = row * step + _GAP // 2, column * step + _GAP // 2
            sheet[y:y + side, x:x + side] = picture
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, aspect="auto", extent=(0, sheet.shape[1], sheet.shape[0], 0),
                interpolation="antialiased")
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(label: str, most: int = 18) -> str:
    return label if len(label) <= most else f"{label[:most - 1]}\N{HORIZONTAL ELLIPSIS}"
