from functools import partial

import pytest

from benchmark import pruning
from iagraph.models import GatedIAFormer, IAFormer


def test_pruned_networks_report_fewer_operations(monkeypatch):
    sizes = {"width": 6, "heads": 3, "blocks": 2, "particle_hidden": (5,), "pair_hidden": (7,), "pair_width": 5}
    monkeypatch.setattr(pruning, "iaformer", partial(IAFormer, "kinpid", **sizes))
    monkeypatch.setattr(pruning, "gated", lambda f: GatedIAFormer("kinpid", gate_fraction=f, **sizes))
    monkeypatch.setattr(pruning, "in_new_process", lambda function, *arguments: (function(*arguments), 0.0))
    monkeypatch.setattr(pruning, "JETS", 5)
    report = pruning.benchmark_pruning(1, (1.0, 0.25))
    dense, whole, quarter = report.rows
    assert dense["edges kept"] == whole["edges kept"] == 1
    assert quarter["edges kept"] == pytest.approx(0.25, abs=0.03)  # and each particle with itself
    assert quarter["MFLOP/jet"] < whole["MFLOP/jet"]
    assert dense["speed-up, inference"] == dense["speed-up, training"] == 1
    assert quarter["speed-up, training"] == dense["training [ms/jet]"] / quarter["training [ms/jet]"]
    assert "| 0.25 |" in report.markdown()


def test_networks_have_the_published_size():
    model, gated = pruning.iaformer(), pruning.gated(0.3)
    for name in ("particle_encoder", "pair_encoder", "blocks", "head"):
        shapes = [{k: v.shape for k, v in getattr(net, name).state_dict().items()} for net in (model, gated)]
        assert shapes[0] == shapes[1]
