"""Translations of PyTorch operations that ONNX or onnxruntime lack."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations by PyTorch operation, for ``torch.onnx.export``.

    onnxruntime lacks hyperbolic functions, cosine and arc tangent in float64, in which the momenta of a jet's particles
    are summed. The azimuth of a jet ends up in float32, so its arc tangent may be computed in float32.
    """
    from onnxscript import ir, opset18

    op: Any = opset18  # its types describe values, not graph nodes

    def constant(value: float) -> Any:
        return op.Constant(value=ir.tensor(value, dtype=ir.DataType.DOUBLE))

    def in_float64(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def translate(x: Any) -> Any:
            return function(x) if x.dtype == ir.DataType.DOUBLE else getattr(op, name)(x)

        return translate

    def asinh(x: Any) -> Any:
        size = op.Abs(x)
        return op.Mul(op.Sign(x), op.Log(op.Add(size, op.Sqrt(op.Add(op.Mul(x, x), constant(1.0))))))

    def atan2(y: Any, x: Any) -> Any:
        angle = op.Atan(op.Cast(op.Div(y, x), to=ir.DataType.FLOAT))  # x and y are never both zero
        angle, turn = op.Cast(angle, to=ir.DataType.DOUBLE), constant(math.pi)
        turned = op.Where(op.Less(y, constant(0.0)), op.Sub(angle, turn), op.Add(angle, turn))
        return op.Where(op.Less(x, constant(0.0)), turned, angle)

    def sort(x: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        """Sort by TopK, in which ONNX guarantees the order of equal values, so it is stable."""
        length = op.Shape(x, start=dim, end=None if dim == -1 else dim + 1)
        values, indices = op.TopK(x, length, axis=dim, largest=int(descending), sorted=1)
        return values, indices

    return {
        aten.cosh.default: in_float64("Cosh", lambda x: op.Mul(constant(0.5), op.Add(op.Exp(x), op.Exp(op.Neg(x))))),
        aten.sinh.default: in_float64("Sinh", lambda x: op.Mul(constant(0.5), op.Sub(op.Exp(x), op.Exp(op.Neg(x))))),
        aten.cos.default: in_float64("Cos", lambda x: op.Sin(op.Add(x, constant(math.pi / 2)))),
        aten.asinh.default: in_float64("Asinh", asinh),
        aten.atan2.default: atan2,
        aten.sort.stable: sort,
    }
