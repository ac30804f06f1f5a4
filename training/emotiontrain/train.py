"""One training run: from cleaned data and a recipe to the weights that are best on validation.

A run that was interrupted goes on from its last whole epoch. Every epoch draws from its own seed, so resuming
changes nothing.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from emotionnet.network import EmotionNet
from emotionnet.preprocess import InputSpec, resize
from emotiontrain.augment import augmentation
from emotiontrain.checkpoint import BEST, lock, read_state, restore, save_checkpoint, write_json, write_tensors
from emotiontrain.data import Dataset, Split
from emotiontrain.data.votes import majority
from emotiontrain.distributed import Processes, join
from emotiontrain.logs import write_logs
from emotiontrain.optim import (
    MovingAverage,
    SharpnessAware,
    frozen_statistics,
    initialize,
    make_optimizer,
    set_learning_rate,
)
from emotiontrain.provenance import describe_data, difference, versions
from emotiontrain.recipe import Recipe, RecipeError
from emotiontrain.start import Teacher, start_from
from emotiontrain.targets import make_targets, mix
from emotiontrain.transfer import send

LOG = "log.json"


class RunError(RuntimeError):
    """A run's folder cannot be used; the message says why and how to mend it."""


@dataclass(frozen=True)
class Machine:
    """What a run is computed with: it changes a run's speed, and on a CPU its numbers only in their last digits.

    A GPU draws dropout and noise by itself, so that its runs are others.

    Attributes:
        device: torch device; `cuda` gives each process of torchrun its own GPU.
        threads: CPU threads of one process; 0 for as many as there are cores.
        compile: whether torch.compile makes the network faster, which needs a C++ compiler on a CPU.
    """

    device: str = "cpu"
    threads: int = 0
    compile: bool = False


@dataclass
class Training:
    """What a run carries from step to step."""

    recipe: Recipe
    processes: Processes
    device: torch.device
    model: EmotionNet
    forward: nn.Module                     # the model, compiled and joined with the other processes as asked for
    average: MovingAverage
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    start: str | None = None
    teachers: Sequence[Teacher] = ()
    log: list[dict[str, Any]] = field(default_factory=list)


