"""Exported models see the same part of jets as the model."""

import pytest
import torch
from small_models import MODELS

from iagraph.export.comparison import ExportError, compare, difference
from iagraph.export.inputs import input_names, slots_of
from iagraph.export.padded import PaddedTagger, padded_view
from iagraph.jets import PaddedJets
from iagraph.testing import random_jets
from iagraph.views import JetView

NAMES = ("four_momenta", "num_particles", "pid", "impact")
VIEWS = [JetView(), JetView(4), JetView(masses="zero"), JetView(9, "zero"), JetView(50)]


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("slots", [17, 19])
def test_slots_apply_the_view_like_ragged_jets(view, slots):
    jets = random_jets([5, 0, 17, 1, 9], seed=2)
    jets.momenta.pt[:] = jets.momenta.pt.round() + 1  # many are equal
    table = slots_of(jets, NAMES, slots)
    padding = torch.arange(slots) >= table["num_particles"].unsqueeze(1)
    table["four_momenta"][padding] = torch.nan
    table["four_momenta"][padding, 0] = torch.inf
    found = PaddedJets(*padded_view(view, *table.values()))
    expected = view(jets)
    assert found.real.sum(1).tolist() == expected.ptr.diff().tolist()
    real = found.real.flatten()
    for mine, theirs in zip((*found.momenta, *found.impact), (*expected.momenta, *expected.impact), strict=True):
        assert mine[real].equal(theirs)
        assert not mine[~real].any()
    assert found.pid[real].equal(expected.pid.int())


@pytest.mark.parametrize("name", ["iaformer", "gated", "part"])
def test_logits_follow_the_view(name):
    torch.manual_seed(1)
    model, view = MODELS[name]().eval(), JetView(7, "zero")
    jets = random_jets([3, 12, 0, 41], seed=4)

    def exported(inputs):
        probabilities, logits = PaddedTagger(model, view)(**inputs)
        return probabilities, logits

    with torch.inference_mode():
        _, logits = exported(slots_of(jets, input_names(model)))
        assert difference(logits, model(view(jets))).max() < 1e-5
        assert difference(logits, model(jets)).max() > 1e-3
    assert compare(exported, model, [jets], view).jets > 4
    with pytest.raises(ExportError, match="differs by"):
        compare(exported, model, [jets])
