import os

import hypothesis
import pytest
import torch
from saved_figures import figures

from iagraph import segment
from iagraph.graph import dense

# Tensors in tests are small: threads would cost more than they gain, above all on a busy machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start, while others run beside them

# On a busy machine an example may take any time.
hypothesis.settings.register_profile("iagraph", deadline=None)
hypothesis.settings.load_profile("iagraph")


@pytest.fixture(params=["native", "torch-scatter"])
def backend(request, monkeypatch):
    """Run a test with PyTorch's own scatter functions, and with torch-scatter where it is installed."""
    if request.param == "native":
        monkeypatch.setattr(segment, "_torch_scatter", None)
    elif segment._torch_scatter is None:
        pytest.skip(segment.UNAVAILABLE)
    return request.param


@pytest.fixture(params=[1, 2, dense.MAX_SIZE_CLASSES], ids=lambda classes: f"{classes} size classes")
def padding(request, monkeypatch):
    """Run a test with much, little and no padding in dense blocks; few jets would otherwise get a block each."""
    monkeypatch.setattr(dense, "MAX_SIZE_CLASSES", request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _empty_figures():
    with figures("empty"):
        yield


@pytest.fixture
def drawn():
    """Figures are drawn."""
    with figures("drawn"):
        yield
