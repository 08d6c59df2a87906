import os
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from benchmark import contenders, models
from benchmark.contenders import Contender
from benchmark.limit import multiply_adds
from benchmark.models import LIMIT, Remote, Runner, peak_memory, shuffled_jets, target_notes
from benchmark.rivals import PaddedIAFormer, padded_inputs
from iagraph.data import JetDataset
from iagraph.models import GatedIAFormer, IAFormer, ParticleNet, ParticleTransformer
from iagraph.testing import random_jets
from iagraph.train.config import load_config
from iagraph.train.folder import build_model

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Tiny networks, and no new processes."""
    part = {"width": 6, "heads": 3, "blocks": 1, "class_blocks": 1, "particle_hidden": (5,), "pair_hidden": (7,)}
    net = {"channels": ((5, 7),), "neighbors": 3, "head_hidden": 11}
    own = {
        "iaformer": partial(IAFormer, "kinpid", "iaformer", 2, 6, 2, 3, (5,), (7,), 11),
        "lite": partial(GatedIAFormer, "kinpid", width=6, heads=3, blocks=1, particle_hidden=(5,), pair_hidden=(7,)),
        "particle_transformer": partial(ParticleTransformer, "kinpid", **part),
        "particle_net": partial(ParticleNet, "kinpid", **net),
    }
    for name, make in own.items():
        monkeypatch.setattr(contenders, name, partial(_seeded, make))
    weaver_part = {"embed_dims": [5, 6], "pair_embed_dims": [7], "num_heads": 3, "num_layers": 1, "num_cls_layers": 1}
    weaver_net = {"conv_params": [(3, (5, 7))], "fc_params": [(11, 0.1)]}
    for name, changes in (("WeaverParticleTransformer", weaver_part), ("WeaverParticleNet", weaver_net)):
        monkeypatch.setattr(contenders, name, partial(getattr(contenders, name), **changes))
    monkeypatch.setattr(models, "iaformer", contenders.iaformer)
    monkeypatch.setattr(models, "PRODUCT", 64)
    monkeypatch.setattr(models, "IN_A_ROW", 0.0)
    monkeypatch.setattr(models, "in_new_process", lambda function, *arguments: (7.0, 1.0))
    monkeypatch.setattr(models, "Remote", Runner)


def _seeded(make):
    torch.manual_seed(0)
    return make()


def test_contenders_agree_on_the_same_jets():
    report = models.benchmark_models(batches=3, batch_size=5)
    rows = {row["implementation"]: row for row in report.rows}
    assert list(rows) == [*contenders.CONTENDERS, LIMIT]
    for name, row in rows.items():
        own = rows[f"{name.partition(',')[0]}, iagraph"]
        assert row["rounds"] == 3
        for mode in models.MODES:
            if row is not own:
                assert row[f"iagraph / it, {mode}"] > 0
            if name != LIMIT:
                assert row[f"{mode} peak [MB]"] == 7
        if row is not own and name != LIMIT:  # pair masses of weaver are rounding in float32
            assert row["logits differ by"] < (1e-1 if name == "ParT, weaver" else 1e-5)
    assert sum("target, " in note for note in report.notes) == len(models.TARGETS) + 1
    assert "20 jets of the sample" in report.markdown()


def test_contender_in_its_own_process_gives_the_same_logits(monkeypatch):
    monkeypatch.undo()  # the new process does not have the small networks
    batch, name = JetDataset(shuffled_jets(3))[:], "IAFormer, iagraph"
    remote = Remote(name, "cpu")
    torch.testing.assert_close(remote.logits(batch), Runner(name, "cpu").logits(batch))
    assert remote.seconds("inference", batch) > 0


def test_ratios_use_rounds_of_both_contenders():
    seconds = {("ours", "training"): [1.0, 2.0, 9.0, 9.0], ("slow", "training"): [30.0, 80.0]}
    assert models.ratio(seconds, "ours", "slow", "training") == 35


def test_slow_contenders_run_only_in_the_first_rounds(monkeypatch):
    monkeypatch.setattr(models, "SLOW_STEP", 0.0)
    rows = models.benchmark_models(batches=3, batch_size=5).rows
    assert [row["rounds"] for row in rows] == [2] * len(contenders.CONTENDERS) + [3]


@pytest.mark.parametrize("name", contenders.CONTENDERS)
def test_training_changes_weights_and_inference_does_not(name):
    runner, batch = Runner(name, "cpu"), JetDataset(shuffled_jets(7))[:]

    def state():
        return [parameter.clone() for parameter in runner.model.parameters()]

    before = state()
    runner.ready("inference", batch)()
    assert not runner.model.training
    assert all(map(torch.equal, state(), before))
    runner.ready("training", batch)()
    assert runner.model.training
    assert not all(map(torch.equal, state(), before))


def test_shuffled_jets_are_the_sample_in_a_fixed_order():
    jets = shuffled_jets(18_000)
    assert np.array_equal(jets.label[:500], shuffled_jets(500).label)
    assert len(np.unique(jets.digests())) == 18_000
    assert jets.counts.max() == contenders.SLOTS  # one has more, and keeps its hardest


class Hungry(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, jets):
        return torch.ones(50_000_000)[:1] * self.weight.expand(len(jets), 2)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system cannot reset the peak memory of a process"
)
def test_peak_memory_includes_only_the_steps(monkeypatch):
    monkeypatch.setitem(contenders.CONTENDERS, "hungry", lambda: Contender(Hungry(), lambda jets: (jets,)))
    assert 195 < peak_memory("hungry", "inference", shuffled_jets(7), "cpu") < 220


class TestMultiplyAdds:
    model = IAFormer("kinpid", "iaformer", 3, 10, 2, 5, (7, 11), (17, 13), 19)

    def test_by_hand(self):
        per_pair = 7 * 17 + 17 * 13 + 13 * 19 + 19 * 2 * 2 * 5
        per_particle = 13 * 7 + 7 * 11 + 11 * 10 + 2 * (10 * 10 + 10 * 10 + 10 * 40 + 40 * 10)
        pairs, particles, edges = 3 + 28, 2 + 7, 4 + 49
        inference = pairs * per_pair + particles * per_particle + edges * 2 * 10 + 2 * 10 * 3
        training = 3 * inference - pairs * 7 * 17 - particles * 13 * 7
        assert multiply_adds(self.model, random_jets([2, 7])) == (training, inference)

    def test_agree_with_pytorch_flop_counter(self):
        jets = random_jets([1] * 5)  # no padding, and each pair once
        inputs, rival = padded_inputs(self.model, jets, 1), PaddedIAFormer(self.model)
        counted = []
        for backward in (True, False):
            with FlopCounterMode(display=False) as counter:
                loss = cross_entropy(rival(*inputs), jets.y)
                if backward:
                    loss.backward()
            counted.append(counter.get_total_flops() // 2)
        assert multiply_adds(self.model, jets) == tuple(counted)


def test_target_notes_compare_measured_ratios_with_targets():
    names = {name for target in models.TARGETS for name in target[:2]}
    seconds = {(name, mode): [1.0] for name in names for mode in models.MODES}
    seconds |= {("IAFormer, reference layout", "training"): [30.3], ("IAFormer, reference layout", "inference"): [38.5]}
    seconds |= {(LIMIT, "training"): [0.3], (LIMIT, "inference"): [0.385]}
    memory = {("IAFormer, iagraph", mode): 90.0 for mode in models.MODES}
    memory |= {("IAFormer, reference layout", "training"): 1000.0, ("IAFormer, reference layout", "inference"): 880.0}
    lines = target_notes(seconds, memory)
    assert lines[0].endswith("training 30.3x (at least 30x: reached), inference 38.5x (at least 40x: missed)")
    assert lines[3].endswith("training 30% (at least 30%: reached), inference 38.5% (at least 40%: missed)")
    assert lines[-1].endswith("training 9% (at most 10%: reached), inference 10.2% (at most 10%: missed)")


def test_lite_contender_equals_its_recipe(monkeypatch):
    monkeypatch.undo()
    config = load_config(SCRIPT.parents[1] / "configs" / "qg_lite.yaml")
    recipe, contender = build_model(config, ("gluon", "quark")), contenders.lite()
    assert repr(contender) == repr(recipe)
    assert contender.pair_inputs.gate.budget == recipe.pair_inputs.gate.budget
    for name in ("node_features", "pair_features"):
        assert getattr(contender, name) == getattr(recipe, name)


class TestScript:
    @pytest.fixture
    def run(self, monkeypatch):
        def start(*arguments):
            monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
            runpy.run_path(str(SCRIPT), run_name="__main__")

        return start

    def test_prints_the_table(self, run, capsys, tmp_path):
        run("--json", str(tmp_path / "speed.json"), "models", "--batches", "1", "--batch-size", "3")
        assert "| IAFormer, reference layout |" in capsys.readouterr().out
        assert (tmp_path / "speed.json").is_file()

    def test_without_weaver(self, run, monkeypatch):
        monkeypatch.setitem(sys.modules, "weaver.nn.model.ParticleTransformer", None)
        with pytest.raises(
            SystemExit, match=r"error: comparing with weaver-core needs .*pip install 'iagraph\[test\]'"
        ):
            run("models")

    def test_no_batches(self, run, capsys):
        with pytest.raises(SystemExit, match="2"):
            run("models", "--batches", "0")
        assert "argument --batches: should be 1 or more, found 0" in capsys.readouterr().err

    def test_unknown_device(self, run):
        with pytest.raises(SystemExit, match="error: device abacus: should be cpu, or cuda on a machine"):
            run("models", "--device", "abacus")
