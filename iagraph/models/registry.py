"""Models by name, and trained models loaded from the files of a run."""

from __future__ import annotations

import inspect
import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from iagraph.files import run_path
from iagraph.jets import JetBatch, JetInput, jets_and_edges
from iagraph.models.ablations import InteractionTransformer, LearnedPairIAFormer, PairTransformer, PlainTransformer
from iagraph.models.cascaded_iaformer import CascadedIAFormer
from iagraph.models.gated_iaformer import GatedIAFormer
from iagraph.models.iaformer import IAFormer
from iagraph.models.particle_net import ParticleNet
from iagraph.models.particle_transformer import ParticleTransformer
from iagraph.models.state_dicts import CheckpointError, read_state_dict, refuse_differences
from iagraph.nn.pruning import pruning_rule
from iagraph.views import JetView, mass_mismatch

MODELS: dict[str, type[nn.Module]] = {
    "iaformer": IAFormer,
    "gated_iaformer": GatedIAFormer,
    "cascaded_iaformer": CascadedIAFormer,
    "plain_transformer": PlainTransformer,
    "interaction_transformer": InteractionTransformer,
    "pair_transformer": PairTransformer,
    "learned_pair_iaformer": LearnedPairIAFormer,
    "particle_transformer": ParticleTransformer,
    "particlenet": ParticleNet,
}
"""The models by their names in configurations and in files of trained models; names are defined only here."""


def names_of(*kinds: type[nn.Module]) -> list[str]:
    """The names of the models that derive from one of these classes."""
    return [name for name, model in MODELS.items() if issubclass(model, kinds)]


def arguments(model: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The keyword arguments of a model: those of the constructors of the class and its bases and of
    ``init_conv``, except those in the class attribute ``fixed``.
    """
    found: dict[str, inspect.Parameter] = {}
    for kind in reversed(model.__mro__):
        for method in (vars(kind).get("__init__"), vars(kind).get("init_conv")):
            if inspect.isfunction(method) and issubclass(kind, nn.Module) and kind is not nn.Module:
                found |= inspect.signature(method).parameters
    return {name: found[name] for name in found if name not in getattr(model, "fixed", ())}


def make_model(name: str, pruning: dict[str, Any] | None = None, **arguments: Any) -> nn.Module:
    """A model with random weights.

    Args:
        name: a key of :data:`MODELS`.
        pruning: ``rule`` and ``strength`` of its layers, as in :func:`~iagraph.nn.pruning_rule`.
        arguments: further arguments of the model.

    Raises:
        KeyError: there is no model of that name.
        TypeError, ValueError: the model does not take these arguments.
    """
    if pruning is not None:
        arguments["pruning"] = pruning_rule(pruning["rule"], pruning["strength"])
    return MODELS[name](**arguments)


class TrainedModel(nn.Module):
    """A trained model with its classes and its view of jets.

    It takes whole jets and uses only the part of them that it was trained on (:attr:`view`). It warns once if it was
    trained on massive particles and gets massless ones, or vice versa (:func:`iagraph.views.mass_mismatch`).

    Attributes:
        model: the model itself.
        view: the part of jets that it sees.
        classes: names of the classes, in the order of the logits.
        description: the contents of ``model.json``: arguments of the model, features, view, fingerprints of the
            training jets, versions.
    """

    def __init__(self, model: nn.Module, description: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.description = model, description
        self.view = JetView(**description.get("view", {}))
        self.classes = tuple(description["classes"])
        self._masses_compared = False

    def forward(self, jets: JetInput) -> Tensor:
        """Logits, shape [jets, classes].

        Args:
            jets: the jets, as a batch or as graphs of PyTorch Geometric, whose edges are ignored.

        Raises:
            ValueError: the jets lack data that the model's features need.
        """
        jets, _ = jets_and_edges(jets, None)
        jets = self.view(jets)
        self._compare_masses(jets)
        return self.model(jets)

    def _compare_masses(self, jets: JetBatch) -> None:
        """Warns if masses differ from training. On a GPU only the first jets are checked, as the host must wait."""
        if self._masses_compared or torch.compiler.is_compiling():
            return
        mismatch = mass_mismatch(self.description.get("massive_particles"), jets)
        self._masses_compared = mismatch is not None or jets.ptr.device.type != "cpu"
        if mismatch:
            warnings.warn(mismatch, stacklevel=5)  # where the model is called

    def probabilities(self, jets: JetInput) -> Tensor:
        """The probability of each class, shape [jets, classes], for the class fractions of the training jets.

        Raises:
            ValueError: as in :meth:`forward`.
        """
        return self(jets).float().softmax(1)


def load(path: str | Path) -> TrainedModel:
    """The trained model of a run, on the CPU and in evaluation mode.

    Reads ``model.pt`` and ``model.json``, and runs no code in them. Older versions wrote the view of jets only into
    ``config.yaml``; it is then read from there, if the file exists.

    Args:
        path: the folder of a run, or any folder with both files; or ``pretrained:NAME`` for a model that comes with the
            package.

    Raises:
        FileNotFoundError: the package has no model of this name.
        CheckpointError: a file is missing or damaged, or the two do not fit together.
    """
    folder = run_path(path)
    about = folder / "model.json"
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give the folder of a finished run")
    try:
        description = json.loads(about.read_text(encoding="utf-8"))
        if "view" not in description:
            description["view"] = asdict(_configured_view(folder / "config.yaml"))
        model = make_model(**description["model"])
        trained = TrainedModel(model, description)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: lacks model.json; give the folder of a finished run") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{about}: is damaged or of another version ({reason}); copy the run anew") from error
    state = read_state_dict(folder / "model.pt")
    refuse_differences(
        folder / "model.pt", "the model of model.json", model.state_dict(), state, "take both from the same run"
    )
    model.load_state_dict(state)
    return trained.eval()


def _configured_view(path: Path) -> JetView:
    """The view of jets in a configuration file; the default if there is no file.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
        return JetView(data.get("max_particles"), data.get("masses", "stored"))
    except FileNotFoundError:
        return JetView()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CheckpointError(f"{path}: is damaged ({reason}); copy the run anew") from error
