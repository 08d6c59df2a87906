import os
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from iagraph import segment
from iagraph.graph import dense

# The tensors of tests are small: threads would cost more than they bring, above all on a busy machine.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start, while others run beside them

SAVEFIG = Figure.savefig


@pytest.fixture(params=["native", "torch-scatter"])
def backend(request, monkeypatch):
    """Runs a test on PyTorch's own scatter functions, and again on torch-scatter where it is installed."""
    if request.param == "native":
        monkeypatch.setattr(segment, "_torch_scatter", None)
    elif segment._torch_scatter is None:
        pytest.skip(segment.UNAVAILABLE)
    return request.param


@pytest.fixture(params=[1, 2, dense.MAX_SIZE_CLASSES], ids=lambda classes: f"{classes} size classes")
def padding(request, monkeypatch):
    """Runs a test with much, little and no padding in dense blocks: a few jets would otherwise get a block each."""
    monkeypatch.setattr(dense, "MAX_SIZE_CLASSES", request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _undrawn_figures():
    """Files of figures are empty: drawing takes more than half of the time of a small training."""

    def savefig(figure, file, **_):
        if isinstance(file, str | Path):
            Path(file).touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        yield


@pytest.fixture(scope="module")
def drawn():
    """Figures are drawn in a module whose tests or fixtures ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", SAVEFIG)
        yield
