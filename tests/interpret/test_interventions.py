import pytest
import torch
from torch.testing import assert_close

from iagraph.graph import fully_connected
from iagraph.interpret.interventions import Head, changed, heads, resume, run_changed, sites, trace
from iagraph.models import ParticleTransformer


def test_all_heads_are_found(make):
    assert [site.name for site in sites(make("part"))] == ["1", "2", "class 1", "class 2"]
    assert [site.depth for site in sites(make("part"))] == [0, 1, 2, 2]
    assert [site.name for site in sites(make("cascaded"))] == ["1", "2"]
    assert heads(make("iaformer")) == [Head(site, head) for site in (0, 1) for head in (0, 1, 2)]


def test_resuming_gives_the_same_logits(model, jets):
    recorded = trace(model, jets)
    assert_close(recorded.logits, model(jets))
    for depth in range(3):
        assert_close(resume(model, recorded, depth), recorded.logits)
    assert run_changed(model, recorded, {}) is recorded.logits


def test_change_from_a_trace_equals_change_of_the_model(model, jets):
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


def test_own_output_of_a_head_changes_nothing(model, jets):
    recorded = trace(model, jets)
    for head in heads(model):
        own = recorded.sums[head.site].unflatten(1, (3, 2))[:, head.head]
        assert_close(run_changed(model, recorded, {head: own}), recorded.logits)


def test_zero_ablation_keeps_the_bias(make, jets):
    model = make("part")
    recorded = trace(model, jets)
    zeroed = run_changed(model, recorded, {Head(1, 2): torch.zeros(2, dtype=torch.float64)})
    with torch.no_grad():
        model.convs()[1].lin_out.weight[:, 4:6] = 0  # what the third of three heads adds
    assert_close(zeroed, model(jets))


def test_zero_head_has_no_effect(model, jets):
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
def test_class_attention_has_one_sum_per_jet(make, jets, name):
    model = make(name)
    recorded = trace(model, jets)
    sizes = [len(sums) for sums in recorded.sums]
    assert sizes == ([21, 21, 5, 5] if isinstance(model, ParticleTransformer) else [21, 21])
    assert [site.of_jets for site in sites(model)] == [size == 5 for size in sizes]
