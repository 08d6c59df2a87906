"""The examples show their point: layers with edge features solve what others cannot."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(name, **settings):
    return {layer: min(values) for layer, values in runpy.run_path(str(EXAMPLES / name))["main"](**settings).items()}


def test_all_examples_are_tested():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "node_classification.py",
        "graph_regression.py",
        "bipartite.py",
        "jets_by_pyg.py",
    }


def test_node_classification(capsys):
    found = run("node_classification.py", seeds=1, epochs=30)
    blind = max(
        found["no edges"], found["attention, edge features unused"], found["differential, edge features unused"]
    )
    assert min(found["differential from edge features"], found["differential from both"]) > blind + 0.1
    assert found["no edges"] > 0.4  # random guesses reach 0.25
    assert "differential from both" in capsys.readouterr().out


@pytest.mark.slow
def test_graph_regression():
    found = run("graph_regression.py", seeds=1)
    seeing = [found["attention from lengths"], found["differential from lengths"], found["differential from both"]]
    assert max(seeing) < found["attention, lengths unused"] - 0.05
    assert found["attention, lengths unused"] < found["no bonds"] - 0.05 < 0.95
    assert found["whole network of IAFormer"] < found["attention, lengths unused"] - 0.05


def test_jets_by_pyg():
    found = run("jets_by_pyg.py", jets=600, epochs=2)
    assert found["few particles"] > 0.75  # quark jets have fewer
    assert found["IAFormer"] > 0.7


def test_bipartite():
    found = run("bipartite.py", seeds=1, epochs=100)
    seeing = [found["attention from distances"], found["differential from distances"], found["differential from both"]]
    assert min(seeing) > found["attention, distances unused"] + 0.05
    assert found["attention, distances unused"] > found["no tracks"] + 0.03
