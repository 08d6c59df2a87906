"""Small models with attention among particles, one of each kind, for tests of studies."""

import torch

from iagraph.models import (
    CascadedIAFormer,
    GatedIAFormer,
    IAFormer,
    InteractionTransformer,
    LearnedPairIAFormer,
    PairTransformer,
    ParticleTransformer,
    PlainTransformer,
)
from iagraph.nn import EdgeBudget

SMALL = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": [7]}
PAIRS = {"pair_hidden": [5], "pair_width": 11}
MODELS = {
    "part": lambda: ParticleTransformer(**SMALL, class_blocks=2, pair_hidden=[5]),
    "part without pairs": lambda: ParticleTransformer(pair_features=None, **SMALL, class_blocks=1),
    "iaformer": lambda: IAFormer(**SMALL, **PAIRS),
    "pruned": lambda: IAFormer(**SMALL, **PAIRS, pruning=EdgeBudget(fraction=0.4)),
    "gated": lambda: GatedIAFormer(**SMALL, **PAIRS, gate_fraction=0.4),
    "cascaded": lambda: CascadedIAFormer(**SMALL, **PAIRS, gate_fraction=0.6, pruning=EdgeBudget(fraction=0.4)),
    "plain": lambda: PlainTransformer(**SMALL),
    "interaction": lambda: InteractionTransformer(**SMALL, **PAIRS),
    "pair": lambda: PairTransformer(**SMALL, **PAIRS),
    "learned": lambda: LearnedPairIAFormer(**SMALL, **PAIRS),
}


def drawn(make, seed=1):
    """A model in float64 and evaluation mode with all weights far from zero, including beta and biases."""
    torch.manual_seed(seed)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model
