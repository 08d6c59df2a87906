"""Diagnosis of a loss that is not finite: the jets, the first module at fault, and files for inspecting both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iagraph.files import replaced
from iagraph.jets import JetBatch
from iagraph.models.state_dicts import CheckpointError, write_state_dict

FILES = ("not_finite.npz", "not_finite.pt")
SHOWN = 5


def report(model: nn.Module, jets: JetBatch, losses: Tensor, folder: Path | None) -> str:
    """Describe briefly why the loss of a batch is not finite, and save its jets and the weights.

    Args:
        model: the model.
        jets: the batch.
        losses: loss per jet, shape [jets].
        folder: folder for :data:`FILES`; None writes nothing.
    """
    bad = (~losses.isfinite()).nonzero().squeeze(1).tolist()
    parts = [f"its jet{'s' if len(bad) > 1 else ''} {_some(bad)} of {len(jets)}"] if bad else []
    weights = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if weights:
        parts.append(f"weights that were already not finite: {_some(weights)}")
    elif (first := first_not_finite(model, jets)) is not None:
        parts.append(f"first in the output of {first}")
    if folder is not None:
        # A disk error must not hide the one in training.
        with suppress(OSError, CheckpointError):
            _write(model, jets, losses, folder)
            parts.append(f"jets and weights saved in {folder / FILES[0]} and {FILES[1]}")
    return "; ".join(parts)


def first_not_finite(model: nn.Module, jets: JetBatch) -> str | None:
    """Name of the first module whose output is not finite for these jets; None if there is none.

    Of nested modules, it is the innermost. The model is run again, with new dropout masks.
    """
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and any(not tensor.isfinite().all() for tensor in _tensors(output)):
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(look(name or "the model")) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(jets)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output
    elif isinstance(output, tuple | list):
        for item in output:
            yield from _tensors(item)


def _write(model: nn.Module, jets: JetBatch, losses: Tensor, folder: Path) -> None:
    arrays = {"ptr": jets.ptr, "loss": losses, "pid": jets.pid, "label": jets.y}
    arrays |= jets.momenta._asdict() | ({} if jets.impact is None else jets.impact._asdict())
    known: dict[str, Any] = {name: tensor.detach().cpu() for name, tensor in arrays.items() if tensor is not None}
    with replaced(folder / FILES[0]) as file:  # NumPy lacks bfloat16
        np.savez(file, **{key: (t.float() if t.is_floating_point() else t).numpy() for key, t in known.items()})
    write_state_dict(folder / FILES[1], model.state_dict())


def _some(items: list[Any]) -> str:
    return ", ".join(map(str, items[:SHOWN])) + (", ..." if len(items) > SHOWN else "")
