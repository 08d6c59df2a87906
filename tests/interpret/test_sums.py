import pytest
import torch

from iagraph.estimates import ratio
from iagraph.interpret.sums import JetSums, added, histogram, of_layer, stacked


def test_histogram_by_hand():
    edges = torch.tensor([0.0, 1.0, 10.0, torch.inf], dtype=torch.float64)
    values = torch.tensor([[-5.0, 0.0, 0.999], [1.0, 10.0, torch.inf]])
    assert histogram(values, edges).tolist() == [3, 1, 2]
    assert histogram(values, edges, torch.tensor([[1.0, 2, 3], [4, 5, 6]])).tolist() == [6, 4, 11]
    assert histogram(torch.zeros(0), edges).tolist() == [0, 0, 0]
    assert histogram(torch.tensor([1.0]), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).tolist() == [0, 1]


def layer(start, jets):
    values = torch.arange(start, start + jets)
    return of_layer({"a": values, "b": values + 1}, {"h": torch.tensor([jets, 2 * jets])})


def test_layers_are_columns_and_batches_rows():
    batches = [stacked([layer(1, 2), layer(5, 2)]), stacked([layer(3, 3), layer(7, 3)])]
    batches = [part.merged(JetSums(jets={"c": torch.ones(len(part.layers["a"]))})) for part in batches]
    found = added(iter(batches))
    assert found.layers["a"].tolist() == [[1, 5], [2, 6], [3, 7], [4, 8], [5, 9]]
    assert found.histograms["h"].tolist() == [[5, 10], [5, 10]]
    assert found.jets["c"].tolist() == [1] * 5
    a = found.layers["a"]
    assert found.ratio("a", "b", 1) == ratio(a[:, 1], a[:, 1] + 1)
    assert found.ratio("a", "b").value == pytest.approx(50 / 60)
    some = torch.tensor([True, False, True, False, False])
    assert found.ratio("a", "b", 0, some) == ratio(a[some, 0], a[some, 0] + 1)
