import pytest
import torch
from torch.testing import assert_close

from iagraph.graph import fully_connected
from iagraph.interpret.interventions import Head, changed, heads, resume, run_changed, sites, trace
from iagraph.models import ParticleTransformer


def test_every_head_is_found(make):
    assert [site.name for site in sites(make("part"))] == ["1", "2", "class 1", "class 2"]
    assert [site.depth for site in sites(make("part"))] == [0, 1, 2, 2]
    assert [site.name for site in sites(make("cascaded"))] == ["1", "2"]
    assert heads(make("iaformer")) == [Head(site, head) for site in (0, 1) for head in (0, 1, 2)]


def test_going_on_gives_the_same_logits(model, jets):
    recorded = trace(model, jets)
    assert_close(recorded.logits, model(jets))
    for depth in range(3):
        assert_close(resume(model, recorded, depth), recorded.logits)
    assert run_changed(model, recorded, {}) is recorded.logits


def test_a_change_from_a_recording_is_that_of_the_whole_model(model, jets):
    recorded = trace(model, jets)
    for head in heads(model):
        value = torch.linspace(-1.0, 2.0, 2, dtype=torch.float64)
        with changed(model, {head: value}):
            whole = model(jets)
            on_edges = model(jets, fully_connected(jets.ptr))
        assert_close(run_changed(model, recorded, {head: value}), whole)
        assert_close(on_edges, whole)  # dense blocks and lists of edges alike
        assert not torch.allclose(whole, recorded.logits, rtol=1e-9, atol=1e-10)
    assert_close(model(jets), recorded.logits)  # nothing stays behind


def test_what_a_head_said_changes_nothing(model, jets):
    recorded = trace(model, jets)
    for head in heads(model):
        own = recorded.sums[head.site].unflatten(1, (3, 2))[:, head.head]
        assert_close(run_changed(model, recorded, {head: own}), recorded.logits)


def test_zero_is_a_head_without_weights_whose_bias_stays(make, jets):
    model = make("part")
    recorded = trace(model, jets)
    zeroed = run_changed(model, recorded, {Head(1, 2): torch.zeros(2, dtype=torch.float64)})
    with torch.no_grad():
        model.convs()[1].lin_out.weight[:, 4:6] = 0  # what the third of three heads adds
    assert_close(zeroed, model(jets))


def test_a_head_that_says_nothing_has_no_effect(model, jets):
    with torch.no_grad():
        for site in sites(model):
            site.conv.lin_out.weight[:, 2:4] = 0
    recorded = trace(model, jets)
    for place in range(len(sites(model))):
        with_zero = run_changed(model, recorded, {Head(place, 1): torch.zeros(2, dtype=torch.float64)})
        assert_close(with_zero, recorded.logits)


def test_several_heads_at_once(model, jets):
    recorded = trace(model, jets)
    zero = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for site in sites(model):
            site.conv.lin_out.weight.zero_()
    assert_close(run_changed(model, recorded, dict.fromkeys(heads(model), zero)), model(jets))


@pytest.mark.parametrize("name", ["part", "plain"])
def test_sums_of_class_attention_are_of_jets(make, jets, name):
    model = make(name)
    recorded = trace(model, jets)
    sizes = [len(sums) for sums in recorded.sums]
    assert sizes == ([21, 21, 5, 5] if isinstance(model, ParticleTransformer) else [21, 21])
    assert [site.of_jets for site in sites(model)] == [size == 5 for size in sizes]
