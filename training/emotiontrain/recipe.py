"""What decides a run's result, beside the data: the recipe, and the presets to begin with."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from emotionnet.preprocess import InputSpec

Optimizer = Literal["muon", "sgd", "adamw", "adam"]
Schedule = Literal["cosine", "step"]
Precision = Literal["float32", "bfloat16", "float16"]


class RecipeError(ValueError):
    """A recipe cannot be used; the message names the field and its range."""


@dataclass(frozen=True)
class Augmentation:
    """Strengths; each picture draws its own values uniformly within them.

    The first ones move a face in its crop, as a detector's boxes do; the middle ones are light and what covers a
    face; the last ones are what cameras, distance and codecs take away.

    Attributes:
        rotate: degrees to either side.
        zoom: fraction of the side to either side.
        shift: fraction of the side to either side.
        upside_down: probability; only for comparison.
        contrast: factor's distance from 1.
        brightness: added, as a fraction of the full range.
        erase: probability of one grey rectangle of up to 40 % of each side.
        low_resolution: probability of being scaled to a side of 16 to 40 pixels and back.
        blur: probability of a Gaussian blur of .4 to 1.5 pixels.
        jpeg: probability of JPEG at quality 15 to 70.
        noise: probability of Gaussian noise of up to .06 of the full range.
    """

    rotate: float = 15.0
    zoom: float = 0.2
    shift: float = 0.12
    upside_down: float = 0.0
    contrast: float = 0.3
    brightness: float = 0.12
    erase: float = 0.4
    low_resolution: float = 0.12
    blur: float = 0.08
    jpeg: float = 0.08
    noise: float = 0.08

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name, value in vars(self).items():
            most = 180 if name == "rotate" else 0.9 if name in ("zoom", "contrast") else 1
            if not 0 <= value <= most:
                raise RecipeError(f"{name.replace('_', '-')} is {value}; give between 0 and {most}")


@dataclass(frozen=True)
class Recipe:
    """One training run, without its data and its machine.

    Attributes:
        epochs: passes over the training pictures.
        batch: pictures in a step, over all processes together.
        optimizer: Muon (arXiv:2502.16982; AdamW for what is no kernel), SGD with Nesterov momentum .9, AdamW or Adam.
        learning_rate: at the top of the schedule.
        schedule: `cosine` rises along a line over `warm_up` and falls along a cosine to a thousandth;
            `step` divides by ten after each third of the epochs.
        warm_up: share of all steps.
        weight_decay: of kernels and matrices; biases and the scales of batch normalisation do not decay.
        label_smoothing: share of a target that is spread evenly over the classes.
        vote_weight: share of a target that the taggers' votes make, where a picture has votes; the rest is its label.
        mixup: both parameters of the beta distribution that pictures are mixed with (arXiv:1710.09412); 0 mixes none.
        dropout: of the features in front of the last layer.
        clip: largest norm of a step's gradients; 0 clips none.
        average_decay: of the moving average of the weights, which is what is validated and kept; 0 keeps none.
        sam: radius of sharpness-aware minimisation (arXiv:2010.01412), which doubles a step's cost; 0 goes without.
        distill: share of the loss that the teachers' softened outputs make (arXiv:1503.02531).
        distill_temperature: softens both sides of that share.
        width: multiple of the network's channels; above 1 for teachers, which the daemon does not load.
        patience: epochs without a better validation after which the run ends; 0 runs them all.
        precision: of the networks' arithmetic; the two halves are mixed precision, for GPUs and, bfloat16, for CPUs
            that have it.
        seed: of everything drawn.
        input: the picture that the network takes.
        augmentation: how training pictures vary.

    Raises:
        RecipeError: a value outside its range.
    """

    epochs: int = 60
    batch: int = 128
    optimizer: Optimizer = "muon"
    learning_rate: float = 5e-3
    schedule: Schedule = "cosine"
    warm_up: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    vote_weight: float = 0.0
    mixup: float = 0.2
    dropout: float = 0.3
    clip: float = 2.0
    average_decay: float = 0.999
    sam: float = 0.0
    distill: float = 0.0
    distill_temperature: float = 2.0
    width: int = 1
    patience: int = 0
    precision: Precision = "float32"
    seed: int = 1
    input: InputSpec = field(default_factory=InputSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name in ("epochs", "batch", "width"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in ("warm_up", "label_smoothing", "vote_weight", "dropout", "average_decay", "distill"):
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in ("learning_rate", "distill_temperature"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "above 0")
        for name in ("weight_decay", "mixup", "clip", "sam", "patience"):
            self._require(name, 0 <= getattr(self, name) < float("inf"), "0 or more")
        for name, kind in (("optimizer", Optimizer), ("schedule", Schedule), ("precision", Precision)):
            self._require(name, getattr(self, name) in get_args(kind), f"one of {', '.join(get_args(kind))}")
        self._require("precision", not (self.sam and self.precision == "float16"), "bfloat16 with sam")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise RecipeError(f"{name.replace('_', '-')} is {getattr(self, name)}; give {wanted}")

    def share(self, processes: int) -> int:
        """Returns how many pictures of a batch each of several processes takes.

        Raises:
            RecipeError: the batch cannot be shared evenly.
        """
        if self.batch % processes:
            raise RecipeError(f"--batch is {self.batch}, which {processes} processes cannot share; "
                              f"give a multiple of {processes}")
        return self.batch // processes

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as JSON, without the crop's geometry: training takes its pictures whole."""
        settings = asdict(self)
        del settings["input"]["margin"], settings["input"]["shift_y"]
        return settings

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "Recipe":
        """Returns what `to_json` wrote.

        Raises:
            RecipeError: not a recipe of this version.
        """
        try:
            parts: dict[str, Any] = {
                "input": InputSpec(**settings["input"]), "augmentation": Augmentation(**settings["augmentation"])}
            return cls(**settings | parts)
        except (TypeError, KeyError, ValueError) as error:
            raise RecipeError(f"not a recipe of this version ({error})") from error

    def with_options(self, options: dict[str, Any]) -> "Recipe":
        """Returns a copy with some values changed; names are those of Recipe, Augmentation and InputSpec's `side`."""
        own, light = {f.name for f in fields(Recipe)}, {f.name for f in fields(Augmentation)}
        changed: dict[str, Any] = {name: value for name, value in options.items() if name in own}
        changed["augmentation"] = replace(self.augmentation, **{k: v for k, v in options.items() if k in light})
        changed["input"] = replace(self.input, side=options.get("side", self.input.side))
        return replace(self, **changed)


PRESETS: dict[str, Recipe] = {
    "default": Recipe(),
    # The first published recipe of this network, upside-down faces included, for comparison. ImageNet's mean and
    # deviation are averaged over their channels: the pictures are grey, so all three channels hold the same.
    "original": Recipe(
        epochs=30, batch=64, optimizer="adam", learning_rate=1e-3, schedule="step", warm_up=0, weight_decay=0,
        label_smoothing=0, mixup=0, dropout=0, clip=0, average_decay=0,
        input=InputSpec(side=224, mean=0.449, std=0.226),
        augmentation=Augmentation(
            rotate=10, zoom=0, shift=0, contrast=0.2, brightness=0.1, erase=0, upside_down=0.5, low_resolution=0,
            blur=0, jpeg=0, noise=0)),
}
