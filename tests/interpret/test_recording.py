import pytest
import torch
from small_models import MODELS, drawn

from iagraph.interpret.interventions import trace
from iagraph.interpret.recording import record_attention
from iagraph.models import (
    ParticleTransformer,
)
from iagraph.testing import random_jets

COUNTS = [5, 0, 1, 13, 2]


@pytest.fixture(params=list(MODELS))
def model(request):
    return drawn(MODELS[request.param])


def test_recorded_weights_reproduce_the_model(model):
    jets = random_jets(COUNTS, 1).double()
    recording = record_attention(model, jets)
    torch.testing.assert_close(recording.logits, model(jets))
    assert len(recording.layers) == 2
    assert "attend" not in vars(model.convs()[0])  # nothing stays behind
    if not isinstance(model, ParticleTransformer):
        _, weights = model(jets, return_attention_weights=True)
        for mine, (edge_index, alpha, _) in zip(recording.layers, weights, strict=True):
            assert mine.edge_index.equal(edge_index)
            torch.testing.assert_close(mine.alpha, alpha)


def test_scores_give_maps_and_maps_give_weights(model):
    jets = random_jets(COUNTS, 2).double()
    for conv, layer in zip(model.convs(), record_attention(model, jets).layers, strict=True):
        torch.testing.assert_close(conv.weights(layer.maps.t()).t(), layer.alpha)
        parts = [part for part in (layer.content, layer.pair) if part is not None]
        total = torch.stack(parts).sum(0)
        source, target = layer.edge_index
        for node in target.unique():
            mine = target == node
            # Where edges are dropped, the rest of a softmax over all edges has the same ratios.
            ratio = layer.maps[mine] / layer.maps[mine].sum(0)
            torch.testing.assert_close(ratio, total[mine].softmax(0))
        assert (jets.batch[source] == jets.batch[target]).all()


@pytest.mark.parametrize(
    ("name", "content", "pair"),
    [("part", True, True), ("part without pairs", True, False), ("iaformer", False, True), ("plain", True, False)],
)
def test_available_scores(name, content, pair):
    layer = record_attention(MODELS[name]().eval(), random_jets([3, 5], 3)).layers[1]
    assert (layer.content is not None, layer.pair is not None) == (content, pair)


def test_content_scores_are_queries_times_keys():
    model, jets = MODELS["part"]().double().eval(), random_jets([3, 5], 4).double()
    vectors, (_, layer) = trace(model, jets).x, record_attention(model, jets).layers
    block = model.blocks[1]
    x = block.norm_in(vectors[1])
    query, key = (linear(x).view(-1, 3, 2) for linear in (block.conv.lin_query, block.conv.lin_key))
    source, target = layer.edge_index
    torch.testing.assert_close(layer.content, (query[target] * key[source]).sum(2) / 2**0.5)


def test_last_vectors_are_the_input_of_the_read_out(model):
    jets = random_jets(COUNTS, 5).double()
    vectors = trace(model, jets).x
    assert [tensor.shape for tensor in vectors] == [(sum(COUNTS), 6)] * 3
    torch.testing.assert_close(model.read_out(vectors[-1], jets.graph()), model(jets))
    assert not model.blocks[0]._forward_hooks
