"""Trained models that score files of jets: the model of a run, or one exported as ONNX or by ``torch.export``."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iagraph.data import Jets, Reader, StoreError, open_jets
from iagraph.data.readers.jet_store import JetStoreReader
from iagraph.data.sources import as_batch
from iagraph.export.comparison import Exported
from iagraph.export.files import DESCRIPTION, onnx_session
from iagraph.export.inputs import COLUMNS, input_names, slots_of
from iagraph.files import user_files, user_path
from iagraph.jets import JetBatch, JetInput, jets_and_edges
from iagraph.models import CheckpointError, registry
from iagraph.models.registry import TrainedModel

if TYPE_CHECKING:
    from iagraph.data.readers.mapped import BranchMap

BATCH = 64
"""Jets per batch."""

PART = 2_560
"""Jets read at a time."""


class Scores(NamedTuple):
    """Scores of consecutive jets of a file.

    Attributes:
        file: index of the file in the list of files.
        first: index of the first jet in its file.
        probabilities: float32, shape [jets, classes].
        label: index of the true class among the model's classes, -1 if it is not one of them; shape [jets].
    """

    file: int
    first: int
    probabilities: NDArray[np.float32]
    label: NDArray[np.int64]


class Predictor(ABC):
    """Base class of models that score files of jets.

    Attributes:
        classes: class names, in the order of the scores.
        inputs: names of the inputs, keys of :data:`iagraph.export.inputs.MEANINGS`.
    """

    classes: tuple[str, ...]
    inputs: tuple[str, ...]

    @abstractmethod
    def probabilities(self, jets: JetInput) -> Tensor:
        """Class probabilities, shape [jets, classes]."""

    def predict(self, files: str | Path | Sequence[str | Path], batch_size: int = BATCH) -> NDArray[np.float32]:
        """Class probabilities of all jets in the files, in order; shape [jets, classes].

        Args:
            files: one or several names, patterns, or samples (``sample:qg``), in any format that
                :func:`iagraph.data.open_jets` reads; all splits of a store are used.
            batch_size: jets per batch.

        Raises:
            StoreError: a file is missing or damaged, or its jets lack an input of the model.
            ImportError: a format needs a package that is not installed.
        """
        readers = open_files([files] if isinstance(files, str | Path) else files)
        parts = [part.probabilities for part in self.scores(readers, batch_size)]
        return np.concatenate([np.zeros((0, len(self.classes)), np.float32), *parts])

    @torch.inference_mode()
    def scores(self, readers: Sequence[Reader], batch_size: int = BATCH) -> Iterator[Scores]:
        """Scores of all jets part by part, in constant memory; raises the errors of :meth:`predict`."""
        for number, reader in enumerate(readers):
            first = 0
            own = [self.classes.index(name) if name in self.classes else -1 for name in reader.classes]
            for part in reader.parts(PART):
                self._refuse_lack(part, reader.path)
                batches = (part.part(begin, begin + batch_size) for begin in range(0, len(part), batch_size))
                found = torch.cat([self.probabilities(as_batch(jets)).float().cpu() for jets in batches])
                yield Scores(number, first, found.numpy(), np.array(own)[part.label])
                first += len(part)

    def trained_on(self, reader: Reader) -> str | None:
        """The jets of a file that the model was trained on, for example "the jets 0 to 9,999"; None if unknown."""
        return None

    def _refuse_lack(self, jets: Jets, path: Path) -> None:
        for name in self.inputs:
            if lacking := [column for column in COLUMNS.get(name, ()) if column not in jets.particles]:
                what = "particle species" if name == "pid" else "impact parameters"
                raise StoreError(
                    f"{path}: no {what} ({', '.join(lacking)}), which the model was trained with; give jets that have "
                    "them, or train a model without them: data.node_features=kin"
                )


class RunPredictor(TrainedModel, Predictor):
    """The trained model of a run, a :class:`~iagraph.models.registry.TrainedModel` that also scores files."""

    def __init__(self, model: torch.nn.Module, description: dict[str, Any]) -> None:
        super().__init__(model, description)
        self.inputs = input_names(model)

    def trained_on(self, reader: Reader) -> str | None:
        """As in :class:`Predictor`; known of the jet stores of the training, by their fingerprints."""
        if not isinstance(reader, JetStoreReader):
            return None
        parts = self.description.get("trained_on", [])
        here = ", ".join(f"{begin:,} to {end - 1:,}" for file, begin, end in parts if file == reader.fingerprint)
        own = sum(end - begin for _, begin, end in parts[: len(self.description["data"]["train"])])
        some = "some of " if self.description.get("training_jets", own) < own else ""
        return f"{some}the jets {here}" if here else None

    def probabilities(self, jets: JetInput) -> Tensor:
        """Class probabilities, shape [jets, classes]; a batch is moved to the device of the model."""
        if isinstance(jets, JetBatch):
            jets = jets.to(next(self.parameters()).device)
        return super().probabilities(jets)


class ExportedPredictor(Predictor):
    """An exported model, on the CPU.

    Args:
        path: a file from :func:`iagraph.export.export_onnx` or :func:`iagraph.export.export_program`.

    Raises:
        CheckpointError: the file is missing, damaged, or was written by another program.
        ImportError: onnxruntime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        path = user_path(path)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; check folder and name")
        try:
            self._run, about = _onnx(path) if path.suffix == ".onnx" else _program(path)
            self.classes, self.inputs = tuple(json.loads(about["classes"])), tuple(json.loads(about["inputs"]))
        except ImportError:
            raise
        except Exception as error:  # onnxruntime and torch may raise anything
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: is damaged, or not written by iagraph export ({reason})") from error

    def probabilities(self, jets: JetInput) -> Tensor:
        """Class probabilities, shape [jets, classes].

        Raises:
            ValueError: the jets lack an input, or the graphs are not jets.
        """
        jets, _ = jets_and_edges(jets, None)
        if not len(jets):  # exported models take one jet and more
            return torch.zeros(0, len(self.classes))
        return self._run(slots_of(jets, self.inputs, max(*jets.sizes, 1)))[0]


