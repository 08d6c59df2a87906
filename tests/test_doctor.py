import runpy
import sys
import time
from importlib.metadata import PackageNotFoundError, packages_distributions
from pathlib import Path

import pytest
import torch

from iagraph import doctor, segment
from iagraph.data import write_store
from iagraph.graph import fully_connected
from iagraph.models.registry import MODELS

SCRIPT = Path(__file__).parents[1] / "scripts" / "doctor.py"


def test_doctor_finds_no_problem(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    start = time.process_time()
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    assert ended.value.code == 0, printed
    assert printed.splitlines()[-1].startswith("0 wrong, after ")
    for what in ("torch: ", "CPU: ", "GPU (CUDA): ", "sums over edges: ", "iagraph[train]: ", "models: ", "layers: "):
        assert f"  {what}" in printed
    assert time.process_time() - start < 120  # of the CPU, whatever else it does


def test_failures_are_reported_and_other_checks_continue(monkeypatch):
    def broken():
        raise ValueError("no\nluck")

    monkeypatch.setattr(doctor, "SELF_TEST", {"first": broken, "second": lambda: "fine"})
    monkeypatch.setattr(doctor, "EXTRAS", ())
    *_, first, second = doctor.examine()
    assert str(first) == "WRONG  first: ValueError: no luck"
    assert str(second) == "ok     second: fine"


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(doctor, "CORE", ("torch", "no-such-package"))
    found = {finding.what: finding for finding in doctor.examine_packages()}
    assert found["no-such-package"] == ("no-such-package", "missing: pip install no-such-package", True, False)
    assert not found["torch"].wrong


def test_incomplete_extras(monkeypatch):
    installed = {"no_such_module": ["Scikit_Learn"], "lightning": ["lightning"]}
    monkeypatch.setattr(doctor, "packages_distributions", lambda: installed)
    finding = doctor.extra("train")
    assert str(finding).startswith("-      iagraph[train]: ")
    state = finding.state
    assert state.startswith("incomplete: filelock (not installed), ")
    assert ", scikit-learn (No module named 'no_such_module'), " in state
    assert "lightning (" not in state
    assert state.endswith("pip install 'iagraph[train]'")


def test_extras_in_a_clone_without_installation_are_unknown(monkeypatch):
    def not_installed(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "requires", not_installed)
    found = doctor.extra("train")
    assert found.lacking
    assert not found.wrong
    assert "iagraph is not installed" in found.state


def test_packages_are_imported_by_the_names_of_their_modules():
    """Of those that the tests need, and so are here."""
    installed = packages_distributions()
    names = {"pytest-xdist": "xdist", "PyYAML": "yaml", "torch-geometric": "torch_geometric", "torch": "torch"}
    assert {package: doctor.module_of(package, installed) for package in names} == names
    with pytest.raises(ImportError, match="not installed"):
        doctor.module_of("no-such-package", installed)
    assert doctor.extra("test").state == "complete"


def test_reason_for_native_sums(monkeypatch):
    monkeypatch.setattr(segment, "UNAVAILABLE", "it is raining")
    assert doctor.sums_over_edges().state == "native: it is raining"
    monkeypatch.setattr(segment, "UNAVAILABLE", "")
    assert doctor.sums_over_edges().state == "torch-scatter"


class TestSelfTestFindsWhatIsBroken:
    def test_jets(self, monkeypatch):
        monkeypatch.setattr(doctor, "write_store", lambda path, jets: write_store(path, jets.take(range(99, -1, -1))))
        with pytest.raises(RuntimeError, match="differ after writing and reading"):
            doctor.SELF_TEST["jets"]()

    def test_models(self, monkeypatch):
        class Ordered(torch.nn.Linear):
            def __init__(self, node_features):
                super().__init__(4, 1)

            def forward(self, jets):
                return jets.momenta.pt[jets.ptr[:-1].clamp(max=19)]  # the first particle decides

        monkeypatch.setattr(doctor, "MODELS", {"ordered": Ordered})
        with pytest.raises(AssertionError):
            doctor.SELF_TEST["models"]()

    def test_gradients(self, monkeypatch):
        class Idle(MODELS["iaformer"]):
            def __init__(self, node_features):
                super().__init__(node_features)
                self.idle = torch.nn.Parameter(torch.zeros(3))

        monkeypatch.setattr(doctor, "MODELS", {"iaformer": Idle})
        with pytest.raises(AssertionError, match="idle"):
            doctor.SELF_TEST["gradients"]()

    def test_layers(self, monkeypatch):
        monkeypatch.setattr(doctor, "fully_connected", lambda ptr: fully_connected(ptr)[:, 1:])
        with pytest.raises(AssertionError):
            doctor.SELF_TEST["layers"]()
