"""YuNet in torch: the same network as `weights/yunet.onnx`, for batches on a GPU."""

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from yunet.colour import Colour, first_layer
from yunet.decode import CHANNELS, STRIDES
from yunet.weights import read_weights


class Separable(nn.Module):
    """A pointwise and a depthwise convolution with nothing between them."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(c1, c2, 1)
        self.depthwise = nn.Conv2d(c2, c2, 3, padding=1, groups=c2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return self.depthwise(self.pointwise(x))


class Block(Separable):
    """A Separable with a ReLU behind it."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) -> (B, c2, H, W)."""
        return relu(super().forward(x))


class YuNet(nn.Module):
    """Finds faces: 50,854 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2)      # its padding is part of the picture: not 0 in every colour
        self.stage1 = Block(16, 16)
        self.stage2 = nn.Sequential(Block(16, 16), Block(16, 32), Block(32, 32), Block(32, 64))
        self.stage3 = nn.Sequential(Block(64, 64), Block(64, 64))
        self.stage4 = nn.Sequential(Block(64, 64), Block(64, 64))
        self.stage5 = nn.Sequential(Block(64, 64), Block(64, 64))
        self.neck = nn.ModuleList(Block(64, 64) for _ in STRIDES)
        self.heads = nn.ModuleList(Separable(64, CHANNELS) for _ in STRIDES)

    def forward(self, x: Tensor) -> Tensor:
        """Runs the network.

        Args:
            x: (B, 3, H + 1, W + 1) planes of 0..255: H and W multiples of 32, and a black row above and a black
                column to the left. They are B, G, R with the published first layer; see `colour.first_layer`.

        Returns:
            (B, 6, A), rows as in `decode.CHANNELS`, anchors as in `decode.anchors`.
        """
        x = self.stage1(relu(self.stem(x)))                            # (B, 16, H/2, W/2)
        x = self.stage2(max_pool2d(x, 2))                              # (B, 64, H/4, W/4)
        level8 = self.stage3(max_pool2d(x, 2))                         # (B, 64, H/8, W/8)
        level16 = self.stage4(max_pool2d(level8, 2))                   # (B, 64, H/16, W/16)
        level32 = self.stage5(max_pool2d(level16, 2))                  # (B, 64, H/32, W/32)
        level32 = self.neck[2](level32)
        level16 = self.neck[1](level16 + interpolate(level32, scale_factor=2))
        level8 = self.neck[0](level8 + interpolate(level16, scale_factor=2))
        levels = zip(self.heads, (level8, level16, level32), strict=True)
        return torch.cat([head(level).flatten(2) for head, level in levels], dim=2)


def load_network(colour: Colour = Colour.BGR) -> YuNet:
    """Returns YuNet with its weights, in evaluation mode on the CPU, for planes of a colour.

    Raises:
        WeightsError: the weights are missing or not the ones this code was tested with.
    """
    network = YuNet()
    tensors = safetensors.torch.load(read_weights("yunet.safetensors"))
    stem = first_layer(tensors["stem.weight"].numpy(), tensors["stem.bias"].numpy(), colour)
    tensors |= {"stem.weight": torch.from_numpy(stem[0]), "stem.bias": torch.from_numpy(stem[1])}
    network.load_state_dict(tensors)
    return network.eval()
