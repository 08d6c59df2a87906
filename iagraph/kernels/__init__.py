"""What makes a processor fast, each function beside its reference: the same in a few lines of PyTorch.

:func:`use` says which of the two runs; tests prove them equal. A reference has gradients of any order, forward
derivatives and ``torch.func``; of a fast kernel the gradient of a gradient is that of its reference.
"""

from iagraph.kernels.switch import use

__all__ = ["use"]
