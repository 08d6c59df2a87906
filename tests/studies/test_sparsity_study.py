import json
import sys
from dataclasses import replace

import pytest
import torch
from toy_runs import RECIPE

from iagraph.interpret.zeroing import zero_pairs
from iagraph.metrics import accuracy, auc_difference
from iagraph.studies.runs import Plan, open_run
from iagraph.studies.sparsity.measure import AS_TRAINED, of_run
from iagraph.studies.sparsity.study import study
from iagraph.train.config import load_config
from iagraph.train.folder import RunError, read_history
from iagraph.train.run import train_into

TINY = ["model.width=6", "model.heads=3", "model.blocks=2", "model.class_blocks=1", "model.particle_hidden=[7]"]


@pytest.fixture(scope="module")
def part_run(store, tmp_path_factory):
    """Folder of a finished run of a small ParT."""
    folder = tmp_path_factory.mktemp("run") / "part"
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    more = ["model.pair_hidden=[5]", "train.epochs=3", "train.keep_every=1", "train.device=cpu"]
    train_into(folder, load_config(RECIPE.with_name("qg_part.yaml"), [*files, *TINY, *more]))
    return folder


@pytest.fixture(scope="module")
def found(part_run):
    return of_run(open_run(part_run, 70))


def test_a_report_of_two_models(part_run, toy_run, tmp_path):
    pytest.importorskip("fastjet")
    folder = study(Plan([part_run, toy_run], tmp_path / "sparsity", 30, "a command"))
    files = {path.name for path in folder.iterdir()}
    figures = {
        "comparison",
        "weights-1",
        "distances-1",
        "scores-1",
        "subjets-1",
        "epochs-1",
        "weights-2",
        "distances-2",
        "maps-2",
    }
    assert {name[:-4] for name in files if name.endswith(".png")} == figures | {"subjets-2"}
    tables = {"summary", "layers", "zeroed", "runs", "ratios", "distances", "subjets", "leptons", "epochs"}
    assert {name[:-4] for name in files if name.endswith(".csv")} == tables
    report = json.loads((folder / "report.json").read_text())
    rows = report["tables"]
    assert [row["run"] for row in rows["summary"]] == ["part", "toy"]
    assert [(row["run"], row["epoch"]) for row in rows["epochs"]] == [("part", 1), ("part", 2), ("part", 3)]
    assert [row["scores"] for row in rows["zeroed"]] == [
        "as trained", "U = 0", "A = 0", "even attention", "as trained", "beta = 0", "even attention",
    ]  # fmt: skip
    for row in rows["ratios"]:
        assert sum(value for value in row.values() if isinstance(value, float)) == pytest.approx(1)
    (beside,), trained = rows["runs"], {row["run"]: row for row in rows["zeroed"] if row["scores"] == "as trained"}
    for key in ("accuracy", "AUC"):
        of_part, of_toy = (trained[name][key]["value"] for name in ("part", "toy"))
        assert beside[key]["value"] == of_toy
        assert beside[f"difference of {key}"]["value"] == pytest.approx(of_toy - of_part)
    assert all(row["subjets"] == 2 for row in rows["subjets"])
    assert any("arXiv 2512.00210" in note for note in report["notes"])
    assert any(note.startswith("toy: ") and "pairs" in note for note in report["notes"])
    assert not any(note.startswith("part: ") and "pairs" in note for note in report["notes"])


def test_weights_of_the_best_epoch_are_those_of_the_run(part_run, found):
    best = min(read_history(part_run), key=lambda epoch: epoch["val_loss"])["epoch"]
    assert list(found.epochs) == [1, 2, 3]
    for epoch, of_epoch in found.epochs.items():
        for name, variant in of_epoch.variants.items():
            assert variant.logits.equal(found.variants[name].logits) == (epoch == best)
        assert of_epoch.found.layers["row"].equal(found.found.layers["row"])
    assert found.epochs[best].found.layers["neighbours"].equal(found.found.layers["neighbours"])


def test_damaged_weights_of_an_epoch_are_named(part_run, tmp_path):
    run = open_run(part_run, 5)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch-7.pt").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"epoch-7\.pt: cannot be used .* delete it"):
        replace(run, path=tmp_path).at_epoch(7)


def test_even_attention_is_even(found):
    sums = found.variants["even attention"].found
    assert sums.ratio("relative", "row").value == pytest.approx(1)
    assert sums.ratio("non_binary", "row").value > sums.ratio("self", "row").value


def test_zeroed_numbers_equal_those_of_the_changed_model(found):
    logits = []
    with torch.inference_mode(), zero_pairs(found.run.model):
        for jets in found.run.batches:
            logits.append(found.run.model(jets))
    mine = torch.cat(logits)
    torch.testing.assert_close(found.variants["U = 0"].logits, mine)
    value, difference = found.accuracy("U = 0")
    labels, trained = found.labels.numpy(), found.variants[AS_TRAINED].logits
    assert value == accuracy(labels, mine.numpy())
    assert difference.value == pytest.approx(value.value - accuracy(labels, trained.numpy()).value)
    signal = found.run.run.classes.index("quark")
    assert found.auc("U = 0")[1] == auc_difference(labels, found.variants["U = 0"].logits.numpy(), trained, signal)
    assert found.accuracy(AS_TRAINED)[1] == (0, 0)


def test_untrained_weights_are_reproducible(found):
    state = torch.random.get_rng_state()
    one, other = found.run.untrained().state_dict(), found.run.untrained().state_dict()
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert torch.random.get_rng_state().equal(state)
    trained = found.run.model.state_dict()
    assert one.keys() == trained.keys()
    assert not one["blocks.0.conv.lin_query.weight"].equal(trained["blocks.0.conv.lin_query.weight"])


def test_without_fastjet(toy_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjet", None)
    folder = study(Plan([toy_run], tmp_path / "sparsity", 20))
    assert not (folder / "subjets.csv").exists()
    assert (folder / "weights.png").exists()
    assert "subjets need FastJet" in (folder / "table.md").read_text()


def test_runs_with_different_jets_are_not_compared(found):
    batches = found.run.batches
    assert found.has_jets_of(replace(found, run=replace(found.run, batches=batches)))
    softer = replace(batches[0], momenta=batches[0].momenta._replace(pt=batches[0].momenta.pt / 2))
    assert not found.has_jets_of(replace(found, run=replace(found.run, batches=[softer, *batches[1:]])))
    others = [replace(batch, y=1 - batch.y) for batch in batches]
    assert not found.has_jets_of(replace(found, run=replace(found.run, batches=others)))
