from itertools import pairwise

import pytest
import torch

from iagraph.segment import segment_softmax, segment_sum, weighted_sum

SIZES = (3, 0, 7, 1, 11, 0)


def rows(*shape, dtype=torch.float64):
    torch.manual_seed(1)
    index = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    ptr = torch.tensor([0, *SIZES]).cumsum(0)
    return torch.randn(len(index), *shape, dtype=dtype), index, ptr


@pytest.mark.parametrize("sorted_rows", [True, False])
class TestBothBackends:
    @pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
    def test_segment_sum_by_loop(self, backend, shape, sorted_rows):
        src, index, ptr = rows(*shape)
        expected = torch.stack([src[a:b].sum(0) for a, b in pairwise(ptr)])
        src, index, ptr = shuffled(src, index, ptr, sorted_rows)
        torch.testing.assert_close(segment_sum(src, index, len(SIZES), ptr), expected)

    def test_segment_softmax_by_loop(self, backend, sorted_rows):
        src, index, ptr = rows(5)
        expected = torch.cat([src[a:b].softmax(0) for a, b in pairwise(ptr)])
        if sorted_rows:
            got = segment_softmax(src, index, len(SIZES), ptr)
        else:
            order = torch.randperm(len(index))
            got = torch.empty_like(src)
            got[order] = segment_softmax(src[order], index[order], len(SIZES))
        torch.testing.assert_close(got, expected)

    def test_gradients(self, backend, sorted_rows):
        src, index, ptr = shuffled(*rows(2), sorted_rows)
        src.requires_grad_()
        assert torch.autograd.gradcheck(lambda s: segment_softmax(s, index, len(SIZES), ptr), src)
        assert torch.autograd.gradcheck(lambda s: segment_sum(s, index, len(SIZES), ptr), src)

    def test_large_scores_do_not_overflow(self, backend, sorted_rows):
        src, index, ptr = rows(3, dtype=torch.float32)
        src, index, ptr = shuffled(src * 1e4, index, ptr, sorted_rows)
        got = segment_softmax(src, index, len(SIZES), ptr)
        assert got.isfinite().all()
        totals = segment_sum(got, index, len(SIZES), ptr)
        torch.testing.assert_close(totals, (torch.tensor(SIZES) > 0).float().unsqueeze(1).expand(-1, 3))

    @pytest.mark.parametrize("far", [-200.0, 200.0])
    def test_segments_with_very_different_scores(self, backend, sorted_rows, far):
        src, index, ptr = rows(3)
        expected = segment_softmax(src, index, len(SIZES), ptr).float()
        src, index, ptr = src.float() + far * (index == 2).unsqueeze(1), index, ptr if sorted_rows else None
        torch.testing.assert_close(segment_softmax(src, index, len(SIZES), ptr), expected, rtol=1e-4, atol=0)

    @pytest.mark.parametrize("score", [-85.0, 80.0, 85.0])
    def test_gradients_of_large_scores(self, backend, sorted_rows, score):
        src, index, ptr = shuffled(*rows(3), sorted_rows)
        single = (src.float() + score).requires_grad_()
        double = single.detach().double().requires_grad_()
        for each in (single, double):
            weights = torch.arange(each.numel()).view_as(each).sin() * 1e-6
            (segment_softmax(each, index, len(SIZES), ptr) * weights).sum().backward()
        torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-3, atol=1e-11)

    @pytest.mark.parametrize("channels", [1, 2, 4, 7])
    def test_weighted_sum_edge_by_edge(self, backend, sorted_rows, channels):
        weights, values, source, index, ptr = edges(channels, sorted_rows)
        expected = torch.zeros(len(SIZES), 3, channels).double()
        for weight, here, there in zip(weights, index, source, strict=True):
            expected[here] += weight.unsqueeze(1) * values[there].view(3, channels)
        got = weighted_sum(weights, values, source, index, len(SIZES), ptr)
        torch.testing.assert_close(got, expected.flatten(1))
        rough = weighted_sum(weights.float(), values.float(), source, index, len(SIZES), ptr)
        torch.testing.assert_close(rough, got.float())
        mixed = weighted_sum(weights.float(), values.bfloat16(), source, index, len(SIZES), ptr)
        torch.testing.assert_close(mixed, got.float(), rtol=0.05, atol=0.05)

    @pytest.mark.parametrize("channels", [2, 5])
    def test_gradients_of_weighted_sums(self, backend, sorted_rows, channels):
        weights, values, source, index, ptr = edges(channels, sorted_rows)
        inputs = (weights.requires_grad_(), values.requires_grad_())
        assert torch.autograd.gradcheck(lambda w, v: weighted_sum(w, v, source, index, len(SIZES), ptr), inputs)
        if backend == "native":  # torch-scatter gives first gradients only
            assert torch.autograd.gradgradcheck(lambda w, v: weighted_sum(w, v, source, index, len(SIZES), ptr), inputs)

    def test_no_rows(self, backend, sorted_rows):
        ptr = torch.zeros(4, dtype=torch.long) if sorted_rows else None
        src, index = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
        assert segment_softmax(src, index, 3, ptr).shape == (0, 2)
        assert segment_sum(src, index, 3, ptr).tolist() == [[0, 0]] * 3
        assert weighted_sum(src, torch.ones(3, 8), index, index, 3, ptr).tolist() == [[0] * 8] * 3


def shuffled(src, index, ptr, keep):
    if keep:
        return src, index, ptr
    order = torch.randperm(len(index))
    return src[order], index[order], None


def edges(channels, keep):
    """Weights of three heads, values of seven nodes, and the edges."""
    weights, index, ptr = rows(3)
    weights, index, ptr = shuffled(weights, index, ptr, keep)
    return weights, torch.randn(7, 3 * channels).double(), torch.randint(7, index.shape), index, ptr


@pytest.mark.parametrize("largest", [1.0, 1e4])
def test_compiled_functions_equal_eager_ones(backend, largest):
    """Scores that eager mode must shift, and scores that it need not; compiled code does not branch on them."""
    random = torch.Generator().manual_seed(3)
    index = torch.randint(7, (61,), generator=random).sort().values
    source = torch.randint(11, (61,), generator=random)
    scores = largest * torch.randn(61, 3, generator=random, dtype=torch.float64)
    values = torch.randn(11, 15, generator=random, dtype=torch.float64)
    ptr = torch.cat([torch.zeros(1, dtype=torch.long), torch.bincount(index, minlength=7).cumsum(0)])

    def run(scores, values):
        weights = segment_softmax(scores, index, 7, ptr)
        return weights, weighted_sum(weights, values, source, index, 7, ptr), segment_sum(scores, index, 7, ptr)

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(scores, values), run(scores, values))
