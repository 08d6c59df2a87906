"""Studies replace earlier studies, and nothing else."""

import json
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from studies.test_study_report import a_section

from iagraph.cli.study import STUDIES_OF_RUNS
from iagraph.studies.output import check_earlier, check_output, check_results
from iagraph.studies.pruning.rules import parse_rule
from iagraph.studies.pruning.study import PruningStudy, prune
from iagraph.studies.report import write_report, write_section, write_study
from iagraph.studies.runs import Plan, open_run
from iagraph.tables import Table
from iagraph.train.folder import RunError


@pytest.fixture(scope="module")
def run(toy_run):
    return open_run(toy_run, 20)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def studied(name, run, folder):
    if name == "prune":
        return pruned(run, folder)
    return import_module(f"iagraph.studies.{name}.study").study(Plan([run], folder, 20))


def pruned(run, folder):
    return prune(PruningStudy(run, folder, [], parse_rule("edge_budget=0.3"), 20))


def thesis(folder):
    (folder / "chapter").mkdir(parents=True)
    (folder / "chapter" / "one.tex").write_text("mine")
    (folder / "figure.png").write_text("mine")


def run_folder(folder):
    folder.mkdir()
    for name in ("config.yaml", "model.pt", "metrics.json"):
        (folder / name).write_text("mine")


def study_with_more(folder):
    folder.mkdir()
    for name in ("report.json", "section.html", "table.md", "my notes.txt"):
        (folder / name).write_text("mine")


def comparison(folder):
    (folder / "iaformer" / "seed-1").mkdir(parents=True)
    for name in ("report.json", "section.html", "iaformer/seed-1/model.pt"):
        (folder / name).write_text("mine")


def a_file(path):
    path.write_text("mine")


@pytest.mark.parametrize("made", [thesis, run_folder, study_with_more, comparison, a_file])
@pytest.mark.parametrize("name", [*STUDIES_OF_RUNS, "prune"])
def test_other_files_are_kept(tmp_path, name, made):
    made(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"/out.*: not of an earlier study, and nothing else is overwritten; [^\n]*$"):
        studied(name, tmp_path / "no run", tmp_path / "out")  # refused before the run is opened
    assert contents(tmp_path) == before


def test_files_added_during_a_study_are_kept(run, tmp_path):
    folder = write_study("sparsity", tmp_path / "a", a_section(), [run], "")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"a/notes\.txt: not of an earlier study"):
        write_study("sparsity", folder, a_section(), [run], "")
    assert (folder / "notes.txt").read_text() == "mine"


def test_studies_of_other_kinds_and_runs_are_kept(run, tmp_path, monkeypatch):
    folder = write_study("sparsity", tmp_path / "a", a_section(), [run], "")
    pruned(run.path, tmp_path / "b")
    before = contents(tmp_path)
    with pytest.raises(RunError, match="/a: holds the study 'sparsity', not 'prune'; give another --out"):
        studied("prune", run.path, folder)
    with pytest.raises(RunError, match="/b: holds the study 'prune', not 'stability'; give another --out"):
        check_earlier(tmp_path / "b", "stability", run.path, more=(".lock",))
    for study, place in (("sparsity", folder), ("prune", tmp_path / "b")):
        with pytest.raises(RunError, match=f"holds this study of {run.path}, not of other; give another --out, or"):
            check_earlier(place, study, Path("other"), more=(".lock",))
        monkeypatch.chdir(run.path.parent)
        check_earlier(place, study, Path(run.path.name), more=(".lock",))  # the same run, from another place
    assert contents(tmp_path) == before
    assert "sparsity" in (write_study("sparsity", folder, a_section(), [run], "") / "report.json").read_text()


@pytest.mark.parametrize("study", ["compare", "curve"])
def test_comparisons_replace_only_comparisons(tmp_path, study):
    names = ("report.json", "table.csv")
    check_results(tmp_path, study, names)
    (tmp_path / "table.csv").write_text("mine")
    for record in ({}, {"study": "prune"}, {"study": {"compare": "curve", "curve": "compare"}[study], "recipes": {}}):
        (tmp_path / "report.json").write_text(json.dumps(record))
        with pytest.raises(RunError, match="not of an earlier study of this kind, and nothing else is overwritten"):
            check_results(tmp_path, study, names)
    for record in ({"recipes": {}}, {"study": study, "recipes": {}}):
        (tmp_path / "report.json").write_text(json.dumps(record))
        check_results(tmp_path, study, names)


@pytest.mark.parametrize("failing", ["tables", "record"])
def test_results_are_written_together_or_not_at_all(tmp_path, monkeypatch, failing):
    folder, first = tmp_path / "a", a_section("First")
    folder.mkdir()
    write_section(folder, first, "", {})
    before = contents(tmp_path)
    if failing == "tables":
        monkeypatch.setattr(Table, "latex", lambda *arguments: 1 / 0)
    other = replace(first, tables={"layers": Table("Other layers.", [{"layer": 7}])})
    with pytest.raises((ZeroDivisionError, TypeError)):
        write_section(folder, other, "", {"bad": object()})
    assert contents(tmp_path) == before


def test_a_report_of_others_is_kept(run, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>\n<html><head><title>Studies of mine</title></head></html>")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"report\.html: not a report of studies, .*; move it, or give another --out$"):
        write_study("sparsity", tmp_path / "a", a_section(), [run], "")
    pruned(run.path, tmp_path / "prune")
    assert contents(tmp_path).items() >= before.items()


def test_a_folder_that_cannot_be_made_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/a/b: cannot make this folder; check the permissions of .*/file, or"):
        check_output(tmp_path / "file" / "a" / "b", "sparsity", Path("run"))
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(RunError, match=r"a/b: cannot make this folder; check the permissions of "):
        check_output(tmp_path / "a" / "b", "sparsity", Path("run"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_earlier_study_survives_a_failed_replacement(run, tmp_path, monkeypatch):
    folder = write_study("sparsity", tmp_path / "a", a_section("First"), [run], "")
    before, rename = contents(tmp_path), Path.rename

    def fail(path, target):
        if path.name == "new":
            raise OSError("the disk is full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_study("sparsity", folder, a_section("Second"), [run], "")
    assert contents(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"a", "report.html"}


def test_relative_folders(run, tmp_path, monkeypatch):
    def written(place):
        folder = write_study(
            "sparsity", Plan([run.path], Path(place), 20).folder, a_section(f"From {place}"), [run], ""
        )
        return (folder / "section.html").read_text()

    monkeypatch.chdir(tmp_path)
    assert "From name" in written("name")
    monkeypatch.chdir(tmp_path / "name")
    assert "From ." in written(".")  # replaces the working folder
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert "From ../empty" in written("../empty")
    assert {path.name for path in tmp_path.iterdir()} == {"name", "empty", "report.html"}


def test_pruning_into_relative_folders(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_report(Path())
    pruned(run.path, Path("name"))
    monkeypatch.chdir(tmp_path / "name")
    pruned(run.path, Path())  # again
    assert (tmp_path / "name" / "table.md").is_file()


def test_the_report_of_a_run_below_the_root(tmp_path):
    write_report(tmp_path, [Path("/run")])
    assert (tmp_path / "report.html").is_file()
