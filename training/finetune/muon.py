"""The optimizer Muon (Jordan et al. 2024): matrices move by their momentum, made orthogonal; all else by AdamW.

Lengths are those of Liu et al. 2025 (arXiv 2502.16982, section 2.2): AdamW's learning rate and weight decay suit.
torch.optim.Muon takes neither convolutions, which are most of a U-Net, nor shares the work out among processes.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the iteration, for a steep start: singular values end between 0.7 and 1.2
ITERATIONS = 5
LENGTH = 0.2  # root mean square of a step at a learning rate of 1, as AdamW's steps have it
LEAST = 16  # rows and columns of a matrix; a smaller one has little to be made orthogonal


def matrices_of(model: nn.Module) -> list[nn.Parameter]:
    """The weights of linear and convolution layers that are trained; not embeddings, whose rows are apart."""
    weights: Any = (each.weight for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d))
    return [weight for weight in weights if weight.requires_grad and min(weight.flatten(1).shape) >= LEAST]


class Muon(torch.optim.Optimizer):
    """Muon for matrices, AdamW for the rest. Where there are several processes, each makes its share orthogonal.

    matrices: those of the parameters that are taken as matrices; a convolution's has a row for each output
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        matrices: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        # The largest first, so that all processes have about as much to do.
        self.matrices = sorted(matrices, key=lambda each: -each.numel())

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move all parameters by their gradients, which must be the same in all processes."""
        del closure
        (group,) = self.param_groups
        lr, known = group["lr"], set(map(id, self.matrices))
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.mul_(1 - lr * group["weight_decay"])
                if id(parameter) not in known:
                    self._adam(parameter, lr, *group["betas"])
        moved = [parameter for parameter in self.matrices if parameter.grad is not None]
        directions = shared_out([self._momentum(parameter) for parameter in moved])
        for parameter, direction in zip(moved, directions, strict=True):
            parameter.add_(direction.view_as(parameter), alpha=-lr * LENGTH * max(direction.shape) ** 0.5)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov's momentum of a matrix, [rows, columns]."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(MOMENTUM).add_(parameter.grad)
        return parameter.grad.add(momentum, alpha=MOMENTUM).flatten(1)

    def _adam(self, parameter: nn.Parameter, lr: float, beta: float, beta_of_squares: float) -> None:
        """A step of Adam (Kingma and Ba 2014, algorithm 1)."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        count = int(state["step"])
        state["exp_avg"].lerp_(parameter.grad, 1 - beta)
        state["exp_avg_sq"].mul_(beta_of_squares).addcmul_(parameter.grad, parameter.grad, value=1 - beta_of_squares)
        spread = (state["exp_avg_sq"] / (1 - beta_of_squares**count)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["exp_avg"] / (1 - beta**count), spread, value=-lr)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix whose singular values are all alike: 1, by a Newton-Schulz iteration in bfloat16."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = (wide / (wide.norm() + 1e-7)).bfloat16()
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide is matrix else x.T).to(matrix.dtype)


def shared_out(matrices: list[Tensor]) -> list[Tensor]:
    """Each made orthogonal; of several processes each does so with its share of them."""
    if not (distributed.is_available() and distributed.is_initialized()) or not matrices:
        return [orthogonal(each) for each in matrices]
    rank, count = distributed.get_rank(), distributed.get_world_size()
    mine = [orthogonal(each) if at % count == rank else torch.zeros_like(each) for at, each in enumerate(matrices)]
    flat = torch.cat([each.flatten() for each in mine])
    distributed.all_reduce(flat)  # a sum with zeros: every process has the same
    parts = flat.split([each.numel() for each in matrices])
    return [part.view_as(each) for part, each in zip(parts, matrices, strict=True)]
