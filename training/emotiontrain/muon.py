"""Muon: each kernel moves by its momentum with all singular values made about equal; the rest goes by AdamW.

https://kellerjordan.github.io/posts/muon/; the scale that lets both share one learning rate is that of
arXiv:2502.16982, section 2.2. torch.optim.Muon takes parameters of two dimensions alone, one matrix at a time, and
would need a second optimizer beside it.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the Newton-Schulz iteration, as published: singular values from about .002 of the norm up come to .7 to 1.2."""

MATRIX_SCALE = 0.2
"""Root mean square of a matrix's step over its learning rate, which is about that of AdamW's steps."""

Moved = list[tuple[nn.Parameter, Tensor]]
"""Parameters with their gradients."""


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` go by Muon with Nesterov momentum, the others by AdamW, betas .9 and .999.

    Args:
        groups: dictionaries with `params` and, where they differ from False and 0, `orthogonal` and `weight_decay`;
            orthogonal parameters have at least 2 dimensions, and all but the first count as one.
        lr: learning rate of both.
        momentum: of the orthogonal groups.
        precision: of the arithmetic that makes singular values equal; bfloat16 is enough, where the hardware has it.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, momentum: float = 0.95, precision: torch.dtype = torch.float32,
    ) -> None:
        self._precision = precision
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Moves all parameters that have a gradient."""
        for group in self.param_groups:
            moved = [(p, p.grad) for p in group["params"] if p.grad is not None]
            (self._step_orthogonal if group["orthogonal"] else self._step_rest)(moved, group)

    def _step_orthogonal(self, moved: Moved, group: dict[str, Any]) -> None:
        shapes: dict[tuple[int, ...], Moved] = defaultdict(list)
        for parameter, gradient in moved:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            matrix = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
            shapes[tuple(matrix.shape)].append((parameter, matrix))
        for shape, same in shapes.items():
            matrices = torch.stack([matrix for _, matrix in same])
            steps = orthogonalize(matrices.to(self._precision)).to(matrices.dtype)
            for (parameter, _), step in zip(same, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(step.view_as(parameter), alpha=group["lr"] * MATRIX_SCALE * max(shape) ** 0.5)

    def _step_rest(self, moved: Moved, group: dict[str, Any]) -> None:
        for parameter, _ in moved:
            if not self.state[parameter]:
                self.state[parameter] = {"step": torch.zeros(()), "mean": torch.zeros_like(parameter),
                                         "square": torch.zeros_like(parameter)}
        states = [self.state[parameter] for parameter, _ in moved]
        adamw(
            [parameter for parameter, _ in moved], [gradient for _, gradient in moved], [s["mean"] for s in states],
            [s["square"] for s in states], [], [s["step"] for s in states], amsgrad=False, beta1=0.9, beta2=0.999,
            lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8, maximize=False)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Returns matrices with the singular vectors of (N, rows, columns) and singular values about 1."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.square().sum(dim=(1, 2), keepdim=True).sqrt() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
