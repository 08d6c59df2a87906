"""Files of exported models: written once they have been compared, with what one must know to use them."""

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
from iagraph.export.comparison import TOLERANCE, Comparison, ExportError, compare
from iagraph.export.inputs import OUTPUTS, input_names, meaning
from iagraph.export.tracing import OPSETS, in_onnx, traced
from iagraph.files import replaced
from iagraph.jets import JetBatch
from iagraph.models.registry import TrainedModel

DESCRIPTION = "iagraph.json"
"""Where a file of ``torch.export`` keeps what an ONNX file keeps in its metadata."""


def export_onnx(
    trained: TrainedModel,
    path: Path,
    batches: Sequence[JetBatch] = (),
    *,
    opset: int = max(OPSETS),
    float_inputs: bool = False,
) -> Comparison:
    """Writes a trained model in ONNX, one file, once onnxruntime gives the model's results with it.

    Args:
        trained: the model, as :func:`iagraph.load` gives it.
        path: the file; its folder must exist. An older one is as it was if anything goes wrong.
        batches: jets to compare with, beside some random ones.
        opset: version of ONNX's operators, a key of :data:`iagraph.export.tracing.OPSETS`.
        float_inputs: take numbers of particles and species as float32, too.

    Raises:
        ExportError: packages are missing, or the results differ.
        OSError: the file cannot be written.
        ValueError: the jets lack an input.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, torch.onnx needs it
    except ImportError as error:
        raise ExportError(f"writing ONNX needs {error.name}: pip install 'iagraph[export]'") from error
    names = input_names(trained.model)
    if opset not in OPSETS:
        raise ExportError(f"opset {opset}: expected one of {', '.join(map(str, OPSETS))}")
    network = in_onnx(traced(trained.model, trained.view, float_inputs), names, opset)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(network.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        values = {name: each.float() if float_inputs else each for name, each in inputs.items()}
        arrays = session.run(OUTPUTS, {name: each.numpy() for name, each in values.items()})
        return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])

    comparison = compare(run, trained.model, batches, trained.view)
    about = description(trained, names, comparison, float_inputs)
    onnx.helper.set_model_props(network, {key: _text(value) for key, value in about.items()})
    network.producer_name, network.producer_version = "iagraph", iagraph.__version__
    for value in (*network.graph.input, *network.graph.output):
        value.doc_string = meaning(value.name, float_inputs)
    onnx.checker.check_model(network)
    with replaced(path) as file:
        file.write(network.SerializeToString())
    return comparison


def export_program(trained: TrainedModel, path: Path, batches: Sequence[JetBatch] = ()) -> Comparison:
    """Writes a trained model as ``torch.export`` does, for ``torch.export.load``, likewise.

    Args:
        trained: as in :func:`export_onnx`, like ``path`` and ``batches``.
        path: the file.
        batches: jets to compare with.

    Raises:
        ExportError: the results differ.
        OSError: the file cannot be written.
        ValueError: the jets lack an input.
    """
    names = input_names(trained.model)
    program = traced(trained.model, trained.view)
    module = _copy(program, {}).module()
    comparison = compare(lambda inputs: module(*inputs.values()), trained.model, batches, trained.view)
    about = json.dumps(description(trained, names, comparison), indent=2)
    with replaced(path) as file:
        file.write(_saved(program, {DESCRIPTION: about}))
    return comparison


def description(
    trained: TrainedModel, names: Sequence[str], comparison: Comparison, float_inputs: bool = False
) -> dict[str, Any]:
    """What is written beside the network."""
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


def _copy(program: ExportedProgram, files: dict[str, str]) -> ExportedProgram:
    return torch.export.load(io.BytesIO(_saved(program, files)))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
