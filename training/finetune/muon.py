"""The optimizer Muon (Jordan et al. 2024): matrices move by their momentum, made orthogonal; all else by AdamW.

Lengths are those of Liu et al. 2025 (arXiv 2502.16982, section 2.2): AdamW's learning rate and weight decay suit.
torch.optim.Muon takes neither convolutions, which are most of a U-Net, nor shares the work out among processes.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ...ip2p_pipeline.devices import find_dtype

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
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not moved:
            return
        torch._foreach_mul_(moved, 1 - lr * group["weight_decay"])
        self._adam([parameter for parameter in moved if id(parameter) not in known], lr, *group["betas"])
        matrices = [parameter for parameter in self.matrices if parameter.grad is not None]
        for parameter, direction in zip(matrices, shared_out(self._momenta(matrices)), strict=True):
            parameter.add_(direction.view_as(parameter), alpha=-lr * LENGTH * max(direction.shape) ** 0.5)

    def _momenta(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Nesterov's momentum of each matrix, [rows, columns]."""
        if not parameters:
            return []
        momenta: list[Tensor] = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            momenta.append(state["momentum"])
        gradients = gradients_of(parameters)
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        return [each.flatten(1) for each in torch._foreach_add(gradients, momenta, alpha=MOMENTUM)]

    def _adam(self, parameters: list[nn.Parameter], lr: float, beta: float, beta_of_squares: float) -> None:
        """A step of Adam (Kingma and Ba 2014, in the order of section 2's end)."""
        if not parameters:
            return
        means: list[Tensor] = []
        squares: list[Tensor] = []
        lengths: list[float] = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            count = int(state["step"])
            means.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            lengths.append(-lr * (1 - beta_of_squares**count) ** 0.5 / (1 - beta**count))
        gradients = gradients_of(parameters)
        torch._foreach_lerp_(means, gradients, 1 - beta)
        torch._foreach_mul_(squares, beta_of_squares)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta_of_squares)
        spreads = torch._foreach_sqrt(squares)
        torch._foreach_add_(spreads, 1e-8)
        torch._foreach_addcdiv_(list[Tensor](parameters), means, spreads, lengths)


def gradients_of(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Those of parameters that have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices whose singular values are all alike: 1, by a Newton-Schulz iteration in bfloat16.

    Of N matrices, none higher than wide, [N, rows, columns]. In float32 on a CPU that has no bfloat16.
    """
    a, b, c = COEFFICIENTS
    dtype = find_dtype("bfloat16", matrices.device)
    x = (matrices / (matrices.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


def all_orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Each matrix made orthogonal, those of one shape at once: on a GPU hundreds of small products would take long."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for at, matrix in enumerate(matrices):
        alike.setdefault(tuple(sorted(matrix.shape)), []).append(at)
    made = list(matrices)
    for places in alike.values():
        found = orthogonal(torch.stack([wide(matrices[at]) for at in places]))
        for at, each in zip(places, found, strict=True):
            made[at] = each if wide(matrices[at]) is matrices[at] else each.T
    return made


def wide(matrix: Tensor) -> Tensor:
    """A matrix, or what it is transposed, so that it is not higher than wide."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def shared_out(matrices: list[Tensor]) -> list[Tensor]:
    """Each made orthogonal; of several processes each does so with its share of them."""
    if not (distributed.is_available() and distributed.is_initialized()) or not matrices:
        return all_orthogonal(matrices)
    rank, count = distributed.get_rank(), distributed.get_world_size()
    mine = [torch.zeros_like(each) for each in matrices]
    mine[rank::count] = all_orthogonal(matrices[rank::count])
    flat = torch.cat([each.flatten() for each in mine])
    distributed.all_reduce(flat)  # a sum with zeros: every process has the same
    parts = flat.split([each.numel() for each in matrices])
    return [part.view_as(each) for part, each in zip(parts, matrices, strict=True)]
