"""EmotionNet in torch, as given: a small YOLO12-style backbone and a classification head.

The blocks are those of ultralytics (https://docs.ultralytics.com/reference/nn/modules/block/):
C3k2 from YOLO11, A2C2f (area attention) from YOLO12, https://arxiv.org/abs/2502.12524.
"""

import contextlib
import os
import sys

import torch
from torch import Tensor, nn

# ultralytics asks the network for its servers unless this is set, and greets on stdout, where results go
os.environ.setdefault("YOLO_OFFLINE", "true")
with contextlib.redirect_stdout(sys.stderr):
    from ultralytics.nn.modules import A2C2f, C3k2, Classify, Conv


class EmotionNet(nn.Module):
    """Classifies face crops into `nc` emotions: 1,768,551 parameters for 3 channels and 7 classes.

    Args:
        c1: channels of the input picture.
        nc: number of classes.
    """

    def __init__(self, c1: int = 3, nc: int = 7) -> None:
        super().__init__()
        self.backbone = nn.ModuleList([              # side of the picture: s
            Conv(c1, 16, k=3, s=2),                  # (B,  16, s/2,  s/2)
            Conv(16, 32, k=3, s=2),                  # (B,  32, s/4,  s/4)
            C3k2(32, 64, n=1, e=0.25),               # (B,  64, s/4,  s/4)
            Conv(64, 128, k=3, s=2),                 # (B, 128, s/8,  s/8)
            C3k2(128, 128, n=1, e=0.25),             # (B, 128, s/8,  s/8)
            Conv(128, 128, k=3, s=2),                # (B, 128, s/16, s/16)
            A2C2f(128, 128, n=2, a2=True, area=4, e=0.5),
            Conv(128, 256, k=3, s=2),                # (B, 256, s/32, s/32)
            A2C2f(256, 256, n=2, a2=True, area=1, e=0.5),
        ])
        self.classify = Classify(256, nc)

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


def parameter_count(model: nn.Module) -> int:
    """Returns the number of trainable values in `model`."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def shapes(nc: int, c1: int = 3) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of every tensor in EmotionNet's state dict, without allocating it."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in EmotionNet(c1, nc).state_dict().items()}
