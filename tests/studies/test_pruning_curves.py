import csv
import json
import shutil

import numpy as np
import pytest
import torch
from filelock import FileLock
from studies.test_pruning_plan import tiny
from toy_runs import CLASSES, settings, toy_jets, weights

from iagraph.data import JetDataset, write_store
from iagraph.interpret.edges import control
from iagraph.metrics import auc_difference, macro_auc_difference
from iagraph.models import IAFormer
from iagraph.nn.pruning import EdgeBudget, TopK
from iagraph.studies.pruning.measure import classify, measure
from iagraph.studies.pruning.rules import Variant, default_rules, parse_rule, parse_rules, variants
from iagraph.studies.pruning.study import PruningStudy, prune, rules_table
from iagraph.studies.runs import some_batches
from iagraph.testing import random_jets
from iagraph.train.folder import Run, RunError, load_run
from iagraph.train.run import train_into

FILES = {"table.md", "table.csv", "report.json", "figure.png", "figure.pdf", "survivors.png", "survivors.pdf"}
JETS = [random_jets([3, 1, 0], 1), random_jets([5], 2)]  # 9 + 1 + 0 + 25 = 35 edges


@pytest.mark.parametrize(
    ("rule", "choose", "first", "last"),
    [
        (None, None, 35, 35),
        (TopK(k=1), None, 6 + 1 + 10, 6 + 1 + 10),
        (TopK(k=3), None, 9 + 1 + 20, 9 + 1 + 20),
        # 3 and 10 of 6 and 20 edges between different particles, then 2 (1.5 rounded up) and 5 of these
        (EdgeBudget(fraction=0.5), None, 3 + 3 + 1 + 5 + 10, 3 + 2 + 1 + 5 + 5),
        (None, control("random", 0.3), 3 + 2 + 1 + 5 + 6, 3 + 2 + 1 + 5 + 6),
        (None, control("nearest neighbors", 2), 9 + 1 + 15, 9 + 1 + 15),
    ],
)
def test_kept_edges_by_hand(rule, choose, first, last):
    found = classify(Variant("some", 1, tiny(), rule, choose), JETS)
    assert found.kept == pytest.approx((first / 35, last / 35), rel=1e-12)
    assert found.logits.shape == (4, 2)


@pytest.mark.parametrize("choose", [None, control("largest kT", 1.0), control("nearest neighbors", 99)])
def test_no_pruning_equals_the_model(choose):
    model = tiny().eval()
    found = classify(Variant("unpruned", None, model, choose=choose), JETS)
    with torch.no_grad():
        expected = torch.cat([model(jets) for jets in JETS])
    np.testing.assert_allclose(found.logits, expected, rtol=0, atol=1e-5)


def read(folder):
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_study_with_retraining(toy_run, tmp_path, capsys):
    rules, inspected = parse_rules(["top_k=2", "edge_budget=0.5"]), parse_rule("edge_budget=0.4")
    study = PruningStudy(toy_run, tmp_path / "study", rules, inspected, 120, 1, "the command")
    assert prune(study) == tmp_path / "study"
    assert {path.name for path in study.folder.iterdir()} >= FILES | {"retrained"}
    assert "top_k=2, retrained: AUC " in capsys.readouterr().out
    rows = read(study.folder)
    families = ["unpruned", "top_k", "edge_budget", "random", "largest kT", "smallest Delta R", "nearest neighbors"]
    assert [row["family"] for row in rows] == [
        *families,
        *("unpruned, retrained", "top_k, retrained", "edge_budget, retrained"),
    ]
    assert [row["strength"] for row in rows] == ["", "2.0", "0.5", "0.5", "0.5", "0.5", "2.0", "", "2.0", "0.5"]
    # All test jets: without pruning, the model has the numbers recorded by its run, up to rounding of scores.
    recorded = json.loads((toy_run / "metrics.json").read_text())
    for key in ("accuracy", "auc"):
        assert float(rows[0][key]) == pytest.approx(recorded["tagger"][key]["value"], abs=1e-3)
        assert float(rows[0][f"{key}_error"]) == pytest.approx(recorded["tagger"][key]["error"], abs=1e-3)
    assert float(rows[0]["flops_per_jet"]) == recorded["cost"]["flops_per_jet"]
    assert rows[0]["auc_minus_unpruned"] == ""
    assert float(rows[7]["kept_last_layer"]) == 1  # trained on without a rule
    for row in rows[1:]:
        assert float(row["auc_minus_unpruned"]) == pytest.approx(float(row["auc"]) - float(rows[0]["auc"]), abs=1e-12)
        assert float(row["seconds_per_jet"]) > 0
        assert (float(row["kept_first_layer"]) == 1) == (row is rows[7])
    assert (
        rows[1]["kept_first_layer"] == rows[6]["kept_first_layer"] == rows[8]["kept_last_layer"]
    )  # top_k and its like
    assert float(rows[3]["flops_per_jet"]) < 0.8 * float(rows[0]["flops_per_jet"])
    text = (study.folder / "table.md").read_text()
    assert "| top_k=2, retrained | " in text
    assert "| after last layer | " in text
    assert "- `the command`" in text
    report = json.loads((study.folder / "report.json").read_text())
    assert report["command"] == "the command"
    assert report["options"]["rules"] == ["top_k=2", "edge_budget=0.5"]
    kinds = [row["edges"] for row in report["tables"]["survivors"]]
    assert kinds == [
        "all edges",
        "after first layer",
        "after last layer",
    ]
    assert list(report["jets"]["files"]) == report["config"]["data"]["test"]
    assert report["machine"]["torch"] == torch.__version__

    folder = study.folder / "retrained" / "top_k-2-epochs-1"
    assert load_run(folder.with_name("unpruned-epochs-1")).config.model.pruning is None
    config, before = load_run(folder).config, load_run(toy_run).config
    assert config.model.pruning.model_dump() == {"rule": "top_k", "strength": 2}
    assert config.train.learning_rate == pytest.approx(before.train.learning_rate / 10)
    assert (config.train.epochs, config.fine_tune.new_head) == (1, False)
    moved = [(weights(folder)[key] - weight).abs().max() for key, weight in weights(toy_run).items()]
    assert 0 < max(moved) < 0.05
    judged = (folder / "metrics.json").stat().st_mtime_ns
    prune(study)
    assert (folder / "metrics.json").stat().st_mtime_ns == judged
    printed = capsys.readouterr().out
    assert "top_k=2, retrained, seed 1: AUC " in printed
    assert printed.count("(finished before)") == 3
    with FileLock(study.folder / ".lock"), pytest.raises(RunError, match="another process works here"):
        prune(study)


