"""Generate the API reference: the public names by topic, and one page per module or package of :mod:`iagraph`.

Names that a package exports (``__all__``) are described under their public names, as in ``iagraph.nn.TopK``; the rest
where they are defined.
"""

import pkgutil
import re
import sys
from importlib import import_module
from inspect import getdoc, isclass
from pathlib import Path
from types import ModuleType

from sphinx.pycode import ModuleAnalyzer

import iagraph

FOLDER = Path(__file__).parent / "api"
AUTOMODULE = """```{{eval-rst}}
.. automodule:: {name}
   :members:
{options}```
"""
INDEX = """# API reference

The public names, by topic. All else is internal and may change in any version.

{topics}
## All modules

With internal names. The map is in [CONTRIBUTING](../../CONTRIBUTING.md).

```{{toctree}}
:maxdepth: 1

{names}
```
"""
TOPICS = {
    "Jets and features": {
        "iagraph.jets": "JetBatch",
        "iagraph.kinematics": "Momenta Impact from_cartesian to_cartesian node_features pair_features NODE_FEATURES "
        "PAIR_FEATURES",
        "iagraph.views": "JetView",
        "iagraph.transforms": "FullyConnected NodeFeatures PairFeatures",
        "iagraph.observables": "observables energy_correlations nsubjettiness",
    },
    "Graphs": {
        "iagraph.graph": "Graph DenseGraph PaddedGraph SparseGraph fully_connected",
        "iagraph.segment": "segment_sum segment_softmax",
        "iagraph.kernels": "use",
    },
    "Layers": {
        "iagraph.nn": "AttentionConv PairAttentionConv DifferentialAttentionConv InteractionAttentionConv "
        "DifferentialTransformerConv EdgeConv SoftmaxDifference PairEncoder ParticleEncoder",
    },
    "Pruning": {"iagraph.nn": "PruningRule Threshold TopK TopP EdgeBudget PairGate"},
    "Models": {
        "iagraph": "load",
        "iagraph.models": "GraphTransformer IAFormer GatedIAFormer CascadedIAFormer PairTransformer "
        "LearnedPairIAFormer InteractionTransformer PlainTransformer ParticleNet ParticleTransformer load_weights "
        "load_weaver save_weaver CheckpointError",
    },
    "Data": {
        "iagraph.data": "Jets JetDataset StoredJets JetSource JetLoader JetStore StoreWriter read_store write_store "
        "store_info StoreInfo StoreError resolve open_jets Reader",
        "iagraph.data.datasets": "TopTagging QuarkGluon JetClass",
    },
    "Metrics": {
        "iagraph.metrics": "Estimate accuracy roc_auc auc_difference macro_auc background_rejection "
        "classification_report",
    },
    "Interpretation": {
        "iagraph.interpret.recording": "record_attention",
        "iagraph.interpret.relevance": "layerwise_relevance integrated_gradients",
        "iagraph.interpret.cka": "linear_cka",
        "iagraph.interpret.explainers": "Explainable",
    },
    "Training and export": {
        "iagraph.train.config": "Config load_config",
        "iagraph.train.run": "train resume",
        "iagraph.train.evaluate": "evaluate",
        "iagraph.export": "export_onnx export_program Comparison ExportError",
    },
    "Testing": {
        "iagraph.testing": "random_jets assert_permutation_invariant assert_batch_independent assert_boost_invariant "
        "assert_all_gradients",
        "iagraph.memory": "tune_memory",
    },
}
"""The public names of each topic, by the module that exports them."""


def write_pages() -> None:
    """Write docs/api, only where something has changed."""
    FOLDER.mkdir(exist_ok=True)
    found = list(pkgutil.walk_packages(iagraph.__path__, "iagraph."))
    modules = [module.name for module in found if module.name != "iagraph.__main__"]
    packages = {module.name for module in found if module.ispkg}
    pages: dict[str, list[str]] = {"iagraph": ["iagraph"]}
    for name in modules:
        parent = name.rpartition(".")[0]
        pages.setdefault(name if name in packages or parent == "iagraph" else parent, []).append(name)
    texts = {page: _page(page, names) for page, names in pages.items()}
    topics = "\n".join(_topic(topic, names) for topic, names in TOPICS.items())
    texts["index"] = INDEX.format(topics=topics, names="\n".join(pages))
    for old in FOLDER.glob("*.md"):
        if old.stem not in texts:
            old.unlink()
    for page, text in texts.items():
        path = FOLDER / f"{page}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _topic(topic: str, modules: dict[str, str]) -> str:
    """A section of the index: each public name, with the first sentence of its docstring."""
    lines = [f"## {topic}\n", "```{eval-rst}"]
    for module, names in modules.items():
        for name in names.split():
            lines += [f":obj:`{module}.{name}`", f"    {_summary(import_module(module), name)}", ""]
    return "\n".join([*lines, "```", ""])


def _summary(module: ModuleType, name: str) -> str:
    member, exported = getattr(module, name), getattr(module, "__all__", [name])
    if name not in exported:
        raise ValueError(f"docs/api_pages.py: {module.__name__} does not export {name}")
    if isclass(member) or callable(member):
        text = getdoc(member) or ""
    else:
        text = "\n".join(ModuleAnalyzer.for_module(module.__name__).find_attr_docs()["", name])
    return re.split(r"(?<=\.)\s(?=[A-Z])", " ".join(text.partition("\n\n")[0].split()))[0]


def _page(page: str, names: list[str]) -> str:
    exported = getattr(import_module(page), "__all__", [])
    parts = [f"# {page}\n"]
    for name in names:
        parent, _, last = name.rpartition(".")
        module = import_module(name)
        if name == page:
            options = ["imported-members:"] if exported and hasattr(module, "__path__") else []
            elsewhere = getattr(import_module(parent), "__all__", []) if parent else []
        else:
            parts.append(f"## {name}\n")
            options, elsewhere = [], exported
        hidden = [item for item in elsewhere if item in vars(module) and item in vars(import_module(parent))]
        if not hasattr(module, "__path__") and hasattr(module, "__all__"):
            options.append("ignore-module-all:")
        if last in elsewhere:  # Sphinx takes a module and a function of one name for the same thing
            parts.append(_members(module, hidden))
            continue
        if hidden:
            options.append(f"exclude-members: {', '.join(hidden)}")
        parts.append(AUTOMODULE.format(name=name, options="".join(f"   :{option}\n" for option in options)))
    return "\n".join(parts)


def _members(module: ModuleType, hidden: list[str]) -> str:
    """Descriptions of the functions and classes of a module, without one of the module."""
    lines = ["```{eval-rst}"]
    for name, member in vars(module).items():
        if getattr(member, "__module__", "") == module.__name__ and not name.startswith("_") and name not in hidden:
            kind = "class" if isclass(member) else "function"
            lines += [f".. auto{kind}:: {module.__name__}.{name}", *["   :members:"] * isclass(member), ""]
    return "\n".join([*lines, "```", ""])


def _resolve(app, env, node, contnode):
    """Resolve a reference to the module that defines a name to the page of the package that exports it."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    package = module.rpartition(".")[0]
    if not package.startswith("iagraph") or name not in getattr(sys.modules.get(package), "__all__", []):
        return None
    role, domain = node["reftype"], env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, role, f"{package}.{name}", node, contnode)


def _skip(app, what, name, obj, skip, options):
    """True for fields of named tuples, which the docstring of the tuple describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda app: write_pages())
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _resolve)
