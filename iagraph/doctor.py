"""Diagnosis of an installation: versions, devices, extras, and a self-test of the library."""

from __future__ import annotations

import importlib
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path
from typing import NamedTuple

import torch

from iagraph import __version__, segment
from iagraph.data import read_store, resolve, write_store
from iagraph.graph import fully_connected
from iagraph.models.registry import MODELS
from iagraph.nn import DifferentialAttentionConv
from iagraph.testing import assert_all_gradients, assert_permutation_invariant, random_jets

CORE = ("torch", "torch-geometric", "numpy", "h5py", "pyyaml")
EXTRAS = ("train", "generate", "data", "export", "test")


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        what: what was checked.
        state: what was found.
        wrong: whether this prevents the library from working.
        lacking: whether something optional is missing.
    """

    what: str
    state: str
    wrong: bool = False
    lacking: bool = False

    def __str__(self) -> str:
        return f"{'WRONG' if self.wrong else '-' if self.lacking else 'ok':5}  {self.what}: {self.state}"


def examine() -> Iterator[Finding]:
    """Check versions, devices and extras, then run the self-tests; yield findings one at a time."""
    yield Finding("system", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from examine_packages()
    yield from examine_devices()
    yield sums_over_edges()
    yield from map(extra, EXTRAS)
    for what, test in SELF_TEST.items():
        try:
            state, wrong = test(), False
        except Exception as error:  # reported, whatever it is
            state, wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", True
        yield Finding(what, state, wrong)


def examine_packages() -> Iterator[Finding]:
    """Versions of required packages."""
    yield Finding("iagraph", __version__)
    for package in CORE:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(package, f"missing: pip install {package}", wrong=True)


def examine_devices() -> Iterator[Finding]:
    """CPU and GPUs."""
    yield Finding("CPU", f"{os.cpu_count()} processors, PyTorch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
        yield Finding("GPU (CUDA)", f"{torch.cuda.device_count()} of {', '.join(sorted(names))}")
    else:
        why = "no device or no driver" if torch.version.cuda else "this build of PyTorch has no CUDA"
        yield Finding("GPU (CUDA)", f"none: {why}")
    mps = torch.backends.mps
    why = "" if mps.is_available() else "no such device" if mps.is_built() else "this build of PyTorch has no Metal"
    yield Finding("GPU (Apple, mps)", f"none: {why}" if why else "available")


def sums_over_edges() -> Finding:
    """Which implementation of sums over edges is in use and, if it is not torch-scatter, why not."""
    return Finding("sums over edges", f"native: {segment.UNAVAILABLE}" if segment.UNAVAILABLE else "torch-scatter")


def extra(name: str) -> Finding:
    """Whether the packages of an extra can be imported."""
    problems, installed = [], packages_distributions()
    try:
        requirements = requires("iagraph") or []
    except PackageNotFoundError:  # run in a clone that was not installed
        state = f"unknown, as iagraph is not installed; in its clone: pip install -e '.[{name}]'"
        return Finding(f"iagraph[{name}]", state, lacking=True)
    for requirement in requirements:
        package, _, condition = requirement.partition(";")
        package = re.split(r"[\[<>=!~ ]", package)[0]
        if f'extra == "{name}"' not in condition.replace("'", '"') or package == "iagraph":
            continue
        try:
            importlib.import_module(module_of(package, installed))
        except Exception as error:  # broken packages may raise anything
            problems.append(f"{package} ({' '.join(str(error).split())[:120]})")
    advice = f"pip install 'iagraph[{name}]'"
    state = f"incomplete: {', '.join(problems)}; {advice}" if problems else "complete"
    return Finding(f"iagraph[{name}]", state, lacking=bool(problems))


def module_of(package: str, installed: Mapping[str, list[str]]) -> str:
    """Module name of an installed package, for example xdist for pytest-xdist.

    Args:
        package: name of the package.
        installed: names of the packages that each module belongs to, by module.

    Raises:
        ImportError: the package is not installed.
    """

    def same(name: str) -> str:
        return re.sub(r"[-_.]+", "_", name).lower()

    modules = [name for name, packages in installed.items() if same(package) in map(same, packages)]
    public = [name for name in modules if name.isidentifier() and not name.startswith("_")]
    if not public:
        raise ImportError("not installed")
    return same(package) if same(package) in public else min(public)


def _sample() -> str:
    jets = read_store(resolve("sample:qg"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jets.h5"
        some = jets.part(0, 100)
        write_store(path, some)
        if not (read_store(path).digests() == some.digests()).all():
            raise RuntimeError("jets differ after writing and reading")
    return f"{len(jets):,} jets of the sample are intact, and unchanged by writing and reading"


def _models() -> str:
    jets = random_jets([7, 1, 0, 12], 1, torch.float64)
    for make in MODELS.values():
        torch.manual_seed(1)
        model = make(node_features="kinpid").double().eval()
        assert_permutation_invariant(model, jets, 1e-9)
    return f"{len(MODELS)} models of published size are invariant under permutations"


def _gradients() -> str:
    torch.manual_seed(1)
    model = MODELS["iaformer"](node_features="kinpid").double()
    assert_all_gradients(model, random_jets([7, 5, 12], 1, torch.float64))
    return "all weights of IAFormer have gradients"


def _layers() -> str:
    jets = random_jets([7, 1, 12], 2, torch.float64)
    edges = fully_connected(jets.ptr)
    torch.manual_seed(1)
    model = MODELS["iaformer"](node_features="kinpid").double().eval()
    torch.testing.assert_close(model(jets), model(jets, edges), rtol=0, atol=1e-12)
    conv = DifferentialAttentionConv(5, 6, heads=3, edge_dim=2).double()
    x, edge_attr = torch.randn(20, 5).double(), torch.randn(edges.size(1), 2).double()
    _, (_, alpha) = conv(x, edges, edge_attr, return_attention_weights=True)
    sums = alpha.new_zeros(20, 3).index_add(0, edges[1], alpha)
    torch.testing.assert_close(sums, (1 - conv.beta).expand_as(sums))
    return "dense and sparse graphs agree; weights sum to 1 - beta"


def _devices_agree() -> str:
    available = [name for name, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if module.is_available()]
    jets = random_jets([31, 12, 1], 3)
    torch.manual_seed(1)
    model = MODELS["iaformer"](node_features="kinpid").eval()
    with torch.inference_mode():
        expected = model(jets)
        for device in available:
            found = model.to(device)(jets.to(device)).cpu()
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    return f"{', '.join(available)} gives the logits of the CPU" if available else "CPU only"


SELF_TEST: dict[str, Callable[[], str]] = {
    "jets": _sample,
    "models": _models,
    "gradients": _gradients,
    "layers": _layers,
    "devices": _devices_agree,
}
"""Self-tests by name; each returns a result or raises."""
