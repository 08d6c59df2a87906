import pytest
import torch

from iagraph import segment

# The tensors of tests are small: threads would cost more than they bring, above all on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(params=["native", "torch-scatter"])
def backend(request, monkeypatch):
    """Runs a test on PyTorch's own scatter functions, and again on torch-scatter where it is installed."""
    if request.param == "native":
        monkeypatch.setattr(segment, "_torch_scatter", None)
    elif segment._torch_scatter is None:
        pytest.skip(segment.UNAVAILABLE)
    return request.param
