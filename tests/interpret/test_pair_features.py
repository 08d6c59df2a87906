import numpy as np
import pytest
import torch
from torch.testing import assert_close

from iagraph.graph import unordered_pairs
from iagraph.interpret.pair_features import ablate_pair_features, ablated, pair_inputs, shuffle
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES
from iagraph.testing import random_jets

INVARIANT = (*PAIR_FEATURES["invariant"], "is_self")


def test_available_features(make):
    found = {
        name: [(source.part, tuple(source.names)) for source in pair_inputs(make(name))]
        for name in ("part", "part without pairs", "plain", "learned", "iaformer", "cascaded")
    }
    assert found["part"] == [("encoder", PAIR_FEATURES["part"])]
    assert found["part without pairs"] == found["plain"] == found["learned"] == []
    assert found["iaformer"] == [("encoder", INVARIANT)]
    assert found["cascaded"] == [(part, INVARIANT) for part in ("gate and encoder", "gate", "encoder")]


def silence(model, column):
    """Make the pair encoder ignore a feature."""
    encoder = model.pair_encoder
    (first, *_) = (module for module in encoder if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        first.weight[:, column] = 0


@pytest.mark.parametrize("name", ["iaformer", "interaction", "pair", "pruned"])
def test_typical_values_equal_an_unread_feature(make, batches, name):
    model = make(name)
    logits = ablate_pair_features(model, batches)
    assert len(logits) == 2 * len(INVARIANT) - 1
    silence(model, 3)
    without = model(JetBatch.concatenate(batches)).detach()
    assert_close(torch.from_numpy(logits["encoder", "log_m2", "typical"]), without)


def test_typical_values_in_part_are_running_means(make, batches):
    model = make("part")
    norm = model.pair_encoder[0]
    norm.running_mean.copy_(torch.tensor([-1.0, 2.0, 0.5, 3.0]))
    logits = ablate_pair_features(model, batches)
    with torch.no_grad():
        norm.weight[1] = 0  # what is left is the bias of the norm, as at the mean
    without = model(JetBatch.concatenate(batches)).detach()
    assert_close(torch.from_numpy(logits["encoder", "log_z", "typical"]), without)


@pytest.mark.parametrize("name", ["iaformer", "part", "gated", "cascaded"])
def test_unread_features_have_no_effect(make, batches, name):
    model = make(name)
    column = list(pair_inputs(model)[0].names).index("log_kt")
    encoders = model.pair_encoders if name == "cascaded" else [model.pair_encoder]
    with torch.no_grad():
        for encoder in encoders:
            next(module for module in encoder if isinstance(module, torch.nn.Linear)).weight[:, column] = 0
    clean = model(JetBatch.concatenate(batches)).detach().numpy()
    logits = ablate_pair_features(model, batches)
    for (part, feature, variant), values in logits.items():
        if (part, feature) == ("encoder", "log_kt"):
            assert np.allclose(values, clean, rtol=1e-9, atol=1e-12)
        if (part, feature, variant) == ("encoder", "log_m2", "shuffled"):
            assert not np.allclose(values, clean, rtol=1e-9, atol=1e-10)


def test_gate_and_encoder_are_ablated_separately(make, batches):
    model = make("gated")
    with torch.no_grad():
        model.pair_inputs.gate.hidden.weight[:, 0] = 0
    clean = model(JetBatch.concatenate(batches)).detach().numpy()
    logits = ablate_pair_features(model, batches)
    assert np.allclose(logits["gate", "log_delta_r", "typical"], clean, rtol=1e-9, atol=1e-12)
    assert np.allclose(
        logits["gate and encoder", "log_delta_r", "typical"], logits["encoder", "log_delta_r", "typical"], rtol=1e-9
    )
    assert not np.allclose(logits["encoder", "log_delta_r", "typical"], clean, rtol=1e-9, atol=1e-10)
    assert not np.allclose(logits["gate", "log_kt", "typical"], clean, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("variant", ["typical", "shuffled"])
def test_ablations_are_the_same_with_gradients(make, jets, variant):
    model = make("gated")
    for source in pair_inputs(model):
        with ablated(source, "log_kt", variant, jets):
            with torch.no_grad():
                without = model(jets)
            assert_close(model(jets), without)


def test_model_is_unchanged_afterwards(model, jets):
    clean = model(jets)
    for source in pair_inputs(model):
        with ablated(source, source.names[0], "typical", jets):
            assert not torch.allclose(model(jets), clean, rtol=1e-9, atol=1e-10)
    assert_close(model(jets), clean)


def test_shuffling_stays_within_jets_and_kinds():
    jets = random_jets([5, 0, 1, 13, 2])
    first, second = unordered_pairs(jets.ptr)
    order = shuffle(first, second, jets, 7)
    assert order.sort().values.equal(torch.arange(len(first)))
    assert jets.batch[first[order]].equal(jets.batch[first])
    assert (first == second)[order].equal(first == second)
    assert not order.equal(torch.arange(len(first)))
    assert not order.equal(shuffle(first, second, jets, 8))