def _onnx(path: Path) -> tuple[Exported, dict[str, str]]:
    try:
        session, run = onnx_session(str(path))
    except ImportError as error:
        raise ImportError(f"running {path} needs onnxruntime: pip install 'iagraph[export]'") from error
    return run, session.get_modelmeta().custom_metadata_map


def _program(path: Path) -> tuple[Exported, dict[str, str]]:
    files = {DESCRIPTION: ""}
    module = torch.export.load(path, extra_files=files).module()
    about = {name: json.dumps(value) for name, value in json.loads(files[DESCRIPTION]).items()}
    return lambda inputs: module(*inputs.values()), about


def load(path: str | Path) -> RunPredictor:
    """The trained model of a run, on the CPU and in evaluation mode; see :func:`iagraph.models.registry.load`.

    Raises:
        FileNotFoundError: the package has no model of this name (``pretrained:NAME``).
        CheckpointError: a file is missing or damaged, or the files do not match.
    """
    trained = registry.load(path)
    return RunPredictor(trained.model, trained.description).eval()


def open_model(path: str | Path, device: str | None = None) -> Predictor:
    """The model of a run folder, one of the package, or an exported model.

    Args:
        path: the folder, ``pretrained:NAME``, or the file.
        device: device for the model of a run; None for a CUDA GPU if there is one, else the CPU.

    Raises:
        CheckpointError, FileNotFoundError, ImportError: as in :func:`load` and :class:`ExportedPredictor`; the first
            also if the device is missing.
    """
    if user_path(path).suffix in (".onnx", ".pt2"):
        return ExportedPredictor(path)
    model, device = load(path), device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return model.to(device)
    except (AssertionError, RuntimeError) as error:  # the former from PyTorch without CUDA
        reason = re.split(r"\.\s|\n", str(error))[0]
        raise CheckpointError(f"device '{device}': {reason}; use another one, such as cpu") from error


def open_files(files: Sequence[str | Path], branches: BranchMap | None = None) -> list[Reader]:
    """Readers of files, as in :meth:`Predictor.predict`; ``branches`` as in :func:`iagraph.data.open_jets`."""
    return [open_jets(file, branches) for file in user_files(files)]
