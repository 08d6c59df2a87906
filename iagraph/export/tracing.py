"""Tracing of models by ``torch.export``, and conversion to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from iagraph.export.inputs import OUTPUTS, dynamic_axes, example_inputs, input_names
from iagraph.export.operators import onnx_translations
from iagraph.export.padded import PaddedTagger
from iagraph.views import WHOLE, JetView

OPSETS = {18: 8, 19: 9, 20: 9}
"""Supported ONNX opsets, and the oldest IR version of the file format for each. GELU exists from opset 20 on, and below
is composed of other operators; ``Split`` and ``ReduceMax`` differ below 18.
"""


class FloatInputs(nn.Module):
    """A network with float32 inputs only, for software that supports no others.

    Integers up to 2^24 are exact; node features do not distinguish species with larger numbers (nuclei).
    """

    def __init__(self, tagger: PaddedTagger) -> None:
        super().__init__()
        self.tagger = tagger

    def forward(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and logits, as in :meth:`PaddedTagger.forward`."""
        pid = None if pid is None else pid.round().int()
        return self.tagger(four_momenta, num_particles.round().long(), pid, impact)


def traced(model: nn.Module, view: JetView = WHOLE, float_inputs: bool = False) -> ExportedProgram:
    """The traced program of a model, for any positive numbers of jets and slots."""
    names = input_names(model)
    dims = {name: Dim(name, min=1) for name in ("jets", "particles")}
    open_sizes = tuple({axis: dims[what] for axis, what in axes.items()} for axes in dynamic_axes(names))
    tagger = PaddedTagger(model, view)
    with torch.no_grad(), _quiet():
        network = FloatInputs(tagger) if float_inputs else tagger
        inputs = example_inputs(names, float_inputs)
        return torch.export.export(network.eval(), inputs, dynamic_shapes=open_sizes, strict=False)


def in_onnx(program: ExportedProgram, names: tuple[str, ...], opset: int = max(OPSETS)) -> Any:
    """Convert a program from :func:`traced` to an ``onnx.ModelProto``; ``opset`` is a key of :data:`OPSETS`."""
    with _quiet():
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=OUTPUTS,
            dynamic_shapes=tuple(dynamic_axes(names)),
            opset_version=opset,
            custom_translation_table=onnx_translations(),
            verbose=False,
        )
    assert written is not None
    model = written.model_proto
    model.ir_version = OPSETS[opset]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' messages about optional packages and internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
