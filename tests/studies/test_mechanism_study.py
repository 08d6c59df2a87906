import json
import sys

import pytest
from toy_runs import RECIPE

from iagraph.studies.mechanism.study import study
from iagraph.studies.runs import Plan
from iagraph.train.config import load_config
from iagraph.train.folder import RunError
from iagraph.train.run import train_into

TABLES = {"model", "layers", "heads", "circuit", "patched_heads", "patched_stream", "depths", "observables"}


def test_study_writes_tables_and_figures(toy_run, tmp_path):
    folder = study(Plan([toy_run], tmp_path / "mechanism", 80, "typed"))
    report = json.loads((folder / "report.json").read_text())
    tables = report["tables"]
    assert set(tables) == TABLES | {"pair_features"}
    heads = len(tables["heads"])
    assert heads == len(tables["patched_heads"]) == 2 * 8
    assert [row["layer"] for row in tables["layers"]] == ["1", "2"]
    kept = [row for row in tables["circuit"] if row["heads kept"] == heads]
    assert [row["(AUC' - 0.5) / (AUC - 0.5)"]["value"] for row in kept] == [1, 1, 1]
    assert len(report["numbers"]["order"]["zero, by importance"]) == 12
    depths = tables["depths"]
    assert [row["depth"] for row in depths] == ["inputs", "0", "1", "2"]
    assert depths[-1]["AUC, lens"]["value"] == pytest.approx(tables["model"][0]["AUC"]["value"])
    assert depths[0]["AUC, lens"] is None
    assert len(tables["observables"]) == 4 * 4
    assert (folder / "heads_auc.png").is_file()
    assert (folder / "pair_features_encoder.pdf").is_file()
    assert "nan" not in (folder / "table.md").read_text()


def test_part_without_pairs_and_without_fastjet(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjet", None)
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    small = ["model.width=8", "model.heads=2", "model.blocks=1", "model.class_blocks=1", "model.particle_hidden=[7]"]
    more = ["train.epochs=1", "train.device=cpu", f"output={tmp_path}"]
    train_into(tmp_path / "part", load_config(RECIPE.with_name("qg_part_plain.yaml"), [*files, *small, *more]))
    written = []
    monkeypatch.setattr("iagraph.studies.mechanism.study.write_study", lambda *given: written.append(given))
    study(Plan([tmp_path / "part"], tmp_path / "out" / "mechanism", 60))
    ((_, _, section, (run,), _),) = written
    assert run.name == "part"
    assert set(section.tables) == TABLES
    assert [row["layer"] for row in section.tables["layers"].rows] == ["1", "class 1"]
    assert not any(name.startswith("tau") for name in section.tables["observables"].rows[0])
    notes = " ".join(section.notes)
    assert "no pair features" in notes
    assert "FastJet" in notes


def test_unsuitable_runs_are_refused(toy_run, tmp_path):
    with pytest.raises(RunError, match="one run, not 2"):
        study(Plan([toy_run, toy_run], tmp_path / "mechanism", 80))
    with pytest.raises(RunError, match=r"too few for probes; use more \(--jets\)"):
        study(Plan([toy_run], tmp_path / "mechanism", 11))
    assert not (tmp_path / "mechanism").exists()
