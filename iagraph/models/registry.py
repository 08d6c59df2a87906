"""The models by name, and trained ones made again from the files that a run leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from iagraph.files import user_path
from iagraph.graphs import JetBatch
from iagraph.models.ablations import InteractionTransformer, LearnedPairIAFormer, PairTransformer, PlainTransformer
from iagraph.models.cascaded_iaformer import CascadedIAFormer
from iagraph.models.gated_iaformer import GatedIAFormer
from iagraph.models.iaformer import IAFormer
from iagraph.models.particle_net import ParticleNet
from iagraph.models.particle_transformer import ParticleTransformer
from iagraph.models.state_dicts import CheckpointError, read_state_dict, refuse_differences
from iagraph.nn.pruning import pruning_rule

MODELS: dict[str, Callable[..., nn.Module]] = {
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
"""The models by their names in configurations and in files of trained models."""


def names_of(*kinds: type[nn.Module]) -> list[str]:
    """The names of the models that are of one of these kinds."""
    return [name for name, make in MODELS.items() if isinstance(make, type) and issubclass(make, kinds)]


def make_model(name: str, pruning: dict[str, Any] | None = None, **arguments: Any) -> nn.Module:
    """A model with random weights.

    Args:
        name: a key of :data:`MODELS`.
        pruning: ``rule`` and ``strength`` of its layers, as :func:`~iagraph.nn.pruning_rule` takes them.
        arguments: those of the model.

    Raises:
        KeyError: there is no model of that name.
        TypeError, ValueError: it does not take these arguments.
    """
    if pruning is not None:
        arguments["pruning"] = pruning_rule(pruning["rule"], pruning["strength"])
    return MODELS[name](**arguments)


class TrainedModel(nn.Module):
    """A trained model that knows what it was trained for.

    Attributes:
        model: the model itself.
        classes: names of the classes, in the order of the logits.
        description: all that ``model.json`` tells: arguments of the model, features, fingerprints of the jets it was
            trained on, versions.
    """

    def __init__(self, model: nn.Module, description: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.description = model, description
        self.classes = tuple(description["classes"])

    def forward(self, jets: JetBatch) -> Tensor:
        """Logits, shape [jets, classes].

        Raises:
            ValueError: the jets lack what its features are made of.
        """
        return self.model(jets)

    def probabilities(self, jets: JetBatch) -> Tensor:
        """The probability of each class, shape [jets, classes]; it presumes equally many jets of each as in training.

        Raises:
            ValueError: as :meth:`forward`.
        """
        return self(jets).float().softmax(1)


def load(path: str | Path) -> TrainedModel:
    """The trained model of a run, on the CPU and in evaluation mode.

    Two files are read, ``model.pt`` and ``model.json``, and no code in them is run.

    Args:
        path: the folder of a run, or another one that holds both files.

    Raises:
        CheckpointError: a file is missing or damaged, or they do not fit.
    """
    folder = user_path(path)
    about = folder / "model.json"
    try:
        description = json.loads(about.read_text(encoding="utf-8"))
        model = make_model(**description["model"])
        trained = TrainedModel(model, description)
    except FileNotFoundError as error:
        raise CheckpointError(f"{about}: no such file; give the folder of a run that has finished") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{about}: is damaged or of another version ({reason}); copy the run anew") from error
    state = read_state_dict(folder / "model.pt")
    refuse_differences(
        folder / "model.pt", "the model of model.json", model.state_dict(), state, "take both from the same run"
    )
    model.load_state_dict(state)
    return trained.eval()
