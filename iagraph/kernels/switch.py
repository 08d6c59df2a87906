"""Fast kernels or their references: one switch for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

KINDS = ("auto", "fast", "reference")
VARIABLE = "IAGRAPH_KERNELS"
"""Environment variable that holds the kind at the start."""


class use:  # noqa: N801, a setting as torch.set_grad_enabled is one
    """Chooses the kernels of this process from now on; as a context manager, within it alone.

    Args:
        kind: ``"reference"`` for plain PyTorch, ``"fast"`` for the kernels, ``"auto"`` (the default, and what the
            environment variable ``IAGRAPH_KERNELS`` may say instead) for the kernels but under transforms of
            ``torch.func``, which they do not support.

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
    """Whether a fast kernel is to run. Never while ``torch.compile`` traces: its own fusion is what is wanted then."""
    if use.kind == "reference" or torch.compiler.is_compiling():
        return False
    return use.kind == "fast" or not torch._C._are_functorch_transforms_active()


def differentiable(
    function: Callable[..., Tensor | Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of a function that have gradients themselves: what a kernel's ``backward`` returns where these are
    wanted, with its reference as the function.

    Args:
        function: from the inputs to one or several tensors.
        inputs: what it was called with.
        grads: gradients of its results.

    Returns:
        Those of the inputs; None for one that needs none.
    """
    outputs = function(*inputs)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, materialize_grads=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]