def train(
    data: Dataset, folder: Path, recipe: Recipe, machine: Machine | None = None, *, start: Path | None = None,
    teachers: Sequence[Path] = (),
) -> dict[str, Any]:
    """Trains EmotionNet, or goes on with the run in `folder`.

    Args:
        data: what `load_data` gave.
        folder: gets the checkpoint, the best weights (safetensors), the logs and the curves.
        recipe: what to do; a run that goes on must have the one it was begun with.
        machine: what to compute with.
        start: a run's folder or a set of weights to begin with; a last layer for other labels begins anew.
        teachers: runs' folders or sets of weights whose outputs are distilled, averaged; see `Recipe.distill`.

    Returns:
        The log's entry of the best epoch; nothing in the processes after the first.

    Raises:
        RecipeError: a batch that the pictures do not fill, or the processes cannot share.
        RunError: `folder` holds a run with another recipe or other data, is in use, or the run diverged.
        OSError: `folder` cannot be written or read.
        StartError: `start` or a teacher is a run that cannot be used.
        WeightsError: `start` or a teacher is a set of weights that cannot be used.
    """
    machine = machine or Machine()
    if len(data.train) < recipe.batch:
        raise RecipeError(f"--batch is {recipe.batch}, but there are {len(data.train)} training pictures; "
                          "give a smaller batch, or more pictures")
    with join(machine.device) as processes, lock(folder, processes):
        recipe.share(processes.count)
        # ultralytics sets OMP_NUM_THREADS to 1 on import
        torch.set_num_threads(machine.threads or max(1, (os.cpu_count() or 1) // processes.local_count))
        training = _prepare(data, recipe, machine, processes, start, [Teacher.load(t, data.labels) for t in teachers])
        settings = {
            "recipe": recipe.to_json(), "labels": list(data.labels), "data": describe_data(data),
            "start": training.start, "teachers": [t.name for t in training.teachers], "processes": processes.count}
        state = read_state(folder)
        if state is not None:
            if state["settings"] != settings:
                raise RunError(f"{folder}: holds a run with {difference(state['settings'], settings)}; "
                               "give another folder, or what it was begun with")
            restore(folder, training.model, training.average, training.optimizer)
            training.log = state["log"]
            training.scaler.load_state_dict(state["scaler"])
        targets = make_targets(data.train, len(data.labels), recipe)
        stop = _has_stalled(training)
        for epoch in range(len(training.log), recipe.epochs):
            if stop:
                break
            begin = time.monotonic()
            loss = train_one_epoch(training, data.train, targets, epoch)
            if processes.first:
                entry = {"epoch": epoch + 1, "learning_rate": training.optimizer.param_groups[0]["lr"],
                         "train_loss": round(loss, 4),
                         **evaluate(training.average.module, data.validation, recipe.input, training.device),
                         "seconds": round(time.monotonic() - begin, 3)}
                if not math.isfinite(loss + entry["nll"]):
                    raise RunError(f"{folder}: diverged in epoch {epoch + 1}: the loss is not a number any more; "
                                   "give another folder and a smaller --learning-rate")
                training.log.append(entry)
                print(_line(entry), flush=True)
                if best_entry(training.log) is entry:
                    write_tensors(folder / BEST, training.average.module.state_dict())
                save_checkpoint(folder, training.model, training.average, training.optimizer, {
                    "settings": settings, "log": training.log, "scaler": training.scaler.state_dict()})
                write_logs(folder, training.log)
            stop = processes.agree(_has_stalled(training))
        if not processes.first:
            return {}
        best = best_entry(training.log)
        write_json(folder / LOG, {
            **settings, "best": best, "epochs": training.log,
            "finished": stop or len(training.log) >= recipe.epochs, "machine": vars(machine), "versions": versions()})
        return best


def _prepare(
    data: Dataset, recipe: Recipe, machine: Machine, processes: Processes, start: Path | None,
    teachers: Sequence[Teacher],
) -> Training:
    """Builds the network and what moves its weights; every process begins with the same."""
    torch.manual_seed(recipe.seed)
    device = processes.device(machine.device)
    model = EmotionNet(3, len(data.labels), recipe.width)
    initialize(model)
    started = start_from(model, start, data.labels) if start else None
    model.classify.drop.p = recipe.dropout
    model = model.to(device).to(memory_format=torch.channels_last)
    forward = processes.wrap(model, device)
    if machine.compile:
        forward.compile()
    return Training(
        recipe, processes, device, model, forward, MovingAverage(model, recipe.average_decay),
        make_optimizer(model, recipe), torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16"),
        started, [teacher.to(device) for teacher in teachers])


def train_one_epoch(training: Training, split: Split, targets: Tensor, epoch: int) -> float:
    """Runs once over the shuffled training pictures and returns the mean loss.

    Args:
        training: what is trained; it is changed.
        split: the training pictures.
        targets: (N, classes) distributions.
        epoch: number of this epoch, from 0; it seeds everything drawn.
    """
    recipe, processes = training.recipe, training.processes
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(recipe.seed * 10_000 + epoch))
    torch.manual_seed((recipe.seed * 10_000 + epoch) * 64 + processes.rank)
    share = recipe.share(processes.count)
    steps = len(split) // recipe.batch
    training.forward.train()
    losses: list[Tensor] = []       # a GPU is asked for them at the end
    for step in track(range(steps), f"epoch {epoch + 1}", transient=True,
                      disable=not (processes.first and sys.stdout.isatty())):
        set_learning_rate(training.optimizer, recipe, (epoch * steps + step) / (recipe.epochs * steps))
        first = step * recipe.batch + processes.rank * share
        losses.append(train_step(training, *make_batch(training, split, targets, order[first:first + share])))
    return torch.stack(losses).cpu().double().mean().item()


def make_batch(training: Training, split: Split, targets: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the chosen pictures varied and mixed, (B, 1, side, side), with their targets (B, classes)."""
    recipe = training.recipe
    transform = augmentation(recipe.augmentation, recipe.input.side, training.device)
    pictures = transform(torch.from_numpy(split.pictures[chosen]))
    return mix(pictures, send(targets[chosen], training.device), recipe.mixup)


def train_step(training: Training, pictures: Tensor, target: Tensor) -> Tensor:
    """Moves the weights once and returns the loss in front of the step, a single number on the device.

    Args:
        training: what is trained; it is changed.
        pictures: (B, 1, side, side), 0..1.
        target: (B, classes) distributions.
    """
    recipe, optimizer, scaler = training.recipe, training.optimizer, training.scaler
    batch = to_input(pictures, recipe.input)
    precision = torch.autocast(training.device.type, getattr(torch, recipe.precision), recipe.precision != "float32")
    with precision:
        taught = _teach(training.teachers, pictures, recipe.distill_temperature) if recipe.distill else None

    def backward() -> Tensor:
        with precision:
            logits = training.forward(batch).float()
            loss = functional.cross_entropy(logits, target)
            if taught is not None:
                soft = functional.log_softmax(logits / recipe.distill_temperature, dim=1)
                teaching = functional.kl_div(soft, taught, reduction="batchmean") * recipe.distill_temperature ** 2
                loss = (1 - recipe.distill) * loss + recipe.distill * teaching
        scaler.scale(loss).backward()
        return loss

    optimizer.zero_grad()
    loss = backward()
    scaler.unscale_(optimizer)
    if recipe.sam:
        sharpness = SharpnessAware(training.model.parameters(), recipe.sam)
        sharpness.climb()
        with frozen_statistics(training.model):
            backward()
        sharpness.descend()
    if recipe.clip:
        nn.utils.clip_grad_norm_(training.model.parameters(), recipe.clip)
    scaler.step(optimizer)
    scaler.update()
    training.average.update_parameters(training.model)
    return loss.detach()


@torch.no_grad()
def _teach(teachers: Sequence[Teacher], pictures: Tensor, temperature: float) -> Tensor:
    """Returns the teachers' mean distribution (B, classes), softened, on (B, 1, side, side)."""
    return torch.stack(
        [(teacher.logits(pictures).float() / temperature).softmax(dim=1) for teacher in teachers]).mean(dim=0)


@torch.inference_mode()
def predict(model: nn.Module, pictures: NDArray[np.uint8], spec: InputSpec, device: torch.device) -> Tensor:
    """Returns the logits (N, classes) of (N, S, S) uint8 pictures, in order, on the CPU."""
    model.eval()
    crops = torch.from_numpy(np.stack([resize(picture, spec.side) for picture in pictures]))  # as the daemon scales
    outputs = [model(to_input(crops[start:start + 256, None].to(device).float() / 255, spec))[1].float().cpu()
               for start in range(0, len(crops), 256)]
    return torch.cat(outputs)


def evaluate(model: nn.Module, split: Split, spec: InputSpec, device: torch.device) -> dict[str, float]:
    """Returns `accuracy` and `nll` (nats) on a split's labels, and `votes_accuracy` on its clear majorities."""
    logits, labels = predict(model, split.pictures, spec, device), torch.from_numpy(split.labels)
    result = {"accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
              "nll": functional.cross_entropy(logits, labels).item()}
    if split.votes is not None:
        voted = torch.from_numpy(majority(split.votes))
        if (voted >= 0).any():
            result["votes_accuracy"] = (logits.argmax(dim=1) == voted)[voted >= 0].float().mean().item()
    return {name: round(value, 4) for name, value in result.items()}


def best_entry(log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the epoch of the best validation accuracy (with votes: its mean with theirs); of equals, least nll."""
    return max(log, key=lambda e: (e["accuracy"] + e.get("votes_accuracy", e["accuracy"]), -e["nll"], -e["epoch"]))


def _has_stalled(training: Training) -> bool:
    log, patience = training.log, training.recipe.patience
    return bool(patience and log and log[-1]["epoch"] - best_entry(log)["epoch"] >= patience)


def to_input(pictures: Tensor, spec: InputSpec) -> Tensor:
    """Normalises (B, 1, side, side), 0..1, into the network's input (B, 3, side, side), channels last."""
    return ((pictures - spec.mean) / spec.std).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _line(entry: dict[str, Any]) -> str:
    votes = f", on votes {entry['votes_accuracy']:.2%}" if "votes_accuracy" in entry else ""
    return (f"epoch {entry['epoch']}: training loss {entry['train_loss']:.4f}, validation accuracy "
            f"{entry['accuracy']:.2%}{votes}, nll {entry['nll']:.4f}, {entry['seconds']:.0f} s")
