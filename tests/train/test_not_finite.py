import numpy as np
import pytest
import torch
from toy_runs import settings

from iagraph.models import IAFormer
from iagraph.testing import random_jets
from iagraph.train.not_finite import FILES, first_not_finite, report
from iagraph.train.run import train

SMALL = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": [7], "pair_hidden": [5], "pair_width": 11}


@pytest.fixture
def model():
    torch.manual_seed(1)
    return IAFormer(**SMALL)


def jets_with(pt):
    jets = random_jets([3, 5, 2, 7], 1)
    jets.momenta.pt[9] = pt  # of jet 2
    return jets


def test_the_jet_is_named_and_saved(model, tmp_path):
    jets = jets_with(float("nan"))
    logits = model(jets)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1, 0]), reduction="none")
    text = report(model, jets, losses, tmp_path)
    assert text.startswith("its jet 2 of 4; first in the output of ")
    assert text.endswith(f"jets and weights are in {tmp_path / FILES[0]} and {FILES[1]}")
    saved = np.load(tmp_path / FILES[0], allow_pickle=False)
    assert {"ptr", "loss", "label", "pid", "pt", "rapidity", "phi", "mass", "d0", "dz_error"} <= set(saved)
    assert np.isnan(saved["pt"]).nonzero()[0].tolist() == [9]
    assert np.isnan(saved["loss"]).tolist() == [False, False, True, False]
    weights = torch.load(tmp_path / FILES[1], weights_only=True)
    assert all(weights[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_the_layer_is_named(model):
    jets = jets_with(30.0)
    assert first_not_finite(model, jets) is None
    with torch.no_grad():
        model.blocks[1].feed_forward[1].bias[2] = torch.inf
    assert first_not_finite(model, jets) == "blocks.1.feed_forward.1"
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_that_are_spoiled_are_named(model):
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    losses = torch.full((4,), torch.nan)
    assert report(model, jets_with(1.0), losses, None) == (
        "its jets 0, 1, 2, 3 of 4; weights that were not finite before: head.bias"
    )


def test_a_folder_that_cannot_be_written_is_no_reason_to_be_silent(model, tmp_path):
    text = report(model, jets_with(float("nan")), torch.tensor([0, 0, torch.nan, 0]), tmp_path / "not" / "there")
    assert text.startswith("its jet 2 of 4")
    assert "jets and weights" not in text


def test_a_training_stops_and_leaves_what_is_needed(store, tmp_path):
    wild = settings(store, tmp_path, "train.learning_rate=1e30", "train.clip=null", "train.warmup=0")
    with pytest.raises(FloatingPointError, match=r"the loss is \S+ in batch \d+ of epoch \d+ \(its jets? .* are in .*"):
        train(wild)
    assert {path.name for path in (tmp_path / "qg-001").glob("not_finite*")} == set(FILES)
