import csv
import json
import re
import shutil
import signal
from importlib.metadata import version
from multiprocessing import Pipe, active_children

import numpy as np
import pytest
import torch
from filelock import FileLock
from lightning.pytorch.utilities.exceptions import SIGTERMException
from studies import stand_ins
from studies.conftest import snapshot, write_comparison
from toy_runs import toy_jets, weights

from iagraph.data import write_store
from iagraph.metrics import Estimate, auc_difference
from iagraph.studies.compare import measure
from iagraph.studies.compare.config import load_comparison
from iagraph.studies.compare.study import RESULTS, compare
from iagraph.studies.training import _train as train_in_process
from iagraph.train.folder import RunError, load_run
from iagraph.train.module import Tagger
from iagraph.train.run import train_into
from iagraph.train.trainer import USER_ERRORS


@pytest.fixture
def study(trained, store, tmp_path):
    """File of a comparison in a new folder with its four finished runs."""
    shutil.copytree(trained / "studies", tmp_path / "studies")
    return write_comparison(tmp_path, store)


def test_tables_hold_what_the_runs_recorded(study):
    comparison = load_comparison(study)
    before = snapshot(comparison.folder)
    folder = compare(comparison, command="iagraph study compare toy")
    assert before.items() <= snapshot(folder).items()
    assert {path.name for path in folder.iterdir()} >= {*RESULTS}
    with (folder / "table.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    with (folder / "runs.csv").open() as file:
        runs = {(row["model"], int(row["seed"])): row for row in csv.DictReader(file)}
    assert list(rows) == ["IAFormer", "Q & K"]
    for name, place in (("IAFormer", "iaformer"), ("Q & K", "q-k")):
        found = [json.loads((folder / place / f"seed-{seed}" / "metrics.json").read_text()) for seed in (1, 2)]
        for key in ("accuracy", "auc", "rejection_at_0.5", "rejection_at_0.3"):
            values = [metrics["tagger"][key]["value"] for metrics in found]
            assert float(rows[name][key]) == pytest.approx(sum(values) / 2, rel=1e-12)
            assert float(rows[name][f"{key}_spread"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5, rel=1e-9)
            assert [float(runs[name, seed][key]) for seed in (1, 2)] == values
            errors = [metrics["tagger"][key]["error"] for metrics in found]
            assert [float(runs[name, seed][f"{key}_error"]) for seed in (1, 2)] == errors
        parameters = sum(weight.numel() for weight in load_run(folder / place / "seed-1").model.parameters())
        assert int(rows[name]["parameters"]) == parameters
        assert float(rows[name]["flops_per_jet"]) == found[0]["cost"]["flops_per_jet"]
        assert float(rows[name]["seconds_per_jet"]) > 0
    text = (folder / "table.md").read_text()
    assert re.search(r"\b300 .*\b120 .*: quark\n", text)
    assert "`iagraph study compare toy`" in text
    report = json.loads((folder / "report.json").read_text())
    description = json.loads((folder / "iaformer" / "seed-1" / "model.json").read_text())
    assert report["jets"]["fingerprints"] == description["data"]
    assert report["notes"] == [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    multiplicity = json.loads((folder / "q-k" / "seed-1" / "metrics.json").read_text())["multiplicity"]["auc"]
    assert re.search(rf"- multiplicity .*{re.escape(str(Estimate(**multiplicity)))}", text)
    assert report["recipes"]["Q & K"]["model"]["name"] == "plain_transformer"
    assert report["machine"]["torch"] == description["versions"]["torch"] == version("torch")


def test_differences_are_paired_by_jet_and_seed(study):
    folder = compare(load_comparison(study, ["reference=Q & K"]))
    with (folder / "runs.csv").open() as file:
        rows = {(row["model"], row["seed"]): row for row in csv.DictReader(file)}
    for seed in "12":
        arrays = [np.load(folder / name / f"seed-{seed}" / "predictions.npz") for name in ("iaformer", "q-k")]
        assert np.array_equal(*(array["label"] for array in arrays))
        expected = auc_difference(arrays[0]["label"], *(array["logits"] for array in arrays), signal=1)
        found = rows["IAFormer", seed]
        assert float(found["auc_minus_reference"]) == pytest.approx(expected.value, abs=1e-15)
        assert float(found["auc_minus_reference_error"]) == pytest.approx(expected.error)
        assert float(rows["Q & K", seed]["auc_minus_reference"]) == 0
    assert json.loads((folder / "report.json").read_text())["reference"] == "Q & K"


@pytest.mark.parametrize("signal", ["quark", "null"])  # of two classes, the mean of both AUCs is the same
def test_differences_are_weighted(trained, store, tmp_path, signal):
    shutil.copytree(trained / "studies", tmp_path / "studies")
    overrides = ["data.weights=true", f"data.signal={signal}"]
    plan = load_comparison(write_comparison(tmp_path, store, overrides=overrides), ["reference=Q & K"])
    weight, aucs = np.random.default_rng(3).integers(1, 5, 120), []
    for planned in plan.runs[:2]:
        arrays = dict(np.load(planned.folder / "predictions.npz"))
        np.savez(planned.folder / "predictions.npz", **arrays, weight=weight)
        score, quark = arrays["logits"][:, 1].astype(float) - arrays["logits"][:, 0], arrays["label"] == 1
        above = np.sign(score[quark, None] - score[~quark]) / 2 + 0.5
        aucs.append(weight[quark] @ above @ weight[~quark] / (weight[quark].sum() * weight[~quark].sum()))
    found, reference = measure.with_changes(measure.read_results(plan.runs[:2]), plan)
    assert found.change.value == pytest.approx(aucs[0] - aucs[1], rel=1e-12)
    assert reference.change == (0, 0)
    logits = [np.load(planned.folder / "predictions.npz")["logits"] for planned in plan.runs[:2]]
    expected = auc_difference(arrays["label"], *logits, weights=weight)
    assert found.change.error == pytest.approx(expected.error, rel=1e-12)
    with pytest.raises(RunError, match=r"seed-2/predictions\.npz: missing or damaged .*weight"):
        measure.with_changes(measure.read_results(plan.runs), plan)


def test_damaged_predictions_are_named(study):
    comparison = load_comparison(study, ["reference=Q & K"])
    file = comparison.folder / "q-k" / "seed-2" / "predictions.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"seed-2/predictions\.npz: missing or damaged .* delete the folder"):
        compare(comparison)


def test_failing_runs_are_named_and_others_are_finished(study, store, tmp_path, capsys, monkeypatch):
    compare(load_comparison(study))
    recipes = dict.fromkeys(("wild", "killed", "IAFormer", "good"), "qg.yaml")
    comparison = load_comparison(write_comparison(tmp_path, store, recipes, seeds=[2]))
    before = snapshot(comparison.folder)
    # Real processes, without the imports of training.
    monkeypatch.setattr("iagraph.studies.training._train", stand_ins.train)
    with pytest.raises(RunError, match=r"^2 of 3 runs failed") as error:
        compare(comparison, jobs=2)
    problems = sorted(str(error.value).splitlines()[1:])
    assert re.match(r"killed, seed 2: .*-9", problems[0])
    assert problems[1] == "wild, seed 2: the loss is nan"
    said = capsys.readouterr().out
    assert "wild, seed 2: failed: the loss is nan (" in said
    assert "IAFormer, seed 2: AUC " in said
    assert "good, seed 2: AUC 0.7500 (" in said
    after = snapshot(comparison.folder)
    assert after.keys() - before.keys() == {comparison.folder / "good" / "seed-2"}
    assert before.items() <= after.items()
    assert not any((comparison.folder / name).exists() for name in RESULTS)
    assert not active_children()


def test_a_loss_that_is_not_finite_is_reported_by_its_run(write):
    overrides = ["train.learning_rate=1e30", "train.clip=null", "train.warmup=0.0"]
    run = load_comparison(write(overrides=overrides)).runs[0]
    receiver, sender = Pipe(duplex=False)
    train_in_process(run, 1, sender)
    assert receiver.recv().startswith("the loss is ")
    assert not run.folder.exists()


class TestRefused:
    def test_another_configuration(self, study):
        study.write_text(study.read_text().replace("train.epochs=2", "train.epochs=3"))
        comparison = load_comparison(study)
        before = snapshot(comparison.folder)
        message = (
            r"iaformer/seed-1: .* differs .*: train\.epochs was 2, is 3; give the comparison another name, or delete"
        )
        with pytest.raises(RunError, match=message):
            compare(comparison)
        assert snapshot(comparison.folder) == before

    def test_other_jets_in_the_same_files(self, trained, store, tmp_path):
        shutil.copytree(trained / "studies", tmp_path / "studies")
        before = store.read_bytes()
        try:
            write_store(store, toy_jets(500, 2), splits={"train": 300, "val": 80, "test": 120})
            with pytest.raises(RunError, match=r"the jets of data\.train differ; .*data\.test differ"):
                compare(load_comparison(write_comparison(tmp_path, store)))
        finally:
            store.write_bytes(before)

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("data.train=gone.h5", r"gone\.h5: no such file"),
            ("data.signal=top", r"no class 'top' \(data\.signal\)"),
            ("data.max_jets=1", r"data\.max_jets=1\): none of the 1 jets is of the class"),
            ("train.device=mps", "device 'mps': .*; use another one"),
            ("fine_tune.new_head=false\n  - fine_tune.weights=gone.pt", r"gone\.pt"),
        ],
    )
    def test_before_anything_is_written(self, write, tmp_path, monkeypatch, override, message):
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        overrides = [override, "train.device=cpu"] if "device" not in override else [override]
        comparison = load_comparison(write(recipes={"IAFormer": "qg.yaml"}, overrides=overrides))
        with pytest.raises(USER_ERRORS, match=message):
            compare(comparison)
        assert not (tmp_path / "studies").exists()

    def test_a_run_that_started_from_other_weights(self, trained, store, tmp_path):
        weights = tmp_path / "weights.pt"
        shutil.copy(trained / "studies/toy/iaformer/seed-1/model.pt", weights)
        tune = ["train.epochs=1", f"fine_tune.weights={weights}", "fine_tune.new_head=false"]
        path = write_comparison(tmp_path, store, {"IAFormer": "qg.yaml"}, seeds=[1], overrides=tune)
        comparison = load_comparison(path)
        (run,) = comparison.runs
        train_into(run.folder, run.config)
        compare(comparison)
        torch.save({key: 2 * value for key, value in torch.load(weights).items()}, weights)
        with pytest.raises(RunError, match=r"seed-1: .* differs .*: the initial weights .* differ; give"):
            compare(comparison)
        weights.unlink()
        compare(comparison)  # all runs are finished: the weights are not needed
        missing = load_comparison(path, ["seeds=[1, 2]"])
        with pytest.raises(USER_ERRORS, match=r"weights\.pt"):
            compare(missing)
        assert (comparison.folder / "table.md").exists()

    def test_two_commands_at_once(self, study):
        comparison = load_comparison(study)
        with FileLock(comparison.folder / ".lock"), pytest.raises(RunError, match="another process works here"):
            compare(comparison)
        compare(comparison)

    @pytest.mark.parametrize("text", ["{", "[]", "{}", "null", '{"data": [], "tagger": {"auc": 0.5}}'])
    @pytest.mark.parametrize("name", ["metrics.json", "model.json"])
    def test_damaged_runs(self, study, name, text):
        comparison = load_comparison(study)
        (comparison.runs[2].folder / name).write_text(text)
        with pytest.raises(RunError, match=rf"seed-2/{name}: missing or damaged .*; delete the folder of this run"):
            compare(comparison)


@pytest.mark.parametrize("keys", [("jets",), ("cost", "measured_on"), ("tagger", "rejection_at_0.3")])
def test_records_that_lack_a_key(study, keys):
    comparison = load_comparison(study)
    path = comparison.runs[0].folder / "metrics.json"
    metrics = here = json.loads(path.read_text())
    for key in keys[:-1]:
        here = here[key]
    del here[keys[-1]]
    path.write_text(json.dumps(metrics))
    with pytest.raises(RunError, match=rf"seed-1/metrics\.json: .*damaged \(no .*{keys[-1]}.*; delete the folder"):
        compare(comparison)


def test_the_same_jets_in_another_file(study, store, tmp_path):
    shutil.copy(store, tmp_path / "copy.h5")
    text = study.read_text().replace(str(store), str(tmp_path / "copy.h5"))
    study.write_text(text)
    compare(load_comparison(study))


@pytest.mark.parametrize(
    ("recorded", "here", "used"), [("cuda", False, "cpu"), ("mps", True, "mps"), ("", True, "cpu")]
)
def test_times_are_measured_on_the_device_of_the_runs_if_available(study, monkeypatch, recorded, here, used):
    comparison = load_comparison(study)
    for run in comparison.runs:
        path = run.folder / "metrics.json"
        metrics = json.loads(path.read_text())
        metrics["cost"]["measured_on"]["device"] = recorded
        path.write_text(json.dumps(metrics))
    monkeypatch.setattr("torch.cuda.is_available", lambda: here)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: here)
    devices = []

    def seconds(models, batches, device):
        devices.append(device)
        return dict.fromkeys(models, 1.0)

    monkeypatch.setattr(measure, "seconds_per_jet", seconds)
    folder = compare(comparison)
    assert devices == [torch.device(used)]
    assert f"float32, {used}, threads" in (folder / "table.md").read_text()


def test_all_seeds_and_models_train_on_the_same_jets(write, tmp_path):
    comparison = load_comparison(write(overrides=["data.max_jets=64", "train.epochs=1"]))
    runs = comparison.runs[:3]
    for run in runs:
        train_into(run.folder, run.config)
    chosen = [np.load(run.folder / "trained_on.npy") for run in runs]
    assert all(np.array_equal(chosen[0], other) for other in chosen[1:])
    assert 32 < len(chosen[0]) <= 64
    one, other = (weights(run.folder)["head.weight"] for run in runs[::2])
    assert not torch.equal(one, other)


class _Interrupted(Tagger):
    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            raise self.stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SIGTERMException])
def test_an_interrupted_run_does_not_count_as_finished(write, monkeypatch, stop):
    monkeypatch.setattr("iagraph.train.run.Tagger", _Interrupted)
    monkeypatch.setattr(_Interrupted, "stop", stop, raising=False)
    run = load_comparison(write()).runs[0]
    heeded = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(RunError, match=r"interrupted: .*seed-1 holds no finished run"):
            train_into(run.folder, run.config)
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert not (run.folder / "model.pt").exists()
