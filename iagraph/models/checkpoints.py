"""Loads weights into a model, from a file written by iagraph or by weaver-core."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from iagraph.files import run_path
from iagraph.models import weaver
from iagraph.models.state_dicts import CheckpointError, read_state_dict, refuse_differences

__all__ = ["CheckpointError", "load_weights"]


def load_weights(model: nn.Module, path: str | Path, new_head: bool = False) -> None:
    """Copies the weights in a file into a model, in the precision of the model. After an error the model is unchanged.

    Such a file holds only tensors by name: no names of classes and features, and no parts of the architecture without
    weights. So the model must be made first, and only its tensors can be compared.

    Args:
        model: one of :mod:`iagraph.models`.
        path: a state dict of iagraph (``model.pt``), the folder of a run that holds one, or a checkpoint of
            weaver-core, recognised by the names of its tensors.
        new_head: keep the model's own ``head``, for classes other than those in the file.

    Raises:
        CheckpointError: the file cannot be read, or does not fit; the message lists the differences.
    """
    path, kind = run_path(path), type(model).__name__
    file = path / "model.pt" if path.is_dir() else path
    found = read_state_dict(file)
    theirs = weaver.architecture(found)
    if theirs is None:
        expected, head = model.state_dict(), "head."
    elif isinstance(model, theirs):
        found, expected, head = weaver.current_names(found), weaver.to_weaver(model), "fc."
    else:
        raise CheckpointError(f"{file}: holds weaver's {theirs.__name__}, but the model is {kind}; make it that model")
    if new_head:
        found, expected = ({k: v for k, v in d.items() if not k.startswith(head)} for d in (found, expected))
    advice = "make the model as the one that these weights are from (features, sizes, classes)"
    advice += "" if new_head else ", or keep its own head (new_head)"
    refuse_differences(file, kind, expected, found, advice)
    if theirs is None:
        model.load_state_dict(model.state_dict() | found)
    else:
        weaver.from_weaver(model, found)
