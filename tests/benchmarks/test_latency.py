import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from needs_onnx import needs_onnx

from benchmark import contenders, latency
from iagraph.models import GatedIAFormer, IAFormer, ParticleNet, ParticleTransformer

pytestmark = needs_onnx

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def seeded(make):
    torch.manual_seed(0)
    return make()


@pytest.fixture
def small(monkeypatch):
    part = {"width": 6, "heads": 3, "blocks": 1, "class_blocks": 1, "particle_hidden": (5,), "pair_hidden": (7,)}
    own = {
        "iaformer": partial(IAFormer, "kinpid", "iaformer", 2, 6, 1, 3, (5,), (7,), 11),
        "lite": partial(GatedIAFormer, "kinpid", width=6, heads=3, blocks=1, particle_hidden=(5,), pair_hidden=(7,)),
        "particle_transformer": partial(ParticleTransformer, "kinpid", **part),
        "particle_net": partial(ParticleNet, "kinpid", channels=((5, 7),), neighbors=3, head_hidden=11),
    }
    for name, make in own.items():
        monkeypatch.setattr(contenders, name, partial(seeded, make))
    weaver_part = {"embed_dims": [5, 6], "pair_embed_dims": [7], "num_heads": 3, "num_layers": 1, "num_cls_layers": 1}
    weaver_net = {"conv_params": [(3, (5, 7))], "fc_params": [(11, 0.1)]}
    for name, changes in (("WeaverParticleTransformer", weaver_part), ("WeaverParticleNet", weaver_net)):
        monkeypatch.setattr(contenders, name, partial(getattr(contenders, name), **changes))


@pytest.mark.slow
def test_exported_networks_agree_with_pytorch(small):
    report = latency.benchmark_latency(rounds=1, sizes=(1, 3), threads=(1,))
    rows = {(row["network"], row["computed by"]): row for row in report.rows}
    assert len(rows) == 2 * 6
    for (name, where), row in rows.items():
        assert row["ms/jet, batches of 1"] > 0
        assert row["ms/jet, batches of 3"] > 0
        # weaver's pair masses of collinear particles are mere rounding, which depends on the batch.
        assert row["differs, one by one"] < (1e-1 if name == "ParT, weaver" else 1e-5)
        if (name, where) != ("ParT, weaver", "onnxruntime"):  # NaN where there is padding
            assert row["differs, padded"] < (1e-1 if name == "ParT, weaver" else 1e-5)
    assert sum("speed of " in note for note in report.notes) == len(latency.COMPARED)
    assert "| ParticleNet, weaver | onnxruntime | 1 |" in report.markdown()


def test_ratios_are_speed_ups_over_weaver():
    names = {name for pair in latency.COMPARED for name in pair}
    rows = [
        {"network": name, "computed by": "onnxruntime", "threads": 2, "ms/jet, batches of 8": 3.0} for name in names
    ]
    for row in rows:
        if row["network"].endswith("weaver"):
            row["ms/jet, batches of 8"] = 7.5
    lines = list(latency._ratios(rows, [8]))
    assert len(lines) == len(latency.COMPARED)
    assert all(line.endswith("2 thread(s): 2.5x") for line in lines)


def test_without_onnxruntime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "latency"])
    with pytest.raises(
        SystemExit, match=r"error: running exported models needs onnxruntime: pip install 'iagraph\[export\]'"
    ):
        runpy.run_path(str(SCRIPT), run_name="__main__")
