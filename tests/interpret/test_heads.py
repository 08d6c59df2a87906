import numpy as np
import pytest
import torch
from torch.testing import assert_close

from iagraph.estimates import Truth
from iagraph.interpret.heads import ablate_heads, keep_heads, mean_sums, patch
from iagraph.interpret.interventions import Head, heads, sites, trace
from iagraph.interpret.particles import other_class, take
from iagraph.jets import JetBatch
from iagraph.testing import random_jets


def plain(array):
    return torch.from_numpy(array)


def test_means_run_over_all_particles(model, batches):
    whole = trace(model, JetBatch.concatenate(batches))
    for mean, sums in zip(mean_sums(model, batches), whole.sums, strict=True):
        assert_close(mean, sums.mean(0))


def test_constant_head_has_no_effect(model, batches):
    with torch.no_grad():
        for site in sites(model):  # values that do not depend on the particle, weights that sum to the same everywhere
            site.conv.lin_value.weight[2:4] = 0
    logits = ablate_heads(model, batches, mean_sums(model, batches))
    for place in range(len(sites(model))):
        assert_close(plain(logits["mean", Head(place, 1)]), plain(logits["clean"]))
        assert not np.allclose(logits["mean", Head(place, 2)], logits["clean"], rtol=1e-9, atol=1e-10)


def test_ablating_a_layer_ablates_all_its_heads(make, batches):
    model = make("iaformer")
    logits = ablate_heads(model, batches, mean_sums(model, batches))
    with torch.no_grad():
        sites(model)[1].conv.lin_out.weight.zero_()
    assert_close(plain(logits["zero", 1]), model(JetBatch.concatenate(batches)).detach())


def test_ablation_of_a_head_with_linear_logits(make, batches):
    """Without norm and feed-forward networks in the last block, the logits are linear in what its heads add."""
    model = make("plain")
    block = model.blocks[-1]
    block.norm_out = torch.nn.Identity()
    block.feed_forward = torch.nn.Sequential(torch.nn.Identity())
    block.forward = lambda x, graph, scores: block.conv.attend(block.norm_in(x), graph, scores)
    logits = ablate_heads(model, batches, mean_sums(model, batches))
    bias = model.head.bias.detach()
    parts = [plain(logits["clean"] - logits["zero", Head(1, head)]) for head in range(3)]
    assert_close(sum(parts) + bias, plain(logits["clean"]))
    assert_close(plain(logits["zero", 1]), bias.expand(10, 2))
    with torch.no_grad():
        block.conv.lin_out.weight[:, :4] = 0  # the third head alone
    logits = ablate_heads(model, batches, mean_sums(model, batches))
    for head, moved in ((0, False), (1, False), (2, True)):
        assert np.allclose(logits["zero", Head(1, head)], logits["clean"], rtol=1e-9, atol=1e-10) != moved
    assert_close(plain(logits["zero", Head(1, 2)]), bias.expand(10, 2))


def test_keep_heads(model, batches):
    means, everyone = mean_sums(model, batches), heads(model)
    orders = {"up": ("zero", everyone), "down": ("mean", everyone[::-1])}
    total = len(everyone)
    kept = keep_heads(model, batches, means, orders, [0, 1, total - 1, total])
    single = ablate_heads(model, batches, means)
    for name in orders:
        assert_close(plain(kept[name, total]), plain(single["clean"]))
    assert_close(plain(kept["up", total - 1]), plain(single["zero", everyone[-1]]))
    assert_close(plain(kept["down", total - 1]), plain(single["mean", everyone[0]]))
    with torch.no_grad():
        for site in sites(model):
            site.conv.lin_out.weight.zero_()
    assert_close(plain(kept["up", 0]), model(JetBatch.concatenate(batches)).detach())


def test_patching_with_itself_changes_nothing(model, batches):
    logits = patch(model, batches, lambda labels: torch.arange(len(labels)))
    for name, values in logits.items():
        assert np.allclose(values, logits["clean"], rtol=1e-9, atol=1e-12), name


def test_patching_all_vectors_gives_the_donor(model):
    jets = random_jets([7, 7, 7, 7, 7, 7], 4).double()
    batches = [take(jets, torch.tensor(some)) for some in ([0, 1, 2, 3], [4, 5])]
    logits = patch(model, batches)
    donors = other_class(jets.y)
    assert_close(plain(logits["donor"]), model(take(jets, donors)).detach())
    assert_close(plain(logits[2]), plain(logits["donor"]))
    truth = Truth(jets.y.numpy(), 1)
    assert truth.transfer(logits[2], logits["clean"], logits["donor"]).value == pytest.approx(1)


def test_particles_without_a_donor_are_unchanged(model):
    jets = random_jets([5, 0], 5).double()  # of either class one, and the donor of the first is empty
    logits = patch(model, [jets])
    for name in (*range(3), *(head for head in heads(model) if not sites(model)[head.site].of_jets)):
        assert_close(plain(logits[name]), plain(logits["clean"]))


def test_patched_head_has_the_output_of_the_donor(make):
    """Alone in the last layer of a model that reads nothing else, it makes the donor's logits."""
    model = make("plain")
    block = model.blocks[-1]
    block.forward = lambda x, graph, scores: block.conv.attend(block.norm_in(x), graph, scores)
    with torch.no_grad():
        block.conv.lin_out.weight[:, 2:] = 0
    logits = patch(model, [random_jets([5, 5, 5, 5], 6).double()])
    assert_close(plain(logits[Head(1, 0)]), plain(logits["donor"]))
    assert_close(plain(logits[Head(1, 1)]), plain(logits["clean"]))
    assert not np.allclose(logits["donor"], logits["clean"], rtol=1e-9, atol=1e-10)
