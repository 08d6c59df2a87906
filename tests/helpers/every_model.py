"""Every model with small sizes, for tests that apply to all models."""

import pytest
import torch

from iagraph.models import (
    CascadedIAFormer,
    GatedIAFormer,
    IAFormer,
    InteractionTransformer,
    LearnedPairIAFormer,
    PairTransformer,
    ParticleNet,
    ParticleTransformer,
    PlainTransformer,
)
from iagraph.nn import TopK

COUNTS = [7, 1, 13, 2, 11, 5]
SIZES = {"width": 15, "blocks": 2, "heads": 3, "particle_hidden": (17, 13)}
PAIRS = {"pair_hidden": (19, 11), "pair_width": 7}
MODELS = {
    IAFormer: SIZES | PAIRS,
    GatedIAFormer: SIZES | PAIRS | {"gate_fraction": 0.6},
    CascadedIAFormer: SIZES | {"pair_hidden": (11,), "pair_width": 7, "gate_fraction": 0.6, "pruning": TopK(k=3)},
    PlainTransformer: SIZES,
    InteractionTransformer: SIZES | PAIRS,
    PairTransformer: SIZES | PAIRS,
    LearnedPairIAFormer: SIZES | PAIRS,
    ParticleTransformer: SIZES | {"pair_hidden": (19, 11), "class_blocks": 2},
    ParticleNet: {"channels": ((5, 7), (11, 11)), "neighbors": 4, "head_hidden": 13},
}
ATTENTION = [model for model in MODELS if model is not ParticleNet]
every_model = pytest.mark.parametrize("make", MODELS, ids=lambda model: model.__name__)
every_attention_model = pytest.mark.parametrize("make", ATTENTION, ids=lambda model: model.__name__)


def model(make, seed=0, **settings):
    """A small model with random weights, norms and statistics included, so that no symmetry hides a mistake."""
    torch.manual_seed(seed)
    net = make(num_classes=3, **(MODELS[make] | settings))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
    return net.eval()
