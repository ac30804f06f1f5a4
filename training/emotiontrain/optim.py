"""How the weights move: where they begin, optimizers, the learning rate's schedule, the moving average, SAM."""

import copy
import math
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from emotionnet.network import residual_scales
from emotiontrain.muon import Muon
from emotiontrain.recipe import Recipe


def initialize(model: nn.Module) -> None:
    """Starts every residual branch at zero, so that the network begins shallow and deepens as it learns.

    As given, sixteen attention and feed-forward branches of unit scale lie behind one another, and the first layers'
    gradients are fifty times the last ones': training stands still for epochs (arXiv:1706.02677, section 5.1, does
    the same for ResNet).
    """
    for scale in residual_scales(model):
        nn.init.zeros_(scale)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer over the model's parameters."""
    groups = parameter_groups(model, recipe.weight_decay)
    match recipe.optimizer:
        case "muon":
            precision = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
            return Muon(orthogonal_groups(model, recipe.weight_decay), recipe.learning_rate, precision=precision)
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.learning_rate)
        case "adam":
            return torch.optim.Adam(groups, lr=recipe.learning_rate)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases and the scales of batch normalisation do not."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def orthogonal_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """As `parameter_groups`, with the kernels that Muon makes orthogonal apart.

    The rows of a depthwise kernel belong to channels that have nothing to do with one another, and last layers do
    better with AdamW (as Muon's page says).
    """
    whole = {id(module.weight) for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups == 1}
    kernels, rest = parameter_groups(model, weight_decay)
    orthogonal = [p for p in kernels["params"] if id(p) in whole]
    others = [p for p in kernels["params"] if id(p) not in whole]
    return [kernels | {"params": orthogonal, "orthogonal": True}, kernels | {"params": others}, rest]


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float) -> float:
    """Sets and returns the learning rate at `progress`, which runs from 0 to 1 over the whole run."""
    if recipe.schedule == "step":
        factor = 0.1 ** int(3 * progress)
    elif progress < recipe.warm_up:
        factor = progress / recipe.warm_up
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - recipe.warm_up) / (1 - recipe.warm_up)))
    rate = recipe.learning_rate * max(factor, 1e-3)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


class MovingAverage(nn.Module):
    """A copy of a model that keeps an exponential moving average of all its tensors, for which nothing waits.

    The decay grows as (1 + n) / (10 + n) up to `decay`, n steps averaged so far, as TensorFlow's
    ExponentialMovingAverage does; otherwise the first epochs' average, and above all its batch normalisation
    statistics, would be those of the untrained network. (torch's AveragedModel would ask the device at each step how
    many there were.)

    Attributes:
        module: the average.
        n_averaged: steps so far, on the CPU.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", torch.tensor(0))
        self._decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Takes one step towards `model`."""
        n = int(self.n_averaged)
        decay = min(self._decay, (1 + n) / (10 + n)) if n else 0.0
        kinds: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for own, current in zip(_tensors(self.module), _tensors(model), strict=True):
            kinds[own.dtype].append((own, current))
        for pairs in kinds.values():
            get_ema_multi_avg_fn(decay)([own for own, _ in pairs], [current for _, current in pairs], n)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    return chain((p.detach() for p in model.parameters()), model.buffers())


class SharpnessAware:
    """Sharpness-aware minimisation (arXiv:2010.01412): the gradient is taken at the worst point close by.

    Args:
        parameters: what is trained.
        radius: how far that point lies.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], radius: float) -> None:
        self._parameters, self._radius = list(parameters), radius
        self._before: list[tuple[nn.Parameter, Tensor]] = []

    @torch.no_grad()
    def climb(self) -> None:
        """Moves the weights by `radius` along their gradient, and clears the gradient."""
        gradients = [(p, p.grad) for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm([gradient for _, gradient in gradients])
        self._before = [(p, p.clone()) for p, _ in gradients]
        for parameter, gradient in gradients:
            parameter.add_(gradient * (self._radius / (norm + 1e-12)))
            parameter.grad = None

    @torch.no_grad()
    def descend(self) -> None:
        """Moves the weights back; their new gradient stays."""
        for parameter, before in self._before:
            parameter.copy_(before)
        self._before = []


@contextmanager
def frozen_statistics(model: nn.Module) -> Generator[None, None, None]:
    """Keeps batch normalisation's running statistics as they are, for a second pass over the same batch."""
    norms: list[Any] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
