import pytest
from small_models import MODELS, drawn

from iagraph.testing import random_jets


def make_model(name):
    return drawn(MODELS[name])


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
