"""One training run: AdamW, one-cycle learning rate, label smoothing, a moving average of the weights.

The weights kept are those of the epoch that is best on validation. A run that was interrupted goes on
from its last whole epoch; every epoch draws from its own seed, so resuming changes nothing.
"""

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from emotionnet.network import EmotionNet
from emotionnet.preprocess import InputSpec
from emotionnet.weights import LABELS
from emotiontrain.augment import Augmentation, augment, resample
from emotiontrain.checkpoint import load_checkpoint, save_checkpoint, write_json
from emotiontrain.data import DataError, Dataset, Split, load_data

Tensors = tuple[Tensor, ...] | list[Tensor]

BEST, LOG = "best.safetensors", "log.json"


class RunError(Exception):
    """A run's folder cannot be used; the message says why and how to mend it."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's result, beside the data."""

    epochs: int = 30
    batch: int = 128
    learning_rate: float = 2e-3          # at the top of the cycle
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    clip: float = 2.0                    # largest norm of a step's gradients
    average_decay: float = 0.999
    seed: int = 1
    input: InputSpec = field(default_factory=InputSpec)
    augmentation: Augmentation = field(default_factory=Augmentation)


def train(source: str, folder: Path, recipe: Recipe, device: str = "cpu") -> dict[str, Any]:
    """Trains EmotionNet, or goes on with the run in `folder`.

    Args:
        source: where the data is, as in `load_data`.
        folder: gets the checkpoint, the best weights (safetensors) and the log.
        recipe: what to do; a run that goes on must have the one it was begun with.
        device: torch device.

    Returns:
        The log's entry of the best epoch.

    Raises:
        DataError: the data cannot be used.
        RunError: `folder` holds a run with another recipe.
    """
    torch.set_num_threads(os.cpu_count() or 1)  # ultralytics sets OMP_NUM_THREADS to 1 on import
    torch.manual_seed(recipe.seed)
    data = load_data(source)
    if len(data.train) < recipe.batch:
        raise DataError(f"{source}: {len(data.train)} training pictures do not fill one batch of {recipe.batch}; "
                        "give more pictures or a smaller batch")
    print(f"train {len(data.train)}, validation {len(data.validation)}, dropped {data.dropped}", flush=True)

    model = EmotionNet(3, len(LABELS)).to(device).to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=moving_average(recipe.average_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.learning_rate)
    loss_function = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    settings = describe_recipe(recipe)
    state = load_checkpoint(folder, model, average, optimizer) or {"epoch": 0, "recipe": settings, "log": []}
    if state["recipe"] != settings:
        raise RunError(f"{folder}: holds a run with another recipe; give another folder, or the recipe it began with")
    log: list[dict[str, Any]] = state["log"]

    for epoch in range(state["epoch"], recipe.epochs):
        begin = time.monotonic()
        loss = train_one_epoch(model, average, optimizer, loss_function, data.train, recipe, epoch, device)
        result = evaluate(average.module, data.validation, recipe.input, device)
        log.append({"epoch": epoch + 1, "train_loss": round(loss, 4), "validation_accuracy": result["accuracy"],
                    "validation_loss": result["nll"], "seconds": round(time.monotonic() - begin, 1)})
        print(log[-1], flush=True)
        if max(log, key=lambda e: e["validation_accuracy"]) is log[-1]:
            folder.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file(
                {k: v.contiguous() for k, v in average.module.state_dict().items()}, folder / BEST)
        save_checkpoint(folder, model, average, optimizer, {"epoch": epoch + 1, "recipe": settings, "log": log})
    best = max(log, key=lambda e: e["validation_accuracy"])
    write_json(folder / LOG, {
        "recipe": settings, "data": describe_data(data), "best": best, "epochs": log, "device": device,
        "versions": versions()})
    return best


def train_one_epoch(
    model: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer, loss_function: nn.Module,
    split: Split, recipe: Recipe, epoch: int, device: str,
) -> float:
    """Runs once over the shuffled training pictures and returns the mean loss."""
    generator = torch.Generator().manual_seed(recipe.seed * 10_000 + epoch)
    pictures, labels = torch.from_numpy(split.pictures), torch.from_numpy(split.labels)
    order = torch.randperm(len(labels), generator=generator)
    steps = len(labels) // recipe.batch
    model.train()
    total = 0.0
    for step in range(steps):
        set_learning_rate(optimizer, recipe, (epoch * steps + step) / (recipe.epochs * steps))
        chosen = order[step * recipe.batch:(step + 1) * recipe.batch]
        batch = to_input(augment(pictures[chosen], recipe.input.side, recipe.augmentation, generator), recipe.input)
        loss = loss_function(model(batch.to(device)), labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        average.update_parameters(model)
        total += loss.item()
    return total / steps


@torch.inference_mode()
def predict(model: nn.Module, split: Split, spec: InputSpec, device: str) -> Tensor:
    """Returns the logits (N, classes) of every picture of `split`, in order, on the CPU."""
    model.eval()
    pictures = torch.from_numpy(split.pictures)
    outputs = [model(to_input(resample(pictures[start:start + 256], spec.side), spec).to(device))[1].cpu()
               for start in range(0, len(pictures), 256)]
    return torch.cat(outputs)


def evaluate(model: nn.Module, split: Split, spec: InputSpec, device: str) -> dict[str, float]:
    """Returns accuracy and negative log likelihood of `model` on `split`."""
    logits, labels = predict(model, split, spec, device), torch.from_numpy(split.labels)
    accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
    nll = nn.functional.cross_entropy(logits, labels).item()
    return {"accuracy": round(accuracy, 4), "nll": round(nll, 4)}


def to_input(pictures: Tensor, spec: InputSpec) -> Tensor:
    """Normalises (B, 1, side, side), 0..1, into the network's input (B, 3, side, side), channels last."""
    return ((pictures - spec.mean) / spec.std).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Returns the averaging step for AveragedModel: an exponential moving average that forgets its beginning.

    The decay grows as (1 + n) / (10 + n) up to `decay`, n steps averaged so far, as TensorFlow's
    ExponentialMovingAverage does; otherwise the first epochs' average, and above all its batch normalisation
    statistics, would be those of the untrained network.
    """
    def step(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, n)

    return step


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases and the scales of batch normalisation do not."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def set_learning_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float) -> None:
    """One cycle: up over the first tenth, then down along a cosine; `progress` runs from 0 to 1."""
    warm = 0.1
    factor = progress / warm if progress < warm else 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * max(factor, 1e-3)


def describe_data(data: Dataset) -> dict[str, Any]:
    """Returns the counts of each split and of what cleaning dropped."""
    return {"train": data.train.counts(), "validation": data.validation.counts(), "test": data.test.counts(),
            "dropped": data.dropped}


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as JSON, without the crop's geometry: training takes its pictures whole."""
    settings = asdict(recipe)
    del settings["input"]["margin"], settings["input"]["shift_y"]
    return settings


def versions() -> dict[str, str]:
    """Returns the versions of what a run's numbers depend on."""
    packages = ("torch", "ultralytics", "numpy", "opencv-python")
    return {"python": platform.python_version(), "machine": platform.machine()} | {p: version(p) for p in packages}
