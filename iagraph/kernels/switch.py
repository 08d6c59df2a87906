"""Fast kernels or their references: one switch for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

KINDS = ("auto", "fast", "reference")
VARIABLE = "IAGRAPH_KERNELS"
"""Environment variable that sets the initial kind."""


class use:  # noqa: N801, a setting like torch.set_grad_enabled
    """Chooses the kernels for this process; as a context manager, only within its block.

    Args:
        kind: ``"reference"`` for plain PyTorch, ``"fast"`` for the kernels, ``"auto"`` for the kernels except under
            transforms of ``torch.func``, which they do not support. The default is ``"auto"``, or the value of the
            environment variable ``IAGRAPH_KERNELS``.

    Raises:
        ValueError: there is no such kind.
    """

    kind = "auto"

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"kernels '{kind}': should be one of {', '.join(KINDS)} (see also {VARIABLE})")
        self.before, use.kind = use.kind, kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        use.kind = self.before


use(os.environ.get(VARIABLE, "auto"))


def fast() -> bool:
    """Whether to run a fast kernel. Never under ``torch.compile``, which does its own fusion."""
    if use.kind == "reference" or torch.compiler.is_compiling():
        return False
    return use.kind == "fast" or not torch._C._are_functorch_transforms_active()


def differentiable(
    function: Callable[..., Tensor | Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Differentiable gradients of a function, by autograd: a kernel's ``backward`` returns them, with its reference as
    the function, when second derivatives are needed.

    Args:
        function: from the inputs to one or several tensors.
        inputs: arguments of the function.
        grads: gradients of the function's results.

    Returns:
        Gradients of the inputs; None for inputs that need none.
    """
    outputs = function(*inputs)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, materialize_grads=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]
