import pytest
import torch
from small_models import MODELS

from iagraph.testing import random_jets


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
