"""What a run can build on: the weights of another run, or a set of weights, to begin with or to be taught by."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from emotionnet.network import EmotionNet
from emotionnet.preprocess import InputSpec
from emotionnet.torch_classifier import load_network
from emotionnet.weights import load_info
from emotiontrain.checkpoint import BEST, TENSORS, read_state
from emotiontrain.provenance import digest_tensors
from emotiontrain.recipe import Recipe, RecipeError

SMALLEST_SHARE = 0.01
"""What each of several networks has of their mean at least."""


class StartError(RuntimeError):
    """What a run shall build on cannot be used; the message names it and the mend."""


@dataclass(frozen=True)
class Trained:
    """A network as a run or a set of weights left it, on the CPU, in evaluation mode.

    Attributes:
        name: of the run's folder, or of the set and its version, and a digest of the weights.
        network: the network.
        labels: its classes, in the order of its outputs.
        spec: the picture that it takes.
    """

    name: str
    network: EmotionNet
    labels: tuple[str, ...]
    spec: InputSpec


def load_trained(path: Path) -> Trained:
    """Reads a run's best weights so far, or a set of weights.

    Args:
        path: a run's folder; or what `emotionnet.weights.load_info` takes.

    Raises:
        StartError: a run's folder that cannot be read.
        WeightsError: a set of weights that cannot be used.
    """
    if not (path / TENSORS).is_file():
        info = load_info("builtin" if str(path) == "builtin" else path)
        network = load_network(info)
        return Trained(f"{info.model_id}@{digest_tensors(network.state_dict())}", network, info.labels, info.input)
    try:
        settings = (read_state(path) or {})["settings"]
        recipe, labels = Recipe.from_json(settings["recipe"]), tuple(settings["labels"])
        network = EmotionNet(3, len(labels), recipe.width)
        network.load_state_dict(safetensors.torch.load_file(path / BEST))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError, RecipeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StartError(f"{path}: not a run that can be read ({reason}); train it again, "
                         "or give a set of weights") from error
    name = f"{path.resolve().name}@{digest_tensors(network.state_dict())}"
    return Trained(name, network.eval(), labels, recipe.input)


def average(trained: Trained, others: Sequence[tuple[Trained, float]]) -> Trained:
    """Returns the mean of networks' tensors (arXiv:2203.05482), which works where they began with the same weights.

    Args:
        trained: one of them, which has what the others leave of 1.
        others: the others, of the same labels, input and width, each with its share of the mean.

    Raises:
        StartError: they are not alike, or leave nothing for `trained`.
    """
    own = 1 - sum(share for _, share in others)
    if own < SMALLEST_SHARE:
        raise StartError(f"--average: shares that sum to {1 - own:.2f} leave nothing for {trained.name}; "
                         "give smaller ones")
    for other, _ in others:
        spec = replace(other.spec, margin=trained.spec.margin, shift_y=trained.spec.shift_y)  # the daemon's alone
        for what, ours, theirs in (("labels", trained.labels, other.labels), ("input sizes", trained.spec, spec),
                                   ("widths", trained.network.width, other.network.width)):
            if ours != theirs:
                raise StartError(f"--average: {other.name} has other {what} than {trained.name} ({theirs} and {ours}); "
                                 "average networks that are alike")
    tensors = trained.network.state_dict()
    parts = [(tensors, own), *((other.network.state_dict(), share) for other, share in others)]
    mean = copy.deepcopy(trained.network)
    for name, tensor in tensors.items():  # mean's own tensors; what counts batches stays as it is
        if tensor.is_floating_point():
            mean.state_dict()[name].copy_(torch.stack([part[name] * share for part, share in parts]).sum(0))
    return replace(trained, network=mean, name=f"mean@{digest_tensors(mean.state_dict())}")


def start_from(model: EmotionNet, path: Path, labels: Sequence[str]) -> str:
    """Copies trained weights into `model` and returns their name.

    Where the labels are others, the last layer stays as it is.

    Raises:
        StartError: the trained network has another width.
        WeightsError: as in `load_trained`.
    """
    trained = load_trained(path)
    tensors = trained.network.state_dict()
    if trained.labels != tuple(labels):
        tensors = {name: t for name, t in tensors.items() if not name.startswith("classify.linear.")}
    own = model.state_dict()
    if any(own[name].shape != tensor.shape for name, tensor in tensors.items()):
        raise StartError(f"{path}: its network has another width; give weights of the same, or the same --width")
    model.load_state_dict(own | tensors)
    return trained.name


@dataclass(frozen=True)
class Teacher:
    """A trained network whose outputs are distilled into another."""

    trained: Trained

    @classmethod
    def load(cls, path: Path, labels: Sequence[str]) -> "Teacher":
        """Reads a teacher for these labels.

        Raises:
            StartError: it has other labels, or cannot be read.
            WeightsError: as in `load_trained`.
        """
        trained = load_trained(path)
        if trained.labels != tuple(labels):
            raise StartError(f"{path}: teaches {', '.join(trained.labels)}, but the data has {', '.join(labels)}; "
                             "give a teacher of the same labels in the same order")
        return cls(trained)

    @property
    def name(self) -> str:
        """Which run or set this is."""
        return self.trained.name

    def to(self, device: torch.device) -> "Teacher":
        """Moves the network to `device` and returns the teacher."""
        self.trained.network.to(device).to(memory_format=torch.channels_last)
        return self

    @torch.no_grad()
    def logits(self, pictures: Tensor) -> Tensor:
        """Returns the logits (B, classes) of (B, 1, S, S) pictures, 0..1, of any size."""
        spec = self.trained.spec
        if pictures.shape[-1] != spec.side:
            pictures = functional.interpolate(pictures, (spec.side, spec.side), mode="bilinear", align_corners=False)
        batch = ((pictures - spec.mean) / spec.std).expand(-1, 3, -1, -1)
        return self.trained.network.logits(batch.contiguous(memory_format=torch.channels_last))
