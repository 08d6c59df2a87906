import pytest
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
from iagraph.testing import random_jets

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


def make_model(name):
    torch.manual_seed(1)
    model = MODELS[name]().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


@pytest.fixture(params=list(MODELS))
def model(request):
    return make_model(request.param)


@pytest.fixture
def make():
    return make_model


@pytest.fixture
def jets():
    return random_jets([5, 0, 1, 13, 2], 1).double()


@pytest.fixture
def batches():
    return [random_jets([5, 7, 1, 13], 2).double(), random_jets([3, 11, 0, 2, 6, 4], 3).double()]
