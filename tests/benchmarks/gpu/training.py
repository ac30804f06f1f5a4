"""Training on the device: pictures a second of the network alone and of a whole epoch."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import torch

from emotiond.device.runtime import Runtime
from emotionnet.network import EmotionNet
from emotiontrain.data import Dataset, Split
from emotiontrain.recipe import Recipe
from emotiontrain.train import LOG, Machine, train
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.clock import seconds_of
from tests.benchmarks.setting import Setting, take_turns

TITLE = "Training"
ABOUT = """\
*The network alone* is EmotionNet's forward and backward pass and the optimiser's step in mixed precision, on pictures
that are on the device already: what the device gives a training that waits for no data. *An epoch* is the second one of
`emotiontrain train` with the default recipe, as it logs it: drawing, varying and mixing pictures of 48x48, Muon, the
moving average, validation on 256."""
TABLE = "Pictures a second"
BATCHES, SIDES = (128, 512, 2048), (64, 96)
PRECISION = "bfloat16"
VALIDATED = 256


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures each size."""
    device = setting.device.removeprefix("torch:")
    batches = BATCHES if device.startswith("cuda") else (16,)
    for name in take_turns(1 if setting.quick else 3, [f"{batch} of {side}" for side in SIDES for batch in batches]):
        batch, side = (int(word) for word in name.split(" of "))
        row = f"{batch} of {side} pixels"
        sheet.add(TABLE, row, "the network alone", batch / _seconds_of_a_step(device, batch, side), "pictures/s")
        steps = 4 if setting.quick else 64
        folder = setting.folder / f"{name}-{len(list(setting.folder.iterdir()))}"
        sheet.add(TABLE, row, "an epoch", steps * batch / _seconds_of_an_epoch(device, batch, side, steps, folder),
                  "pictures/s")


def _seconds_of_a_step(device: str, batch: int, side: int) -> float:
    network = EmotionNet().to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=device.startswith("cuda"))
    pictures = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 7, (batch,), device=device)

    def step() -> None:
        with torch.inference_mode(False), torch.enable_grad():
            with torch.autocast(device.partition(":")[0], getattr(torch, PRECISION)):
                loss = torch.nn.functional.cross_entropy(network.logits(pictures), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    step()
    return seconds_of(Runtime(torch.device(device)), step, 0.2)


def _seconds_of_an_epoch(device: str, batch: int, side: int, steps: int, folder: Path) -> float:
    random = np.random.default_rng(1)

    def split(count: int) -> Split:
        return Split([str(index) for index in range(count)], random.integers(0, 256, (count, 48, 48), np.uint8),
                     random.integers(0, 7, count))

    data = Dataset(tuple("abcdefg"), split(steps * batch), split(VALIDATED), split(1), {})
    recipe = Recipe().with_options({"epochs": 2, "batch": batch, "side": side, "precision": PRECISION})
    folder.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        train(data, folder, recipe, Machine(device))
    return json.loads((folder / LOG).read_bytes())["epochs"][-1]["seconds"]
