"""Properties of every model."""

import pytest
import torch
from every_model import COUNTS, every_attention_model, every_model, model

from iagraph import kernels
from iagraph.graph import fully_connected
from iagraph.jets import JetBatch
from iagraph.kinematics import Impact, Momenta
from iagraph.models import IAFormer, ParticleNet, ParticleTransformer, PlainTransformer
from iagraph.testing import (
    assert_all_gradients,
    assert_batch_independent,
    assert_permutation_invariant,
    boosted,
    random_jets,
)


@pytest.mark.usefixtures("padding")
@every_model
@pytest.mark.parametrize("features", ["kin", "full", "iaformer"])
def test_models_are_invariant_under_permutations(make, features):
    net, jets = model(make, node_features=features).double(), random_jets([0, *COUNTS], dtype=torch.float64)
    assert_permutation_invariant(net, jets, 1e-12)
    assert_batch_independent(net, jets, 1e-12)


@every_model
def test_models_are_invariant_under_rotations_about_the_beam(make):
    net, jets = model(make).double(), random_jets(COUNTS, dtype=torch.float64)
    torch.testing.assert_close(net(boosted(jets, 0.0, 2.1)), net(jets), rtol=0, atol=1e-10)


@every_model
def test_every_parameter_has_a_gradient(make):
    assert_all_gradients(model(make, node_features="kinpid"), random_jets(COUNTS), powerless=["lin_key.bias"])


