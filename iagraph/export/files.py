"""Files of exported models: each is checked against the model before it is written, and describes its use."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

import iagraph
from iagraph.export.comparison import TOLERANCE, Comparison, Exported, ExportError, compare
from iagraph.export.inputs import OUTPUTS, input_names, meaning
from iagraph.export.tracing import OPSETS, in_onnx, traced
from iagraph.files import replaced, user_path
from iagraph.jets import JetBatch
from iagraph.models.registry import TrainedModel

DESCRIPTION = "iagraph.json"
"""Name of the description in a ``torch.export`` file; ONNX files have it in their metadata."""


def export_onnx(
    trained: TrainedModel,
    path: str | Path,
    batches: Sequence[JetBatch] = (),
    *,
    opset: int = max(OPSETS),
    float_inputs: bool = False,
) -> Comparison:
    """Write a trained model as one ONNX file, after checking its results with onnxruntime.

    Args:
        trained: the model, from :func:`iagraph.load`.
        path: the file; its folder must exist. On error, an older file is unchanged.
        batches: jets for the comparison, in addition to random ones.
        opset: version of the ONNX operators, a key of :data:`iagraph.export.tracing.OPSETS`.
        float_inputs: make the inputs for numbers of particles and for species float32, too.

    Raises:
        ExportError: packages are missing, the opset is not supported, or the results differ.
        OSError: the file cannot be written.
        ValueError: the jets lack an input.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401, the comparison needs it
        import onnxscript  # noqa: F401, torch.onnx needs it
    except ImportError as error:
        raise ExportError(f"writing ONNX needs {error.name}: pip install 'iagraph[export]'") from error
    names = input_names(trained.model)
    if opset not in OPSETS:
        raise ExportError(f"opset {opset}: expected one of {', '.join(map(str, OPSETS))}")
    network = in_onnx(traced(trained.model, trained.view, float_inputs), names, opset)
    _, run = onnx_session(network.SerializeToString())
    comparison = compare(run, trained.model, batches, trained.view)
    about = description(trained, names, comparison, float_inputs)
    onnx.helper.set_model_props(network, {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()})
    network.producer_name, network.producer_version = "iagraph", iagraph.__version__
    for value in (*network.graph.input, *network.graph.output):
        value.doc_string = meaning(value.name, float_inputs)
    onnx.checker.check_model(network)
    with replaced(user_path(path)) as file:
        file.write(network.SerializeToString())
    return comparison


def export_program(trained: TrainedModel, path: str | Path, batches: Sequence[JetBatch] = ()) -> Comparison:
    """Write a trained model as a ``torch.export`` program, after checking its results.

    Args:
        trained: the model, from :func:`iagraph.load`.
        path: the file; its folder must exist. On error, an older file is unchanged.
        batches: jets for the comparison, in addition to random ones.

    Raises:
        ExportError: the results differ.
        OSError: the file cannot be written.
        ValueError: the jets lack an input.
    """
    names = input_names(trained.model)
    program = traced(trained.model, trained.view)
    module = torch.export.load(io.BytesIO(_saved(program, {}))).module()
    comparison = compare(lambda inputs: module(*inputs.values()), trained.model, batches, trained.view)
    about = json.dumps(description(trained, names, comparison), indent=2)
    with replaced(user_path(path)) as file:
        file.write(_saved(program, {DESCRIPTION: about}))
    return comparison


def onnx_session(model: str | bytes) -> tuple[Any, Exported]:
    """An onnxruntime session on the CPU for a file or its content, and the model as a function of inputs by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    floats = {each.name for each in session.get_inputs() if each.type == "tensor(float)"}

    def run(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        values = {name: each.float() if name in floats else each for name, each in inputs.items()}
        arrays = session.run(OUTPUTS, {name: each.numpy() for name, each in values.items()})
        return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])

    return session, run


def description(
    trained: TrainedModel, names: Sequence[str], comparison: Comparison, float_inputs: bool = False
) -> dict[str, Any]:
    """Description of classes, inputs, outputs and origin, written to the file with the network."""
    of_run: dict[str, Any] = {
        key: trained.description[key]
        for key in ("model", "node_features", "pair_features", "data")
        if key in trained.description
    }
    return {
        "iagraph": iagraph.__version__,
        "classes": trained.classes,
        "inputs": {name: meaning(name, float_inputs) for name in names},
        "outputs": {name: meaning(name) for name in OUTPUTS},
        **of_run,
        "view": asdict(trained.view),
        "comparison": comparison._asdict() | {"tolerance": TOLERANCE},
    }


def _saved(program: ExportedProgram, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=files)
    return buffer.getvalue()
