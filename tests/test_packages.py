"""The distributions: sdist and wheel."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from iagraph import __version__

ROOT = Path(__file__).parents[1]
SMOKE = """
import torch
import iagraph
from importlib.resources import files
from iagraph.data import JetDataset, read_store, resolve
from iagraph.models import IAFormer

assert "site-packages" in iagraph.__file__, iagraph.__file__
assert (files("iagraph.data") / "cards" / "jetclass.md").read_text().startswith("# JetClass")
jets = JetDataset(read_store(resolve("sample:qg"), "train"))[:16]
torch.manual_seed(0)
model = IAFormer("kinpid", blocks=1, heads=2, width=8)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
losses = []
for step in range(20):
    loss = torch.nn.functional.cross_entropy(model(jets), jets.y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
print(iagraph.__version__)
"""


COMMANDS = """
doctor
recipes
train qg train.epochs=1 data.max_jets=640
evaluate runs/qg-001
predict runs/qg-001 sample:qg --out scores.csv
predict pretrained:qg-lite sample:qg --out pretrained.csv
study prune runs/qg-001 --rules top_k=4 --jets 100
export runs/qg-001 --onnx tagger.onnx
predict tagger.onnx sample:qg --out scores.h5
"""


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_oldest_versions_match_pyproject():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = text[text.index("\ndependencies = [") : text.index("\nexport = [")]  # which needs newer ones
    lower = dict(re.findall(r'"([\w-]+)>=([\d.]+)', needed))
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "tests" / "oldest.txt").read_text(), flags=re.MULTILINE))
    assert len(lower) > 15
    assert {name: pinned[name][: len(version)] for name, version in lower.items()} == lower


def test_citation_and_changelog_are_of_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("repository", ["", "https://host/us/iagraph"])
def test_the_description_on_package_indexes_has_no_relative_links(repository, monkeypatch):
    setuptools = pytest.importorskip("setuptools", reason="builds packages")
    described = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: described.update(arguments))
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    source = re.sub(r'^REPOSITORY = ".*?"', f'REPOSITORY = "{repository}"', source, flags=re.MULTILINE)
    exec(source, {"__file__": str(ROOT / "setup.py")})
    text = described["long_description"]
    assert "docs/tutorial.md" in text
    assert not re.search(r"\]\((?!https://)", text)
    assert ("![A gluon and a quark jet" in text) == bool(repository)
    assert (f"({repository}/blob/HEAD/docs/tutorial.md)" in text) == bool(repository)


@pytest.mark.slow
def test_wheel_and_sdist_are_complete_and_work_outside_the_clone(tmp_path):
    pytest.importorskip("build", reason="python -m build comes with iagraph[dev]")
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    (wheel,), (sdist,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")

    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"iagraph", f"iagraph-{__version__}.dist-info"}
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "iagraph").rglob("*.py")}
    package |= {"iagraph/py.typed", "iagraph/data/samples/qg.h5"}
    package |= {f"iagraph/data/cards/{card.name}" for card in (ROOT / "iagraph" / "data" / "cards").glob("*.md")}
    package |= {f"iagraph/studies/templates/{name}.html" for name in ("report", "section")}
    package |= {"iagraph/interpret/live.html", "iagraph/interpret/live.js"}
    package |= {f"iagraph/recipes/{recipe.name}" for recipe in (ROOT / "configs").glob("*.yaml")}
    package |= {str(path.relative_to(ROOT)) for path in (ROOT / "iagraph" / "pretrained").glob("*/*")}
    assert {name for name in names if name.startswith("iagraph/")} == package
    assert any(name.endswith("LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert package | {"LICENSE", "README.md", "pyproject.toml"} <= inside

    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-I", "-m", "pip", "install", "-c", ROOT / "constraints.txt", wheel)
    assert run(python, "-I", "-c", SMOKE, cwd=tmp_path).strip() == __version__
    run(python, "-I", "-m", "pip", "install", "-c", ROOT / "constraints.txt", f"{wheel}[train,export]")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in COMMANDS.strip().splitlines():
        run(python.with_name("iagraph"), *command.split(), cwd=tmp_path, env=environment)
    assert (tmp_path / "scores.csv").read_text().count("\n") == 18_001
    run(python, "-I", "-m", "pip", "install", "--force-reinstall", "--no-deps", sdist)
    assert run(python, "-I", "-c", SMOKE, cwd=tmp_path).strip() == __version__
