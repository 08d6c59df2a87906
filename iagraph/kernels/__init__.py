"""Fast kernels, each with a reference in a few lines of plain PyTorch.

:class:`use` chooses which of the two runs; tests prove them equal. A reference supports gradients of any order,
forward-mode derivatives and ``torch.func``; second derivatives of a fast kernel are those of its reference.
"""

from iagraph.kernels.switch import use

__all__ = ["use"]
