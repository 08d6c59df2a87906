from dataclasses import replace

import numpy as np
import pytest
from data.test_overview import jets_of

from iagraph.data import StoreError, write_store
from iagraph.data.comparison import Comparison
from iagraph.data.overview import UNWEIGHTED, Overview, overview_of


def overview(multiplicities, label):
    seen = Overview(("a", "b"))
    seen.add(jets_of([[(10.0, 0, 0, 1)] * n for n in multiplicities], label))
    return seen


def test_statistic_by_hand():
    # Cumulative shares at 1, 2, 3, 4 particles: 1/4, 2/4, 3/4, 1 and 0, 0, 1/2, 1: at most 1/2 apart.
    one, other = overview([1, 2, 3, 4], [0] * 4), overview([3, 3, 4, 4], [0] * 4)
    table = Comparison({"x": one, "y": other}).table()
    row = next(line for line in table.splitlines() if "multiplicity" in line).split(" | ")
    assert row[2] == "2.50 +- 0.65"  # sqrt(5/3 / 4)
    assert row[4] == "0.500"
    assert row[5] == "0.77 |"  # 54 of the 70 ways to order 4 and 4 numbers are as far apart: without ties, exactly


def test_ignored_weights_are_named():
    plain, weighted = overview([1, 2], [0, 0]), overview([3, 3], [0, 0])
    assert UNWEIGHTED not in Comparison({"x": plain, "y": plain}).table() + plain.table()
    weighted.add(replace(jets_of([[(10.0, 0, 0, 1)]], [0]), weight=np.ones(1, np.float32)))
    assert UNWEIGHTED in weighted.table()
    assert UNWEIGHTED in Comparison({"x": plain, "y": weighted}).table()


def test_only_common_classes_are_compared():
    one, other = overview([1, 2, 3], [0, 1, 1]), overview([2, 2], [0, 0])
    lines = Comparison({"x": one, "y": other}).table().splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| a", name] for name in ("multiplicity", "pt", "mass")]
    with pytest.raises(StoreError, match="x and y: no class has jets in both; found a, b and a, b"):
        Comparison({"x": overview([1], [0]), "y": overview([1], [1])})


def test_single_jets_have_means_without_errors():
    lines = Comparison({"x": overview([1], [0]), "y": overview([2, 3, 4, 5], [0] * 4)}).table().splitlines()
    assert lines[2] == "| a | multiplicity | 1.00 +- nan | 3.50 +- 0.65 | 1.000 | 0.4 |"  # 2 of 5 places are extreme


def test_sample_does_not_differ_from_itself(tmp_path):
    jets = jets_of([[(10.0, 0, 0, 1)] * n for n in (1, 2, 3, 5)], (0, 1, 0, 1))
    write_store(tmp_path / "jets.h5", jets)
    comparison = Comparison({name: overview_of(tmp_path / "jets.h5") for name in ("x", "y")})
    for line in comparison.table().splitlines()[2:]:
        assert line.endswith("| 0.000 | 1 |")
    assert len(comparison.figure().axes) == 6
