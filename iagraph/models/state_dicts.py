"""Weights files (tensors by name): read without running code in them, compared, written atomically."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from iagraph.files import replaced

MOST_DIFFERENCES = 12
"""At most this many differences of each kind are listed; weights of another architecture have hundreds."""


FORMER_NAMES = {"gated_pairs.": "pair_inputs."}
"""Prefixes of names in earlier versions, and their current names."""


class CheckpointError(ValueError):
    """A weights file cannot be read or written, or does not fit. The message names the file and says what to do."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a file that ``torch.save`` wrote, on the CPU; no code in it is run.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds anything but tensors by name.
    """
    try:
        if zipfile.is_zipfile(path):
            # PyTorch does not check the checksums that it writes.
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise CheckpointError(f"{path}: is damaged (checksum of {damaged}); fetch or write it again")
        state = torch.load(path, weights_only=True, map_location="cpu")
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; give the file of a model's weights") from error
    except (IsADirectoryError, PermissionError) as error:
        raise CheckpointError(f"{path}: {error.strerror}; give the file of a model's weights") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds more than tensors, or is not a file of torch.save, and was not opened, because such a file "
            "can run code; give a state dict, as torch.save(model.state_dict(), ...) writes it"
        ) from error
    except Exception as error:  # damaged files raise anything, from EOFError to KeyError
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(f"{path}: is damaged or not a file of torch.save ({reason}); fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f"{path}: holds {found or 'nothing'}, expected tensors by name; give a state dict, as "
            "torch.save(model.state_dict(), ...) writes it, not the state of an optimizer or of a training"
        )
    return with_current_names(dict(state))


def with_current_names(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The state with names from earlier versions replaced by the current ones.

    Args:
        state: tensors by name; changed in place.
        prefix: prefix of the names.
    """
    for former, current in FORMER_NAMES.items():
        for name in [name for name in state if name.startswith(prefix + former)]:
            state[prefix + current + name.removeprefix(prefix + former)] = state.pop(name)
    return state


def write_state_dict(path: Path, state: dict[str, Tensor]) -> None:
    """Writes tensors by name, moved to the CPU; after an error, an existing file is unchanged.

    Raises:
        CheckpointError: the file cannot be written.
    """
    try:
        with replaced(path) as file:
            torch.save({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, file)
    except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: cannot write ({reason}); check folder, space, permissions") from error


def refuse_differences(
    path: Path, kind: str, expected: dict[str, Tensor], found: dict[str, Tensor], advice: str
) -> None:
    """Checks that a file has the names and shapes of a model, and floating-point tensors in the same places.

    Args:
        path: the file.
        kind: name of the model.
        expected: the tensors of the model, under the names expected in the file.
        found: the tensors in the file.
        advice: what to do if they differ.

    Raises:
        CheckpointError: they differ; the message lists the differences.
    """
    common = [name for name in expected if name in found]
    kinds = {
        "missing": [f"{name} {_shape(tensor)}" for name, tensor in expected.items() if name not in found],
        "too many": [f"{name} {_shape(tensor)}" for name, tensor in found.items() if name not in expected],
        "shape": [
            f"{name} is {_shape(found[name])}, expected {_shape(expected[name])}"
            for name in common
            if found[name].shape != expected[name].shape
        ],
        "type": [
            f"{name} is {found[name].dtype}, expected {expected[name].dtype}"
            for name in common
            if found[name].is_floating_point() != expected[name].is_floating_point()
        ],
    }
    if number := sum(map(len, kinds.values())):
        lines = [f"{path}: does not fit {kind}, {number} difference{'s' if number > 1 else ''}:"]
        for what, each in kinds.items():
            lines += [f"{what}: {line}" for line in each[:MOST_DIFFERENCES]]
            if len(each) > MOST_DIFFERENCES:
                lines.append(f"{what}: {len(each) - MOST_DIFFERENCES} more")
        raise CheckpointError("\n  ".join([*lines, advice]))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
