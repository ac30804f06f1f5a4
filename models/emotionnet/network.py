"""EmotionNet in torch, as given: a small YOLO12-style backbone and a classification head.

The blocks are those of ultralytics (https://docs.ultralytics.com/reference/nn/modules/block/):
C3k2 from YOLO11, A2C2f (area attention) from YOLO12, https://arxiv.org/abs/2502.12524.
"""

import contextlib
import os
import sys
from typing import Any

import torch
from torch import Tensor, nn

# ultralytics asks the network for its servers unless this is set, and greets on stdout, where results go
os.environ.setdefault("YOLO_OFFLINE", "true")
with contextlib.redirect_stdout(sys.stderr):
    from ultralytics.nn.modules import A2C2f, Bottleneck, C3k2, Classify, Conv
    from ultralytics.nn.modules.block import ABlock


class EmotionNet(nn.Module):
    """Classifies face crops into `nc` emotions: 1,768,551 parameters for 3 channels and 7 classes.

    Args:
        c1: channels of the input picture.
        nc: number of classes.
        width: multiple of the backbone's channels; 1 is the network as given, more makes a teacher.
    """

    def __init__(self, c1: int = 3, nc: int = 7, width: int = 1) -> None:
        super().__init__()
        self.width = w = width
        self.backbone = nn.ModuleList([                  # side of the picture: s
            Conv(c1, 16 * w, k=3, s=2),                  # (B,  16, s/2,  s/2)
            Conv(16 * w, 32 * w, k=3, s=2),              # (B,  32, s/4,  s/4)
            C3k2(32 * w, 64 * w, n=1, e=0.25),           # (B,  64, s/4,  s/4)
            Conv(64 * w, 128 * w, k=3, s=2),             # (B, 128, s/8,  s/8)
            C3k2(128 * w, 128 * w, n=1, e=0.25),         # (B, 128, s/8,  s/8)
            Conv(128 * w, 128 * w, k=3, s=2),            # (B, 128, s/16, s/16)
            A2C2f(128 * w, 128 * w, n=2, a2=True, area=4, e=0.5),
            Conv(128 * w, 256 * w, k=3, s=2),            # (B, 256, s/32, s/32)
            A2C2f(256 * w, 256 * w, n=2, a2=True, area=1, e=0.5),
        ])
        self.classify = Classify(256 * w, nc)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Runs the network.

        Args:
            x: (B, c1, H, W) normalised pictures. H and W are multiples of 32, and
                (H/16)*(W/16) is divisible by 4, the areas of the first attention stage.

        Returns:
            Logits (B, nc) in training mode; in evaluation mode the pair
            (probabilities, logits), each (B, nc), as ultralytics' Classify gives them.
        """
        for block in self.backbone:
            x = block(x)
        return self.classify(x)

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits (B, nc) in either mode; `x` as in `forward`."""
        out = self.forward(x)
        return out[1] if isinstance(out, tuple) else out


def calibrated(logits: Tensor, temperature: float) -> Tensor:
    """Returns probabilities (B, nc) of logits (B, nc), made less or more certain (https://arxiv.org/abs/1706.04599).

    Args:
        logits: as the network gives them.
        temperature: above 1 less certain, below 1 more.
    """
    return (logits if temperature == 1 else logits * (1 / temperature)).softmax(dim=1)


def residual_scales(model: nn.Module) -> list[nn.Parameter]:
    """Returns the scales of the batch normalisations that end a residual branch of `model`."""
    scales: list[nn.Parameter] = []
    for module in model.modules():
        block: Any = module  # ultralytics' blocks do not say what their parts are
        if isinstance(module, ABlock):
            scales += [block.attn.proj.bn.weight, block.mlp[1].bn.weight]
        elif isinstance(module, Bottleneck) and module.add:
            scales.append(block.cv2.bn.weight)
    return scales


def parameter_count(model: nn.Module) -> int:
    """Returns the number of trainable values in `model`."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def shapes(nc: int, c1: int = 3) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of every tensor in EmotionNet's state dict, without allocating it."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in EmotionNet(c1, nc).state_dict().items()}
