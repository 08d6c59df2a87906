"""What a GPU would be asked to do, counted on a CPU."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import iagraph

GPU = torch.device("cuda", 0)
PACKAGE = str(Path(iagraph.__file__).parent)
WAITS = {"_local_scalar_dense", "nonzero", "bincount", "_unique2", "unique_dim", "unique_consecutive", "masked_select"}
"""Operators of CUDA that make the host wait for the size or the value of their result."""
NO_LAUNCH = {"_local_scalar_dense", "lift_fresh", "_unsafe_view", "promote_types"}
MADE = {"arange", "eye", "full", "ones", "tensor", "zeros"}
"""Functions that make tensors on the host unless told the device."""


class AsOnAGPU(TorchDispatchMode):
    """A context in which tensors stay on the CPU but claim to be on a GPU, so that code takes its branches for GPUs.

    An operator launches one kernel or more, so launches are lower bounds.

    Args:
        on_host: tensors that would be on the host, too, such as an optimiser's step numbers.

    Attributes:
        launches: operators that launch kernels, by name.
        waits: operators for which the host waits, by name and the library's line, or "torch".
        misplaced: tensors that the library makes on the host, likewise.
    """

    def __init__(self, *on_host):
        super().__init__()
        self.on_host = {tensor.data_ptr() for tensor in on_host}
        self.launches, self.waits, self.misplaced = Counter(), Counter(), Counter()

    def __enter__(self):
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(torch.Tensor, "device", property(lambda _: GPU))
        self.patches.setattr(torch.Tensor, "tolist", self._counted(torch.Tensor.tolist))
        self.patches.setattr(torch.cuda, "_lazy_init", lambda: None)
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.undo()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        if kwargs.get("device") is not None:
            if name in MADE and kwargs["device"] != GPU and _line() != "torch":
                self.misplaced[f"{name} at {_line()}"] += 1
            kwargs["device"] = torch.device("cpu")
        if self._waits(name, args, kwargs):
            self.waits[f"{name} at {_line()}"] += 1
        is_view = any(result.alias_info and not result.alias_info.is_write for result in func._schema.returns)
        is_there = name == "_to_copy" and kwargs.get("dtype", args[0].dtype) == args[0].dtype  # moved to the GPU
        if not (is_view or is_there or name in NO_LAUNCH or "empty" in name or "::" in name):
            self.launches[name] += 1
        return func(*args, **kwargs)

    def _waits(self, name, args, kwargs):
        if name == "lift_fresh":  # a constant, copied from the host
            return _line() != "torch"
        if name == "repeat_interleave":
            return kwargs.get("output_size") is None
        if name in ("index", "index_put", "index_put_"):
            return any(index is not None and index.dtype == torch.bool for index in args[1])
        return name in WAITS and args[0].data_ptr() not in self.on_host

    def _counted(self, tolist):
        def counted(tensor):
            self.waits[f"tolist at {_line()}"] += 1
            return tolist(tensor)

        return counted


def _line():
    """The innermost running line of the library."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "torch"
