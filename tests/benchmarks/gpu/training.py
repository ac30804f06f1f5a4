"""Training on the device: pictures a second of one step after the other."""

import torch

from emotiond.device.runtime import Runtime
from emotionnet.network import EmotionNet
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.clock import seconds_of
from tests.benchmarks.setting import Setting, take_turns

TITLE = "Training"
ABOUT = """\
EmotionNet's forward and backward pass and the optimiser's step in mixed precision, on pictures that are on the device
already: what the device gives a training that waits for no data."""
TABLE = "Pictures a second"
BATCHES, SIDES = (128, 512, 2048), (64, 96)


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures each size."""
    device = setting.device.removeprefix("torch:")
    cuda = device.startswith("cuda")
    runtime = Runtime(torch.device(device))
    batches = BATCHES if cuda else (16,)
    for name in take_turns(1 if setting.quick else 3, [f"{batch} of {side}" for side in SIDES for batch in batches]):
        batch, side = (int(word) for word in name.split(" of "))
        network = EmotionNet().to(device).to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), fused=cuda)
        pictures = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, 7, (batch,), device=device)

        def step(network: EmotionNet = network, optimizer: torch.optim.AdamW = optimizer,
                 pictures: torch.Tensor = pictures, labels: torch.Tensor = labels) -> None:
            with torch.inference_mode(False), torch.enable_grad():
                with torch.autocast(device.partition(":")[0], torch.bfloat16):
                    loss = torch.nn.functional.cross_entropy(network.logits(pictures), labels)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

        step()
        sheet.add(TABLE, f"{batch} of {side} pixels", "pictures", batch / seconds_of(runtime, step, 0.2), "pictures/s")
