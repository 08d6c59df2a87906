"""Models written down as graphs of operations: by ``torch.export``, and from there in ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from iagraph.export.inputs import OUTPUTS, examples, input_names, open_axes
from iagraph.export.networks import PaddedTagger
from iagraph.export.operators import in_other_words
from iagraph.views import WHOLE, JetView

OPSET, IR = 20, 9
"""Versions of ONNX's operators, the first one with GELU, and of its format."""


def traced(model: nn.Module, view: JetView = WHOLE) -> ExportedProgram:
    """What a model that sees jets so computes of the inputs of :func:`input_names`, with any numbers of jets and slots
    from one on.
    """
    names = input_names(model)
    dims = {name: Dim(name, min=1) for name in ("jets", "particles")}
    open_sizes = tuple({axis: dims[what] for axis, what in axes.items()} for axes in open_axes(names))
    tagger = PaddedTagger(model, view).eval()
    with torch.no_grad(), _quiet():
        return torch.export.export(tagger, examples(names), dynamic_shapes=open_sizes, strict=False)


def in_onnx(program: ExportedProgram, names: tuple[str, ...]) -> Any:
    """A program of :func:`traced` in ONNX, an ``onnx.ModelProto``.

    Args:
        program: the program.
        names: those of its inputs.
    """
    with _quiet():
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names,
            output_names=OUTPUTS,
            dynamic_shapes=tuple(open_axes(names)),
            opset_version=OPSET,
            custom_translation_table=in_other_words(),
            verbose=False,
        )
    assert written is not None
    model = written.model_proto
    model.ir_version = IR
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
