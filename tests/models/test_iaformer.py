import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from reference_iaformer import logits_of_jet

from iagraph.graphs import JetBatch
from iagraph.kinematics import Impact, Momenta
from iagraph.models import IAFormer
from iagraph.testing import (
    assert_all_gradients,
    assert_batch_independent,
    assert_permutation_invariant,
    boosted,
    random_jets,
)
from iagraph.topology import fully_connected

COUNTS = [7, 1, 13, 2, 11, 5]
SMALL = {"width": 15, "blocks": 2, "heads": 3, "particle_hidden": (17, 13), "pair_hidden": (19, 11), "pair_width": 7}


def model(seed=0, **settings):
    """A small IAFormer whose every weight is random, biases and norms included: no symmetry can hide a mistake."""
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
    sizes |= {"species": net.node_features == "kinpid", "energy_share": net.pair_features == "iaformer"}
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


def test_complete_and_edge_list_forms_have_equal_gradients(backend, padding):
    jets = random_jets([0, *COUNTS, 0], dtype=torch.float64)
    gradients = []
    for edges in (None, fully_connected(jets.ptr)):
        net = model(node_features="kinpid", pair_features="iaformer").double()
        net(jets, edges).square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_edges_may_come_in_any_order():
    net, jets = model().double(), random_jets(COUNTS, dtype=torch.float64)
    edges = fully_connected(jets.ptr)
    shuffled = edges[:, torch.randperm(edges.size(1))]
    torch.testing.assert_close(net(jets, shuffled), net(jets), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("padding")
@pytest.mark.parametrize("features", ["kin", "kinpid", "full", "iaformer"])
def test_order_of_particles_and_of_jets_does_not_matter(features):
    net, jets = model(node_features=features).double(), random_jets(COUNTS, dtype=torch.float64)
    assert_permutation_invariant(net, jets, 1e-12)
    assert_batch_independent(net, jets, 1e-12)


def test_rotations_about_the_beam_do_not_matter():
    net, jets = model().double(), random_jets(COUNTS, dtype=torch.float64)
    torch.testing.assert_close(net(boosted(jets, 0.0, 2.1)), net(jets), rtol=0, atol=1e-10)


@pytest.mark.parametrize("beta_per_head", [False, True])
def test_every_parameter_learns_beta_included(beta_per_head):
    net = model(node_features="kinpid", beta_per_head=beta_per_head)
    assert_all_gradients(net, random_jets(COUNTS))
    betas = [conv.theta.grad for conv in net.convs()]
    assert len(betas) == 2
    assert all(grad.shape == (3 if beta_per_head else 1,) and grad.abs().min() > 1e-6 for grad in betas)


def test_beta_starts_where_the_authors_start_it():
    for blocks in (4, 12):
        for conv in IAFormer(**(SMALL | {"blocks": blocks})).convs():
            assert conv.beta.item() == pytest.approx(1 - math.exp(-1 / blocks), rel=1e-6)


def test_size_of_the_published_configuration():
    # By hand, width 32, 4 blocks, 16 heads, 7 + 6 inputs; the two encoders, four blocks and the head:
    particles = (7 * 256 + 256) + (256 * 128 + 128) + (128 * 32 + 32) + 32
    pairs = (6 * 256 + 256) + (256 * 128 + 128) + (128 * 64 + 64)
    attention = 64 * 32 + 32 * 32 + 32 * 32 + 1
    block = 2 * 32 + attention + 2 * 32 + (2 * 32 + (32 * 128 + 128) + 2 * 128 + (128 * 32 + 32))
    net = IAFormer()
    assert sum(parameter.numel() for parameter in net.parameters()) == particles + pairs + 4 * block + 2 * 32 + 2


class TestDegenerateJets:
    def test_no_particles_give_the_bias_of_the_head(self):
        net = model()
        empty, mixed = random_jets([0, 0]), random_jets([0, 5, 0])
        torch.testing.assert_close(net(empty), net.head.bias.expand(2, 2))
        torch.testing.assert_close(net(mixed)[[0, 2]], net.head.bias.expand(2, 2))

    def test_one_particle_attends_to_itself(self):
        net, jets = model().double(), random_jets([1], dtype=torch.float64)
        torch.testing.assert_close(net(jets), reference(net, jets), rtol=0, atol=1e-10)

    @pytest.mark.parametrize("features", ["kin", "kinpid", "full", "iaformer"])
    def test_identical_and_empty_particles_are_finite_with_finite_gradients(self, features):
        rows = [(5.0, 0.1, 0.2, 0.1)] * 3 + [(0.0, 0.0, 0.0, 0.0)] * 2
        momenta, impact = Momenta(*torch.tensor(rows).t()), Impact(*torch.zeros(4, 5))
        jets = JetBatch(momenta, torch.tensor([0, 5]), torch.full((5,), 22), impact=impact)
        net = model(node_features=features, pair_features="iaformer")
        net(jets).sum().backward()
        assert net(jets).isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in net.parameters())

    def test_nan_stays_in_its_jet(self, padding):
        net, jets = model(), random_jets([5, 7, 3])
        expected = net(jets)
        jets.momenta.pt[6] = torch.nan  # in the second jet, which is the largest: the others are padded beside it
        got = net(jets)
        assert got[1].isnan().all()
        torch.testing.assert_close(got[[0, 2]], expected[[0, 2]])


def test_edges_between_jets_are_refused():
    with pytest.raises(ValueError, match="edge_index joins particles of different jets"):
        model()(random_jets([3, 5]), torch.tensor([[0, 4], [1, 2]]))


def test_no_blocks_are_refused():
    with pytest.raises(ValueError, match="blocks must be at least 1, not 0"):
        IAFormer(blocks=0)


def test_unknown_features_are_named():
    with pytest.raises(ValueError, match="unknown feature set 'kinn'; there are kin, kinpid, full, iaformer"):
        IAFormer(node_features="kinn")
    with pytest.raises(ValueError, match="unknown feature set 'kt'; there are invariant, iaformer, part"):
        IAFormer(pair_features="kt")


def test_bfloat16_autocast_stays_close_and_does_not_round_the_logits():
    net, jets = model(), random_jets([5 + k % 7 for k in range(300)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = net(jets)
    assert got.dtype == torch.float32
    assert len(got[:, 0].unique()) > 295
    torch.testing.assert_close(got, net(jets), rtol=0.05, atol=0.1)


def test_moves_to_another_device_as_a_whole():
    moved = model().to("meta").state_dict()
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert {"scale_particles.center", "scale_pairs.width"} <= set(moved)
