from itertools import pairwise

import pytest
import torch

from iagraph.segment import segment_softmax, segment_sum

SIZES = (3, 0, 7, 1, 11, 0)


def rows(*shape, dtype=torch.float64):
    torch.manual_seed(1)
    index = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    ptr = torch.tensor([0, *SIZES]).cumsum(0)
    return torch.randn(len(index), *shape, dtype=dtype), index, ptr


@pytest.mark.parametrize("sorted_rows", [True, False])
class TestBothBackends:
    @pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
    def test_sum_is_the_sum_of_each_segment(self, backend, shape, sorted_rows):
        src, index, ptr = rows(*shape)
        expected = torch.stack([src[a:b].sum(0) for a, b in pairwise(ptr)])
        src, index, ptr = shuffled(src, index, ptr, sorted_rows)
        torch.testing.assert_close(segment_sum(src, index, len(SIZES), ptr), expected)

    def test_softmax_is_the_softmax_of_each_segment(self, backend, sorted_rows):
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

    def test_no_rows(self, backend, sorted_rows):
        ptr = torch.zeros(4, dtype=torch.long) if sorted_rows else None
        src, index = torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)
        assert segment_softmax(src, index, 3, ptr).shape == (0, 2)
        assert segment_sum(src, index, 3, ptr).tolist() == [[0, 0]] * 3


def shuffled(src, index, ptr, keep):
    if keep:
        return src, index, ptr
    order = torch.randperm(len(index))
    return src[order], index[order], None
