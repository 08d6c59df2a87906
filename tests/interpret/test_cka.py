import math

import pytest
import torch
from torch.testing import assert_close

from iagraph.interpret.cka import LayerSimilarity, linear_cka, unbiased_hsic

ROWS, WIDTH, OTHER = 97, 7, 5


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def views():
    """Related activations of different scales and far from zero."""
    x = draw(ROWS, WIDTH)
    return [x + 3, 11 * (x[:, :OTHER] + draw(ROWS, OTHER, seed=2)) - 40, draw(ROWS, 3, seed=3)]


def gram_cka(x, y):
    """From centred Gram matrices of rows by rows."""
    centre = torch.eye(len(x), dtype=torch.float64) - 1 / len(x)
    k, m = (centre @ each @ each.t() @ centre for each in (x, y))
    return float((k * m).sum() / (k.norm() * m.norm()))


def gram_hsic(x, y):
    """Eq. 5 of Song et al., with matrices of rows by rows."""
    n = len(x)
    k, m = (each @ each.t() for each in (x, y))
    k, m = (each - each.diagonal().diag() for each in (k, m))
    one = torch.ones(n, dtype=torch.float64)
    trace, sums = torch.trace(k @ m), (one @ k @ one) * (one @ m @ one)
    return (trace + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def filled(views, batch):
    similarity = LayerSimilarity([view.size(1) for view in views])
    for part in zip(*(view.split(batch) for view in views), strict=True):
        similarity.add(part)
    return similarity


def test_plain_cka_equals_that_of_gram_matrices(views):
    for x in views:
        for y in views:
            assert linear_cka(x, y) == pytest.approx(gram_cka(x, y), abs=1e-12)


@pytest.mark.parametrize("estimate", [linear_cka, lambda x, y: filled([x, y], 13).unbiased()[0][0, 1]])
def test_cka_is_invariant_under_rotation_scale_and_shift(views, estimate):
    x, y, _ = views
    rotation = torch.linalg.qr(draw(WIDTH, WIDTH, seed=4)).Q
    assert float(estimate(x, x)) == pytest.approx(1, abs=1e-12)
    assert float(estimate(x, -0.3 * x @ rotation + draw(WIDTH, seed=5))) == pytest.approx(1, abs=1e-9)
    assert float(estimate(x @ rotation, 17 * y)) == pytest.approx(float(estimate(x, y)), abs=1e-9)
    stretched = x * torch.linspace(1, 9, WIDTH, dtype=torch.float64)  # no isotropic scale
    assert abs(float(estimate(x, stretched)) - 1) > 0.05


def test_unbiased_hsic_equals_that_of_gram_matrices(views):
    found = unbiased_hsic(views)
    expected = torch.tensor([[gram_hsic(x, y) for y in views] for x in views], dtype=torch.float64)
    assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_unbiased_hsic_of_independent_features_averages_to_zero():
    found = torch.stack([unbiased_hsic([draw(6, 4, seed=s), draw(6, 3, seed=9000 + s)])[0, 1] for s in range(2000)])
    error = found.std() / math.sqrt(len(found))
    assert abs(float(found.mean())) < 3 * error
    biased = torch.tensor([gram_cka(draw(6, 4, seed=s), draw(6, 3, seed=9000 + s)) for s in range(50)])
    assert float(biased.mean()) > 0.3


def test_independent_features_have_no_unbiased_similarity():
    similarity = filled([draw(1000, 64), draw(1000, 61, seed=2)], 50)
    (plain, _), (unbiased, error) = similarity.plain(), similarity.unbiased()
    assert float(plain[0, 1]) > 0.05  # 64 columns for 1000 rows
    assert abs(float(unbiased[0, 1])) < min(0.01, 3 * float(error[0, 1]))


@pytest.mark.parametrize("batch", [1, 13, 96, 97])
def test_batches_give_the_plain_estimate_of_all_rows(views, batch):
    value, _ = filled(views, batch).plain()
    expected = torch.tensor([[gram_cka(x, y) for y in views] for x in views], dtype=torch.float64)
    assert_close(value, expected, rtol=0, atol=1e-10)


def test_minibatches_are_averaged_before_the_quotient(views):
    value, _ = filled(views, 19).unbiased()  # five of 19 rows, and one of two, which counts for the plain one alone
    parts = [view.split(19)[:5] for view in views]
    mean = [[sum(map(gram_hsic, x, y)) / 5 for y in parts] for x in parts]
    for i in range(3):
        for j in range(3):
            expected = mean[i][j] / math.sqrt(mean[i][i] * mean[j][j])
            assert float(value[i, j]) == pytest.approx(float(expected), abs=1e-9)


def test_batches_are_weighted_by_rows(views):
    x, y, _ = views
    similarity = LayerSimilarity([WIDTH, OTHER])
    for rows in (slice(0, 20), slice(20, 97)):
        similarity.add([x[rows], y[rows]])
    hsic = [20 * gram_hsic(a[:20], b[:20]) + 77 * gram_hsic(a[20:], b[20:]) for a, b in ((x, y), (x, x), (y, y))]
    assert float(similarity.unbiased()[0][0, 1]) == pytest.approx(float(hsic[0] / (hsic[1] * hsic[2]).sqrt()), abs=1e-9)


def test_errors_are_jackknife_errors_over_batches(views):
    x, y, _ = views
    similarity = filled([x, y], 14)  # seven batches
    left = []
    for place in range(7):
        kept = torch.ones(ROWS, dtype=torch.bool)
        kept[14 * place : 14 * place + 14] = False
        left.append(gram_cka(x[kept], y[kept]))
    left = torch.tensor(left, dtype=torch.float64)
    expected = (6 / 7 * (left - left.mean()).square().sum()).sqrt()
    assert_close(similarity.plain()[1][0, 1], expected, rtol=1e-6, atol=1e-12)


def test_error_is_the_spread_over_samples():
    values, errors = [], []
    for seed in range(60):
        x = draw(400, 5, seed=seed)
        value, error = filled([x, x[:, :2] + draw(400, 2, seed=1000 + seed)], 20).plain()
        values.append(float(value[0, 1]))
        errors.append(float(error[0, 1]))
    spread = torch.tensor(values).std()
    assert float(torch.tensor(errors).mean()) == pytest.approx(float(spread), rel=0.25)


def test_constant_activations_and_too_few_rows():
    similarity = LayerSimilarity([2, 3])
    similarity.add([draw(0, 2), draw(0, 3)])
    for seed in (1, 2):
        similarity.add([torch.full((5, 2), 0.1), draw(5, 3, seed=seed)])
    for value, error in (similarity.plain(), similarity.unbiased()):
        assert value.isnan().tolist() == [[True, True], [True, False]]
        assert float(value[1, 1]) == 1
        assert float(error[1, 1]) == 0
    few = filled([draw(3, 2), draw(3, 2)], 3)
    assert few.unbiased()[0].isnan().all()
    assert few.plain()[1].isnan().all()  # one batch has no error
