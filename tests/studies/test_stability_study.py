import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from toy_runs import settings

from iagraph.interpret.perturbations import drop_soft
from iagraph.studies.runs import Plan, open_run
from iagraph.studies.stability.measure import KINDS, grouped, logits_of, responses
from iagraph.studies.stability.study import study
from iagraph.testing import random_jets
from iagraph.train.folder import RunError
from iagraph.train.run import train_into

NET = "model={name: particlenet, channels: [[3]], neighbors: 2, head_hidden: 3, dropout: 0.1}"


@pytest.fixture(scope="module")
def net_run(store, tmp_path_factory):
    """Folder of a finished run of a small ParticleNet, which has no attention."""
    folder = tmp_path_factory.mktemp("net") / "net"
    train_into(folder, settings(store, folder.parent, "data.pair_features=null", NET, "train.epochs=1"))
    return folder


@pytest.fixture(scope="module")
def again_run(store, tmp_path_factory):
    """As toy_run, with another seed and name."""
    folder = tmp_path_factory.mktemp("again") / "again"
    train_into(folder, settings(store, folder.parent, "model.blocks=2", "seed=2", "name=other"))
    return folder


class Multiplicity(nn.Module):
    """A model that knows only the number of particles."""

    def forward(self, jets):
        count = jets.ptr.diff().float()
        return torch.stack([torch.zeros_like(count), 11.3 - count], 1)


def test_unseen_changes_have_no_effect(toy_run):
    run = replace(open_run(toy_run, 60), model=Multiplicity())
    before = logits_of(run)
    assert len(before) == 60
    for found in responses(run, before, KINDS[:2]):
        assert found[2:] == ((0, 0),) * 4
    lost = responses(run, before, KINDS[2:])
    assert [(each.kind, each.size) for each in lost] == [(kind.name, size) for kind in KINDS[2:] for size in kind.sizes]
    for weak, strong in ((0, 2), (3, 5)):
        assert 0 < lost[weak].variation.value < lost[strong].variation.value


def test_only_random_changes_have_seeds():
    jets = random_jets([5, 7], 1)
    changed = [change(jets).momenta.pt for change in KINDS[0].changes(0.1)]
    assert len({tuple(pt.tolist()) for pt in changed}) == 3
    again = [change(jets).momenta.pt for change in KINDS[0].changes(0.1)]
    assert all(map(torch.equal, changed, again))
    (soft,) = KINDS[3].changes(2.0)
    assert soft(jets).momenta.pt.equal(drop_soft(jets, 2.0).momenta.pt)


def test_groups_differ_only_by_seed_name_and_output(toy_run, again_run, net_run):
    named = (("a", toy_run), ("b", net_run), ("c", again_run))
    found = grouped([open_run(path, 50, needs_attention=False, name=name) for name, path in named])
    assert [group.runs for group in found] == [[0, 2], [1]]
    assert [group.name for group in found] == ["qg (a)", "qg (b)"]
    assert [group.training_jets for group in found] == [300, 300]


def test_training_jets_are_those_of_the_run(toy_run, store, tmp_path):
    """Neither those of its files that were left out, nor those that its initial weights have seen."""
    tune = ["model.blocks=2", f"fine_tune.weights={toy_run}", "fine_tune.new_head=false"]
    tuned = settings(store, tmp_path, "data.max_jets=80", *tune)
    train_into(tmp_path / "tuned", tuned)
    for recorded in (True, False):
        about = json.loads((tmp_path / "tuned" / "model.json").read_text())
        if not recorded:  # as in earlier versions
            del about["training_jets"]
            about["trained_on"].append(["another file", 0, 1000])
            (tmp_path / "tuned" / "model.json").write_text(json.dumps(about))
        (group,) = grouped([open_run(tmp_path / "tuned", 50)])
        assert group.training_jets == 80


def test_the_study_of_groups(toy_run, again_run, net_run, tmp_path):
    folder = study(Plan([toy_run, again_run, net_run], tmp_path / "stability", 90, "typed"))
    names = {"spread.csv", "runs.csv", "response.csv", "spread.png", "response.png"}
    assert names < {path.name for path in folder.iterdir()}
    report = json.loads((folder / "report.json").read_text())
    (row,) = report["tables"]["spread"]
    assert row["runs"] == 2
    logits = np.stack([logits_of(open_run(path, 90)) for path in (toy_run, again_run)])
    assert row["flips"]["value"] == pytest.approx(np.mean(logits[0].argmax(1) != logits[1].argmax(1)))
    assert [each["run"] for each in report["tables"]["runs"]] == ["toy", "again", "net"]
    sizes = sum(len(kind.sizes) for kind in KINDS)
    assert len(report["tables"]["response"]) == 2 * sizes
    assert [len(each) for each in report["numbers"]["responses"].values()] == [sizes] * 3
    assert any("needs several runs" in note and "qg (net)" in note for note in report["notes"])


def test_single_run(net_run, tmp_path):
    folder = study(Plan([net_run], tmp_path / "stability", 40))
    assert {path.suffix for path in folder.glob("spread*")} == set()
    assert "needs several runs of a configuration: qg" in (folder / "table.md").read_text()
    with pytest.raises(RunError, match="given twice"):
        study(Plan([net_run, net_run], tmp_path / "more", 40))
