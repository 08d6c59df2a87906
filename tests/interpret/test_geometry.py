import pytest
import torch
from torch.testing import assert_close

from iagraph.graph import fully_connected
from iagraph.interpret.geometry import (
    between_subjets,
    distance_sums,
    geometry,
    jet_fractions,
    lepton_attention,
    number_of_subjets,
    shuffled,
)
from iagraph.interpret.recording import LayerAttention
from iagraph.interpret.sums import added
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta
from iagraph.testing import random_jets

COUNTS = [5, 0, 1, 13, 2]


def of_weights(jets, *heads):
    """A layer with these weights of all edges in each head."""
    alpha = torch.stack([torch.as_tensor(each, dtype=torch.float64).flatten() for each in heads], dim=1)
    return LayerAttention(fully_connected(jets.ptr), alpha, alpha, None, None)


def even(jets):
    edges = fully_connected(jets.ptr)
    return of_weights(jets, 1 / jets.ptr.diff()[jets.batch[edges[1]]].double())


def three(pid=(211, 11, 22)):
    """Three massless particles at 0, 0.3 and 0.5 rad: distances 0.3, 0.5, 0.2."""
    pt, zero = torch.tensor([5.0, 3.0, 2.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    phi = torch.tensor([0.0, 0.3, 0.5], dtype=torch.float64)
    return JetBatch(Momenta(pt, zero, phi, zero), torch.tensor([0, 3]), torch.tensor(pid))


WEIGHTS = [[9.0, 1, 0], [2, 9, 3], [0, -4, 9]]  # rows are targets


def test_fractions_of_jets():
    found = jet_fractions(torch.tensor([1.0, -3.0, 5.0, 0.0]), torch.tensor([0, 0, 2, 3]), 4)
    assert found.tolist() == [0.25, 0.75, 1, 0]


def test_distances_by_hand():
    jets = three()
    found = distance_sums(of_weights(jets, WEIGHTS), jets)
    # Shares of pairs: 0-1 (1 + 2) / 10, 0-2 nothing, 1-2 (3 + 4) / 10.
    expected = {"delta_r": 0.3 * 0.3 + 0.7 * 0.2, "within 0.1": 0.0, "within 0.4": 1.0, "weighed": 1.0}
    expected |= {"pairs delta_r": 1.0 / 3, "pairs within 0.1": 0.0, "pairs within 0.4": 2 / 3}
    for name, value in expected.items():
        assert found.layers[name].tolist() == [[pytest.approx(value)]], name
    assert found.layers["within 0.2"].item() in (pytest.approx(0.7), 0.0)  # the bound itself, which may round
    assert sorted(found.histograms["log_delta_r"][0].tolist())[-2:] == pytest.approx([0.3, 0.7])
    assert found.histograms["log_kt"].sum().item() == pytest.approx(1)


def test_even_attention_follows_pair_fractions():
    jets = random_jets(COUNTS, 1).double()
    subjet = torch.randint(-1, 2, (sum(COUNTS),), generator=torch.Generator().manual_seed(1))
    subjet[-2:] = torch.tensor([0, 1])
    found = geometry([even(jets), even(jets)], jets, subjet)
    assert found.layers["weighed"].tolist() == [[n > 1] * 2 for n in COUNTS]
    for name in ("delta_r", "within 0.1", "within 0.2", "within 0.4", "between"):
        assert_close(found.layers[name], found.layers[f"pairs {name}"])
        assert found.layers[name].sum() > 0
    for name in ("log_delta_r", "log_kt", "log_m2"):
        assert_close(found.histograms[name], found.histograms[f"pairs {name}"])
        assert_close(found.histograms[name].sum(1), torch.tensor([3.0, 3.0], dtype=torch.float64))
    assert_close(found.layers["lepton attention"], found.layers["lepton pairs"])


def test_between_subjets_by_hand():
    jets = three()
    layer = of_weights(jets, WEIGHTS, torch.eye(3) + 1)
    found = between_subjets(layer, jets, torch.tensor([0, 0, 1]), "my ")
    # First head 7 of 10, second head 4 of 6; together 11 of 16.
    assert found.layers["my between"].tolist() == [[11 / 16]]
    assert found.layers["my pairs between"].tolist() == [[pytest.approx(2 / 3)]]
    assert found.histograms["my between"].nonzero().tolist() == [[0, 26], [0, 28]]
    # The one in no subjet does not count.
    found = between_subjets(layer, jets, torch.tensor([0, 1, -1]))
    assert found.layers["between"].tolist() == found.layers["pairs between"].tolist() == [[1.0]]
    nothing = between_subjets(layer, jets, torch.tensor([0, -1, -1]))
    assert nothing.layers["split"].tolist() == nothing.layers["between"].tolist() == [[0.0]]
    assert nothing.histograms["between"].sum() == 0


def test_shuffled_subjets_keep_their_sizes():
    jets = random_jets([5, 0, 1, 31, 29])
    subjet = torch.cat([torch.tensor([4, 4, 4, 4, 3]), torch.tensor([9]), torch.arange(31) % 3, torch.arange(29) % 2])
    found = shuffled(subjet, jets)
    for begin, end in zip(jets.ptr[:-1].tolist(), jets.ptr[1:].tolist(), strict=True):
        assert found[begin:end].sort().values.equal(subjet[begin:end].sort().values)
    assert not found.equal(subjet)
    assert found.equal(shuffled(subjet, jets))


def test_lepton_by_hand():
    found = lepton_attention(of_weights(three(), WEIGHTS), three()).layers
    # The electron, particle 1, receives 1 and 4 of 1 + 2 + 3 + 4.
    assert found["lepton attention"].tolist() == [[0.5]]
    assert found["lepton pt"].tolist() == [[pytest.approx(0.3)]]
    assert found["lepton pairs"].tolist() == [[pytest.approx(1 / 3)]]
    assert found["with leptons"].tolist() == [[1.0]]
    # 3 / 2 < 5 / 3: the nearest is particle 2, which receives 0 and 3.
    assert found["nearest attention"].tolist() == [[pytest.approx(0.3)]]
    assert found["nearest pt"].tolist() == [[pytest.approx(0.2)]]


def test_two_leptons_or_none():
    jets = JetBatch.concatenate([three((-13, 11, 22)), three((211, 130, 22))])
    found = lepton_attention(of_weights(jets, [WEIGHTS, WEIGHTS]), jets).layers
    assert found["lepton attention"].tolist() == [[pytest.approx(0.7)], [0.0]]
    assert found["lepton pt"].tolist() == [[pytest.approx(0.8)], [0.0]]
    assert found["nearest attention"].tolist() == [[pytest.approx(0.6)], [0.0]]  # particle 2 of the first jet, twice
    assert found["with leptons"].tolist() == [[1.0], [0.0]]
    only = three((-13, 11, 13))
    found = lepton_attention(of_weights(only, WEIGHTS), only, "my ").layers
    assert found["my with leptons"].tolist() == found["my lepton attention"].tolist() == [[0.0]]


def test_unknown_species():
    jets = three()
    jets.pid = None
    with pytest.raises(ValueError, match="no 'pid'"):
        lepton_attention(even(jets), jets)
    found = geometry([even(jets)], jets, None)
    assert "with leptons" not in found.layers
    assert "split" not in found.layers


def test_batches_add_up():
    jets = random_jets(COUNTS, 2).double()
    layer = of_weights(jets, torch.randn(fully_connected(jets.ptr).size(1), generator=torch.Generator().manual_seed(2)))
    subjet = torch.arange(sum(COUNTS)) % 2
    whole = geometry([layer], jets, subjet)
    parts, particle = [], 0
    for begin, end in ((0, 3), (3, 5)):
        piece, particles = jets.part(begin, end), slice(particle, particle + sum(COUNTS[begin:end]))
        mine = (jets.batch[layer.edge_index[1]] >= begin) & (jets.batch[layer.edge_index[1]] < end)
        parts.append(geometry([of_weights(piece, layer.alpha[mine])], piece, subjet[particles]))
        particle = particles.stop
    together = added(parts)
    for name, values in whole.layers.items():
        if not name.startswith("shuffled"):  # random, with other draws
            assert_close(together.layers[name], values)


@pytest.mark.parametrize(
    ("name", "number"), [("top", 3), ("Tbqq", 3), ("Tbl", 2), ("QCD", 2), ("quark", 2), ("Wqq", 2)]
)
def test_subjets_by_class(name, number):
    assert number_of_subjets(name) == number
