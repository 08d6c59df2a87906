import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from reference_iaformer import logits_of_jet

from iagraph.graph import fully_connected
from iagraph.models import IAFormer
from iagraph.testing import (
    assert_all_gradients,
    random_jets,
)

COUNTS = [7, 1, 13, 2, 11, 5]
SMALL = {"width": 15, "blocks": 2, "heads": 3, "particle_hidden": (17, 13), "pair_hidden": (19, 11), "pair_width": 7}


def model(seed=0, **settings):
    """A small IAFormer with random weights, biases and norms included, so that no symmetry hides a mistake."""
    torch.manual_seed(seed)
    net = IAFormer(**(SMALL | settings))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return net.eval()


def reference(net, jets):
    weights = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    particles = np.stack([component.double().numpy() for component in (*jets.momenta, jets.pid)], axis=1)
    sizes = {"blocks": SMALL["blocks"], "heads": SMALL["heads"]}
    sizes |= {"species": net.node_features == "kinpid", "energy_share": net.pair_inputs.name == "iaformer"}
    rows = [particles[a:b].tolist() for a, b in pairwise(jets.ptr.tolist())]
    return torch.tensor(np.array([logits_of_jet(row, weights, **sizes) for row in rows]), dtype=torch.float64)


@pytest.mark.parametrize(("nodes", "pairs"), [("kin", "invariant"), ("kinpid", "iaformer")])
class TestEquations:
    def test_complete_form(self, nodes, pairs, padding):
        net, jets = model(node_features=nodes, pair_features=pairs), random_jets(COUNTS)
        torch.testing.assert_close(net(jets).double(), reference(net, jets), rtol=0, atol=1e-5)
        net, jets = net.double(), jets.double()
        torch.testing.assert_close(net(jets), reference(net, jets), rtol=0, atol=1e-10)

    def test_edge_list_form(self, nodes, pairs, backend):
        net, jets = model(node_features=nodes, pair_features=pairs), random_jets(COUNTS)
        edges = fully_connected(jets.ptr)
        torch.testing.assert_close(net(jets, edges).double(), reference(net, jets), rtol=0, atol=1e-5)
        net, jets = net.double(), jets.double()
        torch.testing.assert_close(net(jets, edges), reference(net, jets), rtol=0, atol=1e-10)


def test_edges_may_come_in_any_order():
    net, jets = model().double(), random_jets(COUNTS, dtype=torch.float64)
    edges = fully_connected(jets.ptr)
    shuffled = edges[:, torch.randperm(edges.size(1))]
    torch.testing.assert_close(net(jets, shuffled), net(jets), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta_per_head", [False, True])
def test_every_parameter_has_a_gradient_including_beta(beta_per_head):
    net = model(node_features="kinpid", beta_per_head=beta_per_head)
    assert_all_gradients(net, random_jets(COUNTS))
    betas = [conv.theta.grad for conv in net.convs()]
    assert len(betas) == 2
    assert all(grad.shape == (3 if beta_per_head else 1,) and grad.abs().min() > 1e-6 for grad in betas)


def test_beta_has_the_published_initial_value():
    for blocks in (4, 12):
        for conv in IAFormer(**(SMALL | {"blocks": blocks})).convs():
            assert conv.beta.item() == pytest.approx(1 - math.exp(-1 / blocks), rel=1e-6)


def test_published_configuration_has_the_published_size():
    # By hand, width 32, 4 blocks, 16 heads, 7 + 6 inputs; the two encoders, four blocks and the head:
    particles = (7 * 256 + 256) + (256 * 128 + 128) + (128 * 32 + 32) + 32
    pairs = (6 * 256 + 256) + (256 * 128 + 128) + (128 * 64 + 64)
    attention = 64 * 32 + 32 * 32 + 32 * 32 + 1
    block = 2 * 32 + attention + 2 * 32 + (2 * 32 + (32 * 128 + 128) + 2 * 128 + (128 * 32 + 32))
    net = IAFormer()
    assert sum(parameter.numel() for parameter in net.parameters()) == particles + pairs + 4 * block + 2 * 32 + 2


class TestFewParticles:
    def test_empty_jets_give_the_bias_of_the_head(self):
        net = model()
        empty, mixed = random_jets([0, 0]), random_jets([0, 5, 0])
        torch.testing.assert_close(net(empty), net.head.bias.expand(2, 2))
        torch.testing.assert_close(net(mixed)[[0, 2]], net.head.bias.expand(2, 2))

    def test_one_particle_attends_to_itself(self):
        net, jets = model().double(), random_jets([1], dtype=torch.float64)
        torch.testing.assert_close(net(jets), reference(net, jets), rtol=0, atol=1e-10)


def test_unknown_pair_features_are_named():
    with pytest.raises(ValueError, match="unknown feature set 'kt'; there are invariant, iaformer, part"):
        IAFormer(pair_features="kt")
