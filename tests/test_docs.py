import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

import iagraph
from iagraph.export import export_onnx, export_program
from iagraph.testing import random_jets

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
TRAINED = Path(__file__).parent / "models" / "trained" / "iaformer-0.1.0"


def python_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.stem)
def test_examples_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("qg-001", "tutorial-001"):
        shutil.copytree(TRAINED, tmp_path / "runs" / run)
    if page.stem == "tutorial":  # its test.h5 is written by a command between its examples
        (tmp_path / "data").mkdir()
        shutil.copy(ROOT / "iagraph" / "data" / "samples" / "qg.h5", "data/test.h5")
    if page.stem == "export":
        pytest.importorskip("onnxruntime", reason="exported models need pip install 'iagraph[export]'")
        small = iagraph.load(TRAINED.with_name("plain_transformer-0.1.0"))  # the fastest to export
        jets = [random_jets([3, 2], seed=1)]
        export_onnx(small, Path("tagger.onnx"), jets)
        export_program(small, Path("tagger.pt2"), jets)
    names = {}
    for example in python_of(page):
        exec(compile(example, str(page), "exec"), names)


def test_pages_with_examples_are_known():
    assert {page.stem for page in PAGES if python_of(page)} >= {
        "concepts",
        "own_gnn",
        "layers",
        "running",
        "studies",
        "tutorial",
    }


def test_table_of_graph_or_dense(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["graph_or_dense.py", "--repeats", "2", "--jets", "2"])
    names = runpy.run_path(str(ROOT / "docs" / "graph_or_dense.py"))
    main = names["main"]
    main.__globals__["GRAPHS"] = ((13, 13), (17, 5))
    main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 8 + 2 + 2
    assert "dense blocks" in rows[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_named_by_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`((?:iagraph|configs|scripts|docs|tests)/[\w/.]*\w)`", text)
    here = [link.split("#")[0] for link in re.findall(r"\]\(([^)]*)\)", text) if "://" not in link]
    missing = [name for name in names if not (ROOT / name).exists()]
    missing += [link for link in here if not link.startswith("api/") and not (page.parent / link).exists()]
    assert not missing
