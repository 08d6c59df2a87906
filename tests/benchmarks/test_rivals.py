"""Rival implementations give the same logits and gradients for the same weights."""

from functools import partial

import pytest
import reference_weaver
import torch

from benchmark import weaver_networks
from benchmark.rivals import EdgeListIAFormer, PaddedIAFormer, edge_list_inputs, padded_inputs
from benchmark.weaver_networks import WeaverParticleNet, WeaverParticleTransformer, weaver_inputs, with_weights
from iagraph.models import IAFormer, ParticleNet, ParticleTransformer
from iagraph.testing import random_jets

# Ragged, unsorted, with single particles; 29 slots are more than the largest jet needs.
COUNTS, SLOTS = [7, 1, 23, 2, 13, 1, 19], 29


def iaformer(beta_per_head=False):
    torch.manual_seed(0)
    sizes = {"num_classes": 3, "width": 15, "blocks": 2, "heads": 5, "pair_width": 7, "beta_per_head": beta_per_head}
    model = IAFormer("kinpid", "iaformer", particle_hidden=(11, 13), pair_hidden=(17, 6), **sizes).double()
    with torch.no_grad():
        for parameter in model.parameters():  # including norms and beta, and scores that distinguish pairs
            parameter += 0.3 * torch.randn_like(parameter)
    return model


LAYOUTS = [
    pytest.param(PaddedIAFormer, partial(padded_inputs, slots=SLOTS), id="padded"),
    pytest.param(EdgeListIAFormer, edge_list_inputs, id="edge list"),
]


@pytest.mark.parametrize("beta_per_head", [False, True])
@pytest.mark.parametrize(("layout", "inputs"), LAYOUTS)
class TestLayoutsOfIAFormer:
    def test_have_our_logits(self, layout, inputs, beta_per_head):
        model, jets = iaformer(beta_per_head), random_jets(COUNTS, dtype=torch.float64)
        expected = model(jets)
        assert expected.std(0).min() > 0.01  # the jets matter
        torch.testing.assert_close(layout(model)(*inputs(model, jets)), expected, rtol=0, atol=1e-12)

    def test_have_our_gradients(self, layout, inputs, beta_per_head):
        model, jets = iaformer(beta_per_head), random_jets(COUNTS, dtype=torch.float64)
        weights = torch.randn(len(jets), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        rival = layout(model)
        (rival(*inputs(model, jets)) * weights).sum().backward()
        (model(jets) * weights).sum().backward()
        pairs = zip(model.particle_encoder[0].parameters(), rival.particle_encoder[0][0].parameters(), strict=True)
        for own, other in [*pairs, *zip(model.blocks.parameters(), rival.blocks.parameters(), strict=True)]:
            assert own.grad.abs().max() > 0
            torch.testing.assert_close(other.grad, own.grad, rtol=1e-9, atol=1e-12)


def test_empty_jets_are_all_padding():
    model, jets = iaformer(), random_jets([3, 0, 5], dtype=torch.float64)
    torch.testing.assert_close(PaddedIAFormer(model)(*padded_inputs(model, jets, 5)), model(jets), rtol=0, atol=1e-12)


def test_values_in_padding_are_ignored():
    model, jets = iaformer(), random_jets(COUNTS, dtype=torch.float64)
    particles, pairs, mask = padded_inputs(model, jets, SLOTS)
    real = mask.unsqueeze(1) & mask.unsqueeze(2)
    assert mask.sum(1).tolist() == COUNTS
    changed = torch.where(mask.unsqueeze(2), particles, 2.0), torch.where(real.unsqueeze(3), pairs, -1.0), mask
    rival = PaddedIAFormer(model)
    torch.testing.assert_close(rival(*changed), rival(particles, pairs, mask), rtol=0, atol=1e-12)


def test_weights_are_copied():
    model, jets = iaformer(), random_jets(COUNTS, dtype=torch.float64)
    before = model(jets)
    for rival in (PaddedIAFormer(model), EdgeListIAFormer(model)):
        with torch.no_grad():
            for parameter in rival.parameters():
                parameter.zero_()
    assert torch.equal(model(jets), before)


def test_each_block_of_the_edge_list_encodes_the_edges_again():
    model, jets = iaformer(), random_jets(COUNTS, dtype=torch.float64)
    rival, rows = EdgeListIAFormer(model), []
    rival.convs[0].encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    rival(*edge_list_inputs(model, jets))
    assert rows == [sum(count**2 for count in COUNTS)] * 2


def test_too_many_particles_for_the_slots():
    with pytest.raises(ValueError, match="a jet has 23 particles and there are 19 slots"):
        padded_inputs(iaformer(), random_jets(COUNTS, dtype=torch.float64), 19)


PART = {"width": 15, "heads": 3, "blocks": 2, "class_blocks": 1, "particle_hidden": (13, 17), "pair_hidden": (11, 7)}
WEAVER_PART = {
    "embed_dims": [13, 17, 15],
    "pair_embed_dims": [11, 7],
    "num_heads": 3,
    "num_layers": 2,
    "num_cls_layers": 1,
}
NET = {"channels": ((11, 13), (19, 7)), "neighbors": 5, "head_hidden": 29}
WEAVER_NET = {"conv_params": [(5, (11, 13)), (5, (19, 7))], "fc_params": [(29, 0.1)]}


@pytest.mark.parametrize("features", ["kin", "kinpid", "full"])
def test_weaver_inputs_equal_those_of_its_loader(features):
    jets = random_jets(COUNTS, dtype=torch.float64)
    found = weaver_inputs(ParticleNet(features, **NET).double(), jets, SLOTS)
    for own, other in zip(found, reference_weaver.inputs(jets, features, slots=SLOTS), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("model", "network"),
    [
        (
            partial(ParticleTransformer, "kinpid", num_classes=3, **PART),
            partial(WeaverParticleTransformer, **WEAVER_PART),
        ),
        (partial(ParticleNet, "kinpid", num_classes=3, **NET), partial(WeaverParticleNet, **WEAVER_NET)),
    ],
    ids=["ParT", "ParticleNet"],
)
def test_weaver_with_our_weights_gives_our_logits_and_trims(model, network):
    torch.manual_seed(0)
    model, jets = model().double().eval(), random_jets(COUNTS, dtype=torch.float64)
    rival, seen = with_weights(network(13, 3).double(), model).eval(), []
    rival.mod.trimmer.register_forward_hook(lambda module, inputs, output: seen.append(output[0].size(2)))
    torch.testing.assert_close(rival(*weaver_inputs(model, jets, SLOTS)), model(jets), rtol=0, atol=1e-9)
    assert seen == [max(COUNTS)]


def test_missing_weaver_names_the_package_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name="weaver")

    monkeypatch.setattr(weaver_networks.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs weaver: pip install 'iagraph\[test\]'"):
        WeaverParticleNet(7, 2)
