"""Jets in slots give the same as ragged jets, whatever the padding holds."""

import pytest
import torch
from small_models import MODELS, PAIRS, SMALL
from torch import nn

from iagraph.export.comparison import difference
from iagraph.export.inputs import input_names, slots_of
from iagraph.export.padded import PaddedTagger
from iagraph.export.tracing import traced
from iagraph.graph import DenseGraph, PaddedGraph
from iagraph.jets import PaddedJets
from iagraph.models import CascadedIAFormer, IAFormer, ParticleNet
from iagraph.nn import EdgeBudget, Threshold, TopK, TopP
from iagraph.testing import random_jets

JETS = random_jets([5, 1, 0, 17, 41, 2], seed=3).double()
RULES = [
    Threshold(minimum=0.1),
    TopK(k=3),
    TopK(k=2, per_head=True, renormalize=True),
    TopP(p=0.6),
    TopP(p=1.0),
    TopP(p=0.7, per_head=True),
    EdgeBudget(fraction=0.2),
    EdgeBudget(fraction=0.3, renormalize=True),
]
NETWORKS = MODELS | {
    "particlenet": lambda: ParticleNet("full", channels=((5, 7), (11,)), neighbors=3, head_hidden=13),
    "iaformer features": lambda: IAFormer("iaformer", "iaformer", **SMALL, **PAIRS, beta_per_head=True),
}


def lively(model):
    """A model in evaluation mode with non-trivial norms and attention."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.Linear):
            module.weight.data *= 2
    return model.double().eval()


def inputs(model, jets, slots):
    """Inputs in float64, to exclude rounding, with garbage in the padding."""
    table = slots_of(jets, input_names(model), slots)
    padding = torch.arange(slots) >= table["num_particles"].unsqueeze(1)
    for name, values in table.items():
        if name != "num_particles":
            values[padding] = torch.nan if values.is_floating_point() else 211
    return {name: values.double() if values.is_floating_point() else values for name, values in table.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_equal_those_of_the_model(name):
    torch.manual_seed(1)
    model = lively(NETWORKS[name]())
    with torch.inference_mode():
        expected = model(JETS)
        for slots in (41, 44):
            probabilities, logits = PaddedTagger(model)(**inputs(model, JETS, slots))
            assert difference(logits, expected).max() < 1e-10
            torch.testing.assert_close(probabilities, logits.softmax(1))
    assert expected.std(0).min() > 1e-2  # the jets differ


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("kind", [IAFormer, CascadedIAFormer], ids=lambda kind: kind.__name__)
def test_rules_drop_the_same_edges(kind, rule):
    def make(pruning):
        torch.manual_seed(2)
        return lively(kind(**SMALL | {"blocks": 3}, **PAIRS, pruning=pruning))

    model = make(rule)
    with torch.inference_mode():
        expected = model(JETS)
        _, logits = PaddedTagger(model)(**inputs(model, JETS, 43))
        without_rule = make(None)(JETS)
    assert difference(logits, expected).max() < 1e-10
    assert (difference(without_rule, expected).max() > 1e-3) == (rule != TopP(p=1.0))  # the rule does something


def test_gates_keep_the_right_number_of_pairs():
    torch.manual_seed(3)
    model = lively(MODELS["gated"]())
    jets = random_jets([6, 1, 11])
    table = inputs(model, jets, 13)
    with torch.inference_mode():
        graph, _, _ = model.look_at_pairs(torch.zeros(39, 6), PaddedJets(**table).graph(), PaddedJets(**table))
    # 0.4 of 15 and of 55 pairs, and each particle with itself.
    assert graph.edges.triu().sum((1, 2)).tolist() == [6 + 6, 1, 22 + 11]
    assert torch.equal(graph.edges, graph.edges.mT)


def test_sums_of_particles_equal_those_of_ragged_jets():
    jets = random_jets([5, 0, 17])
    table = slots_of(jets, ("four_momenta", "num_particles"), 19)
    for ragged, padded in zip(jets.sums(), PaddedJets(**table).sums(), strict=True):
        torch.testing.assert_close(padded, ragged)


class TestNeighbours:
    def test_equal_those_of_complete_graphs(self):
        jets, slots, k = random_jets([5, 1, 17, 2]), 19, 4
        points = torch.stack([jets.momenta.rapidity, jets.momenta.phi], dim=1)
        ragged = DenseGraph(jets.ptr).nearest(points, k)
        real = torch.arange(slots) < jets.ptr.diff().unsqueeze(1)
        table = torch.full((4, slots, 2), 1e6)
        table[real] = points
        found = PaddedGraph.complete(real).nearest(table.flatten(0, 1), k)[real.flatten()]
        node_of_slot = torch.full((4 * slots,), -1)
        node_of_slot[real.flatten()] = torch.arange(25)
        assert torch.equal(torch.where(found < 0, -1, node_of_slot[found]), ragged)


class TestInputs:
    def test_match_the_features(self):
        sets = ("kin", "kinpid", "full", "iaformer")
        assert [input_names(IAFormer(features, **SMALL, **PAIRS))[2:] for features in sets] == [
            (),
            ("pid",),
            ("pid", "impact"),
            (),
        ]

    def test_values_are_in_their_slots(self):
        jets = random_jets([2, 0, 3])
        table = slots_of(jets, ("four_momenta", "num_particles", "pid", "impact"), 5)
        assert table["num_particles"].tolist() == [2, 0, 3]
        assert table["pid"].tolist() == [[*jets.pid[:2], 0, 0, 0], [0] * 5, [*jets.pid[2:], 0, 0]]
        assert torch.equal(table["four_momenta"][2, :3, 1], jets.momenta.rapidity[2:])
        assert torch.equal(table["impact"][0, :2, 3], jets.impact.dz_error[:2])

    def test_too_few_slots(self):
        with pytest.raises(ValueError, match="a jet has 3 particles and there are 2 slots"):
            slots_of(random_jets([3]), ("four_momenta",), 2)

    def test_jets_without_species(self):
        jets = random_jets([3])
        jets.pid = None
        with pytest.raises(ValueError, match="the model needs pid, which these jets do not have"):
            slots_of(jets, ("four_momenta", "pid"))


def test_foreign_models_are_refused():
    with pytest.raises(TypeError, match="Linear cannot be exported"):
        traced(nn.Linear(1, 1))
