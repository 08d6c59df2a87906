"""Models whose modules a user has changed: kernels must not compute with what was there before."""

from copy import deepcopy

import pytest
import torch
from every_model import COUNTS, every_model, model
from torch import nn
from torch.nn.utils import prune

from iagraph import kernels
from iagraph.models import IAFormer, ParticleNet, ParticleTransformer
from iagraph.nn import EdgeConv, ThinLinear
from iagraph.testing import random_jets


class Adapter(nn.Module):
    """A linear map and a correction of rank one, as in LoRA (arXiv 2106.09685)."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(0.3 * torch.randn(1, linear.in_features, dtype=linear.weight.dtype))
        self.up = nn.Parameter(0.3 * torch.randn(linear.out_features, 1, dtype=linear.weight.dtype))

    def forward(self, x):
        return self.linear(x) + x @ self.down.t() @ self.up.t()


def linears(net):
    """Module, name and linear map of each linear map."""
    found = [(module, name, child) for module in net.modules() for name, child in module.named_children()]
    return [each for each in found if type(each[2]) in (nn.Linear, ThinLinear)]


@every_model
@pytest.mark.parametrize("training", [False, True])
def test_adapters_equal_weights_with_the_correction(make, training):
    jets = random_jets(COUNTS).double()
    adapted = model(make, dropout=0.0) if make in (ParticleTransformer, ParticleNet) else model(make)
    adapted = adapted.double().train(training)
    merged = deepcopy(adapted)
    adapters = []
    for (module, name, child), (_, _, other) in zip(linears(adapted), linears(merged), strict=True):
        adapters.append(Adapter(child))
        setattr(module, name, adapters[-1])
        other.weight.data += (adapters[-1].up @ adapters[-1].down).detach()
    assert len(adapters) > 5
    out = adapted(jets)
    torch.testing.assert_close(out, merged(jets), rtol=0, atol=1e-9)
    out.square().sum().backward()
    for adapter, other in zip(adapters, linears(merged), strict=True):
        assert (adapter.up.grad is None) == (other[2].weight.grad is None) or adapter.up.grad.abs().sum() > 0


@every_model
def test_hooks_that_prune_weights_run_in_each_step(make):
    jets = random_jets(COUNTS)
    net = model(make).train()
    for _, _, child in linears(net):
        prune.l1_unstructured(child, "weight", 0.3)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        net(jets).square().sum().backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        out = net(jets)
        for _, _, child in linears(net):
            prune.remove(child, "weight")
        torch.testing.assert_close(out, net(jets), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda encoder: encoder.__setitem__(1, nn.Tanh()),
        lambda encoder: encoder.__setitem__(1, nn.GELU("tanh")),
        lambda encoder: encoder.append(nn.Tanh()),
        lambda encoder: encoder.__setitem__(2, nn.Linear(19, 11, bias=False)),
    ],
    ids=["activation", "approximate", "longer", "without bias"],
)
def test_other_pair_encoders_of_iaformer(change):
    jets, net = random_jets(COUNTS), model(IAFormer)
    before = net(jets)
    change(net.pair_encoder)
    with kernels.use("reference"):
        expected = net(jets)
    torch.testing.assert_close(net(jets), expected, rtol=0, atol=1e-5)
    assert (expected - before).abs().max() > 1e-4


def test_synchronised_norms_of_particle_transformer():
    jets, net = random_jets(COUNTS), model(ParticleTransformer)
    expected = net(jets)
    torch.testing.assert_close(nn.SyncBatchNorm.convert_sync_batchnorm(net)(jets), expected, rtol=0, atol=1e-4)


@every_model
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_backward_hooks_run(make):
    net = model(make)
    maps = [child for _, _, child in linears(net)]
    seen = []
    for child in maps:
        child.register_full_backward_hook(lambda module, *_: seen.append(module))
    net(random_jets(COUNTS)).square().sum().backward()
    # The first map of an edge convolution is applied to sums over sources and targets, never called.
    assert set(map(id, seen)) >= {id(child) for child in maps if child.weight.grad is not None} - set(
        map(id, [conv.linears[0] for conv in net.modules() if isinstance(conv, EdgeConv)])
    )
