"""What the network is asked for: labels and votes as distributions, smoothed and mixed."""

import numpy as np
import torch
from torch import Tensor

from emotiontrain.data import Split
from emotiontrain.data.votes import shares
from emotiontrain.recipe import Recipe
from emotiontrain.transfer import send


def make_targets(split: Split, classes: int, recipe: Recipe) -> Tensor:
    """Returns what each picture's output shall be, (N, classes): label, votes and smoothing as the recipe says."""
    targets = np.eye(classes, dtype=np.float32)[split.labels]
    if split.votes is not None and recipe.vote_weight:
        voted = shares(split.votes)
        weight = recipe.vote_weight * voted.any(axis=1, keepdims=True)
        targets = (1 - weight) * targets + weight * voted
    smoothed = (1 - recipe.label_smoothing) * targets + recipe.label_smoothing / classes
    return torch.from_numpy(smoothed.astype(np.float32))


def mix(pictures: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Mixes each picture and its target with another of the batch, all in one drawn proportion (mixup)."""
    if not strength:
        return pictures, targets
    share = torch.distributions.Beta(strength, strength).sample().item()
    other = send(torch.randperm(len(pictures)), pictures.device)
    return pictures.lerp(pictures[other], share), targets.lerp(targets[other], share)