@every_attention_model
def test_complete_and_edge_list_forms_agree_with_gradients(make, backend, padding):
    jets = random_jets([0, *COUNTS, 0], dtype=torch.float64)
    results = []
    for edges in (None, fully_connected(jets.ptr)):
        net = model(make).double()
        out = net(jets, edges)
        out.square().sum().backward()
        results.append([out, *(parameter.grad for parameter in net.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@every_model
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_fast_kernels_and_references_agree_with_gradients(make, training):
    settings = {"dropout": 0.0} if make in (ParticleTransformer, ParticleNet) else {}
    jets, results = random_jets([0, *COUNTS], dtype=torch.float64), []
    for kind in ("fast", "reference"):
        net = model(make, **settings).double().train(training)
        with kernels.use(kind):
            out = net(jets)
            out.square().sum().backward()
        results.append([out, *(parameter.grad for parameter in net.parameters()), *net.buffers()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@every_attention_model
def test_particles_without_an_edge_are_independent(make):
    net, jets = model(make).double(), random_jets([5], dtype=torch.float64)
    itself = torch.arange(5).expand(2, 5)
    assert (net(jets, itself) - net(jets)).abs().max() > 1e-4
    both = torch.cat([itself, torch.tensor([[3], [0]])], dim=1)
    assert (net(jets, itself) - net(jets, both)).abs().max() > 1e-5


@every_attention_model
def test_edges_between_jets_are_refused(make):
    with pytest.raises(ValueError, match="edge_index joins particles of different jets"):
        model(make)(random_jets([3, 5]), torch.tensor([[0, 4], [1, 2]]))


@every_attention_model
@pytest.mark.parametrize(
    "edges", [torch.ones(4, 2).long(), torch.ones(2, 4), torch.ones(2, 4).bool(), torch.ones(2).long()]
)
def test_what_is_no_list_of_edges_is_refused(make, edges):
    with pytest.raises(ValueError, match=r"edge_index should hold integers, shape \[2, edges\], found torch"):
        model(make)(random_jets([3, 5]), edges)


@every_attention_model
def test_edges_of_missing_particles_are_refused(make):
    with pytest.raises(ValueError, match="edge_index has the target 8: nodes are numbered from 0, and there are 8"):
        model(make)(random_jets([3, 5]), torch.tensor([[3, 4], [8, 3]]))


@every_attention_model
def test_vectors_of_jets_without_the_last_map(make):
    net = model(make)
    width, net.head = net.head.in_features, torch.nn.Identity()
    assert net(random_jets([3, 5])).shape == (2, width)


@every_model
@pytest.mark.parametrize("features", ["kin", "kinpid", "full", "iaformer"])
def test_identical_and_empty_particles_have_finite_gradients(make, features):
    rows = [(5.0, 0.1, 0.2, 0.1)] * 3 + [(0.0, 0.0, 0.0, 0.0)] * 2
    momenta, impact = Momenta(*torch.tensor(rows).t()), Impact(*torch.zeros(4, 5))
    jets = JetBatch(momenta, torch.tensor([0, 5]), torch.full((5,), 22), impact=impact)
    net = model(make, node_features=features)
    net(jets).sum().backward()
    assert net(jets).isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@every_model
def test_empty_jets_have_the_same_finite_logits(make):
    net = model(make)
    empty, mixed = net(random_jets([0, 0])), net(random_jets([0, 5, 0]))
    assert empty.isfinite().all()
    torch.testing.assert_close(mixed[[0, 2]], empty)
    torch.testing.assert_close(empty[0], empty[1])


@every_model
def test_nan_stays_in_its_jet(make, padding):
    net, jets = model(make), random_jets([5, 7, 3])
    expected = net(jets)
    jets.momenta.pt[6] = torch.nan  # in the second jet, which is the largest: the others are padded beside it
    got = net(jets)
    assert got[1].isnan().all()
    torch.testing.assert_close(got[[0, 2]], expected[[0, 2]])


@every_model
def test_bfloat16_autocast_is_close_and_keeps_float32_logits(make):
    net, jets = model(make), random_jets([5 + k % 7 for k in range(300)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = net(jets)
    assert got.dtype == torch.float32
    assert len(got[:, 0].unique()) > 295
    expected = net(jets)
    # Rounding may change neighbours, so single jets may differ.
    assert (got - expected).abs().median() < 0.02 * expected.std()


@every_model
def test_training_with_empty_and_single_particle_jets(make):
    net, jets = model(make).train(), random_jets([0, 1, *COUNTS])
    net(jets).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@every_model
def test_evaluated_batches_can_be_trained_on(make):
    net, jets = model(make), random_jets(COUNTS)
    with torch.inference_mode():
        judged = net(jets)
    logits = net(jets)
    torch.testing.assert_close(logits, judged)
    logits.sum().backward()


@every_model
def test_models_move_to_another_device(make):
    moved = model(make).to("meta").state_dict()
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert "scale_particles.center" in moved


@every_model
def test_unknown_features_are_named(make):
    with pytest.raises(ValueError, match="unknown feature set 'kinn'; there are kin, kinpid, full, iaformer"):
        make(node_features="kinn")


@every_attention_model
def test_heads_must_divide_the_width(make):
    with pytest.raises(ValueError, match="must be a multiple of heads"):
        model(make, heads=4)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (IAFormer, {"blocks": 0}),
        (PlainTransformer, {"blocks": 0}),
        (ParticleTransformer, {"blocks": 0}),
        (ParticleTransformer, {"class_blocks": 0}),
        (ParticleTransformer, {"width": 0}),
        (ParticleNet, {"channels": ()}),
        (ParticleNet, {"channels": ((5,), ())}),
        (ParticleNet, {"neighbors": 0}),
    ],
)
def test_zero_sizes_are_refused(make, settings):
    with pytest.raises(ValueError, match=r"must be (at least 1|a block with channels and a neighbour)"):
        make(**settings)


@every_model
@pytest.mark.parametrize("counts", [[1], [0, 1], [0]])
def test_training_with_one_particle_or_none(make, counts):
    net = model(make).train()
    net(random_jets(counts)).square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in net.parameters())


@every_model
def test_precision_is_that_of_the_weights(make):
    net, jets = model(make), random_jets(COUNTS, dtype=torch.float64)
    expected = net.double()(jets)
    rounded = random_jets(COUNTS)
    torch.testing.assert_close(net(rounded), expected, rtol=0, atol=1e-3)
    assert net(rounded).dtype == torch.float64
    assert net.float()(jets).dtype == torch.float32
