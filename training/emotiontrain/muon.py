"""Muon: each kernel moves by its momentum with all singular values made equal; what is no matrix goes by AdamW.

https://kellerjordan.github.io/posts/muon/; the scale that lets both share one learning rate is that of
arXiv:2502.16982, section 2.2.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

COEFFICIENTS, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of the Newton-Schulz iteration, as published: they bring singular values from about .001 up close to 1."""

MATRIX_SCALE = 0.2
"""Root mean square of a matrix's step over its learning rate, which is about that of AdamW's steps."""


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` go by Muon with Nesterov momentum, the others by AdamW, betas .9 and .999.

    Args:
        groups: dictionaries with `params`, `weight_decay` and `orthogonal`; parameters of the latter have at least
            2 dimensions, and all but the first count as one.
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
    def step(self, closure: None = None) -> None:
        """Moves all parameters that have a gradient."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            (self._step_matrices if group["orthogonal"] else self._step_rest)(moved, group)

    def _step_matrices(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        shapes: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            matrix = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
            shapes[matrix.shape[0], matrix.shape[1]].append((parameter, matrix))
        for (rows, columns), same in shapes.items():
            scale = MATRIX_SCALE * max(rows, columns) ** 0.5
            steps = orthogonalize(torch.stack([matrix for _, matrix in same]).to(self._precision)).to(torch.float32)
            for (parameter, _), step in zip(same, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(step.view_as(parameter), alpha=group["lr"] * scale)

    def _step_rest(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {"step": torch.zeros(()), "mean": torch.zeros_like(parameter),
                                         "square": torch.zeros_like(parameter)}
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list(parameters), [p.grad for p in parameters if p.grad is not None], [s["mean"] for s in states],
            [s["square"] for s in states], [], [s["step"] for s in states], foreach=True, amsgrad=False, beta1=0.9,
            beta2=0.999, lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8, maximize=False)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Returns matrices with the singular vectors of (N, rows, columns) and singular values close to 1."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
