"""Models written down as graphs of operations: by ``torch.export``, and from there in ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from iagraph.export.inputs import OUTPUTS, examples, input_names, open_axes
from iagraph.export.networks import PaddedTagger
from iagraph.export.operators import in_other_words
from iagraph.views import WHOLE, JetView

OPSETS = {18: 8, 19: 9, 20: 9}
"""Versions of ONNX's operators that models can be written in, and the oldest version of its format that has them. From
20 on there is GELU, below it is made of other operators; below 18 ``Split`` and ``ReduceMax`` are others."""


class FloatInputs(nn.Module):
    """A network of which all inputs are float32, for software that feeds nothing else.

    Numbers up to 2^24 are exact, species beyond it (nuclei) are none of those that node features tell apart.
    """

    def __init__(self, tagger: PaddedTagger) -> None:
        super().__init__()
        self.tagger = tagger

    def forward(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`PaddedTagger.forward`."""
        pid = None if pid is None else pid.round().int()
        return self.tagger(four_momenta, num_particles.round().long(), pid, impact)


def traced(model: nn.Module, view: JetView = WHOLE, float_inputs: bool = False) -> ExportedProgram:
    """What a model computes of the inputs of :func:`input_names`, with any numbers of jets and slots from one on.

    Args:
        model: the model.
        view: what it sees of jets.
        float_inputs: whether all inputs are float32.
    """
    names = input_names(model)
    dims = {name: Dim(name, min=1) for name in ("jets", "particles")}
    open_sizes = tuple({axis: dims[what] for axis, what in axes.items()} for axes in open_axes(names))
    tagger = PaddedTagger(model, view)
    with torch.no_grad(), _quiet():
        network = FloatInputs(tagger) if float_inputs else tagger
        inputs = examples(names, float_inputs)
        return torch.export.export(network.eval(), inputs, dynamic_shapes=open_sizes, strict=False)


def in_onnx(program: ExportedProgram, names: tuple[str, ...], opset: int = max(OPSETS)) -> Any:
    """A program of :func:`traced` in ONNX, an ``onnx.ModelProto``.

    Args:
        program: the program.
        names: those of its inputs.
        opset: a key of :data:`OPSETS`.
    """
    with _quiet():
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=OUTPUTS,
            dynamic_shapes=tuple(open_axes(names)),
            opset_version=opset,
            custom_translation_table=in_other_words(),
            verbose=False,
        )
    assert written is not None
    model = written.model_proto
    model.ir_version = OPSETS[opset]
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of packages that nobody needs here, and of their own inner life."""
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
