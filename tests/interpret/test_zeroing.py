import pytest
import small_models
import torch
from small_models import PAIRS, SMALL
from torch.testing import assert_close

from iagraph.interpret.recording import record_attention, recorded
from iagraph.interpret.zeroing import zero_beta, zero_both, zero_content, zero_pairs, zeroings
from iagraph.models import CascadedIAFormer
from iagraph.testing import random_jets

# Without a rule, so that even attention covers all edges kept by the gate.
MODELS = small_models.MODELS | {"cascaded": lambda: CascadedIAFormer(**SMALL, **PAIRS, gate_fraction=0.6)}
EFFECTS = {
    "part": {"U = 0", "A = 0"},
    "part without pairs": set(),
    "iaformer": {"beta = 0"},
    "learned": {"beta = 0"},
    "gated": {"beta = 0"},
    "cascaded": {"beta = 0"},
    "plain": set(),
    "pair": set(),
    "interaction": {"U = 0", "A = 0"},
}
COUNTS = [5, 0, 1, 13, 2]


def made(name):
    model, random = MODELS[name]().double().eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7, generator=random)
    return model


@pytest.fixture
def jets():
    return random_jets(COUNTS, 1).double()


@pytest.mark.parametrize("name", list(EFFECTS))
def test_model_is_unchanged_afterwards(name, jets):
    model = made(name)
    before, weights = model(jets), {key: value.clone() for key, value in model.state_dict().items()}
    assert set(zeroings(model)) == EFFECTS[name] | {"even attention"}
    for zeroing in zeroings(model).values():
        with zeroing(model):
            changed = model(jets)
        assert not torch.allclose(changed, before)
        assert_close(model(jets), before, rtol=0, atol=0)
        assert "attend" not in vars(model.convs()[0])
    assert_close(model.state_dict(), weights, rtol=0, atol=0)


@pytest.mark.parametrize("name", list(EFFECTS))
def test_even_attention(name, jets):
    model = made(name)
    with recorded(model) as layers, zero_both(model):
        model(jets, all_edges(jets))
    for layer in layers:
        arriving = torch.bincount(layer.edge_index[1], minlength=sum(COUNTS)).double()
        assert_close(layer.maps, (1 / arriving)[layer.edge_index[1]].unsqueeze(1).expand_as(layer.maps))
    assert "attend" not in vars(model.convs()[0])


def all_edges(jets):
    return jets.prunable_graph().edge_index


@pytest.mark.parametrize("name", ["part", "interaction"])
def test_remaining_scores(name, jets):
    model = made(name)
    with recorded(model) as layers, zero_pairs(model):
        model(jets, all_edges(jets))
    assert all(layer.pair.eq(0).all() and layer.content.abs().sum() > 0 for layer in layers)
    with recorded(model) as layers, zero_content(model):
        model(jets, all_edges(jets))
    assert all(layer.content.eq(0).all() and layer.pair.abs().sum() > 0 for layer in layers)


def test_zero_pairs_equals_a_zero_pair_encoder(jets):
    """As in arXiv 2512.00210, on complete graphs and on edge lists."""
    model = made("part")
    with zero_pairs(model):
        found = model(jets)
        assert_close(model(jets, all_edges(jets)), found)
    with torch.no_grad():
        for parameter in model.pair_encoder.parameters():
            parameter.zero_()
    assert_close(model(jets), found)


def test_zero_beta_leaves_the_first_map(jets):
    model = made("iaformer")
    with zero_beta(model):
        for layer in record_attention(model, jets).layers:
            assert_close(layer.alpha, layer.maps[:, :3])


def test_recording_continues_afterwards(jets):
    model = made("part")
    with recorded(model) as layers:
        with zero_pairs(model):
            model(jets, all_edges(jets))
        model(jets, all_edges(jets))
    assert [bool(layer.pair.any()) for layer in layers] == [False, False, True, True]


def test_error_inside_leaves_the_model_unchanged(jets):
    model = made("part")
    before = model(jets)
    with pytest.raises(RuntimeError, match="mine"), zero_both(model):
        raise RuntimeError("mine")
    assert_close(model(jets), before, rtol=0, atol=0)
