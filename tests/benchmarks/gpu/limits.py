"""What the device can do at best: the ceilings that the other parts are held against."""

import torch

from emotiond.device.runtime import Runtime
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.clock import seconds_of
from tests.benchmarks.setting import Setting

TITLE = "What the device can do"
ABOUT = """\
Ceilings, measured with torch alone: a copy of memory to memory (bytes read and written), a product of two large
matrices in the precision that the networks use, copies between the device and pinned memory of this machine, and steps
that do next to nothing, one by one."""
TABLE = "Ceilings"
MEMORY, PRODUCTS, UP, DOWN, LAUNCH = "memory", "products of matrices", "to the device", "from the device", "a launch"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures each of them."""
    for name, (value, unit) in ceilings(setting).items():
        sheet.add(TABLE, f"{name}, {unit}", "measured", value)


def ceilings(setting: Setting) -> dict[str, tuple[float, str]]:
    """Returns name -> value, unit."""
    device = torch.device(setting.device.removeprefix("torch:"))
    runtime, cuda = Runtime(device), device.type == "cuda"
    seconds = 0.1 if setting.quick else 0.5
    size = 1 << (30 if cuda else 26)
    side = 8192 if cuda else 1024
    dtype = torch.float16 if cuda else torch.float32
    here, there = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    pinned = runtime.empty(size // 8, dtype=torch.uint8)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    one = torch.zeros(1, device=device)
    found = {
        MEMORY: (2 * size / seconds_of(runtime, lambda: there.copy_(here), seconds) / 1e9, "GB/s"),
        PRODUCTS: (2 * side**3 / seconds_of(runtime, lambda: left @ right, seconds) / 1e12, "TFLOP/s"),
    }
    if cuda:
        part = here[:len(pinned)]
        up = seconds_of(runtime, lambda: part.copy_(pinned, non_blocking=True), seconds)
        down = seconds_of(runtime, lambda: pinned.copy_(part, non_blocking=True), seconds)
        found |= {UP: (len(pinned) / up / 1e9, "GB/s"), DOWN: (len(pinned) / down / 1e9, "GB/s")}
    return found | {LAUNCH: (1e6 * seconds_of(runtime, lambda: one.add_(1), seconds), "us")}