class TestRefusedBeforeAnythingIsWritten:
    def refused(self, run, tmp_path, message, jets=120, epochs=None, rules=None):
        study = PruningStudy(run, tmp_path / "no", rules or default_rules(), parse_rule("top_k=2"), jets, epochs)
        with pytest.raises(RunError, match=message):
            prune(study)
        assert not study.folder.exists()

    def test_no_run(self, tmp_path):
        self.refused(tmp_path, tmp_path, "lacks config.yaml, model.pt")

    def test_too_few_jets(self, toy_run, tmp_path):
        self.refused(toy_run, tmp_path, r"none of the 1 jets is of the class '\w+': use more jets \(--jets\)", jets=1)

    def test_training_with_rules_unknown_to_configurations(self, toy_run, tmp_path):
        message = "all heads, after the softmax: omit --per-head"
        self.refused(toy_run, tmp_path, message, epochs=1, rules=parse_rules(["top_k=2"], per_head=True))
        self.refused(toy_run, tmp_path, message, epochs=1, rules=parse_rules(["top_k=2"], renormalize=True))
        self.refused(toy_run, tmp_path, "threshold=0 drops nothing", epochs=1, rules=parse_rules(["threshold=0"]))

    def test_models_without_rules_in_training(self, store, tmp_path):
        train_into(tmp_path / "run", settings(store, tmp_path, "model.name=pair_transformer", "train.epochs=1"))
        message = "pair_transformer cannot be trained with rules; use a run of iaformer, gated_iaformer, cascaded"
        self.refused(tmp_path / "run", tmp_path, message, epochs=1)

    def test_a_damaged_run(self, toy_run, tmp_path):
        shutil.copytree(toy_run, tmp_path / "run")
        (tmp_path / "run" / "metrics.json").write_text("{}")
        self.refused(tmp_path / "run", tmp_path, r"run/metrics\.json: missing or damaged")


def test_empty_jets(empty_run, tmp_path):
    folder = prune(PruningStudy(empty_run, tmp_path / "prune", parse_rules(["top_k=2"]), parse_rule("top_k=2"), 20))
    assert {row["kept_mean"] for row in read(folder)} == {"0.0"}


def test_more_classes(tmp_path):
    write_store(tmp_path / "three.h5", toy_jets(90, 4, 3))
    config = settings(tmp_path / "three.h5", tmp_path, "data.signal=null")
    torch.manual_seed(3)
    model = IAFormer("kinpid", "invariant", 3, 8, 2, 2, (5,), (7,), 3)
    jets = JetDataset(toy_jets(90, 4, 3))
    models = variants(model, parse_rules(["top_k=1"]))[:2]
    batches = some_batches(jets, 90)
    rows = measure(models, jets, batches, Run(config, CLASSES[:3], model, None, []), torch.device("cpu"))
    labels = jets.label.numpy()
    one, two = (classify(variant, batches).logits for variant in models)
    assert rows[1].difference == macro_auc_difference(labels, two, one)
    assert list(rows[0].report) == ["accuracy", "auc", "rejection_at_0.5/quark", "rejection_at_0.5/Z"]
    assert rules_table(rows).cells()[0][5:] == [
        "accuracy",
        "AUC",
        "1/eB quark at 0.5",
        "1/eB Z at 0.5",
        "AUC - unpruned",
    ]


def test_two_classes_use_the_signal_of_the_run(tmp_path):
    write_store(tmp_path / "two.h5", toy_jets(80, 4))
    jets, model = JetDataset(toy_jets(80, 4)), tiny()
    models, batches = variants(model, parse_rules(["top_k=1"]))[:2], some_batches(jets, 70)
    assert list(map(len, batches)) == [64, 6]
    for signal in (0, 1):
        config = settings(tmp_path / "two.h5", tmp_path, f"data.signal={CLASSES[signal]}")
        rows = measure(models, jets, batches, Run(config, CLASSES[:2], model, None, []), torch.device("cpu"))
        labels = np.concatenate([batch.y for batch in batches])
        one, two = (classify(variant, batches).logits for variant in models)
        assert rows[1].difference == auc_difference(labels, two, one, signal)
        assert rows[0].difference is None
    _, first, _ = rules_table(rows).cells()
    assert first[:3] == ["unpruned", "1.000", "1.000"]
    assert first[-1] == "-"
    assert len(rules_table(rows).csv().splitlines()) == 3
