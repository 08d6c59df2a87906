"""Makes the pages of the API reference, one per module and package, from what there is in :mod:`iagraph`.

What a package exports (``__all__``) is described under its public name, ``iagraph.nn.TopK``; the rest where it is
defined.
"""

import pkgutil
import sys
from importlib import import_module
from inspect import isclass
from pathlib import Path
from types import ModuleType

import iagraph

FOLDER = Path(__file__).parent / "api"
AUTOMODULE = """```{{eval-rst}}
.. automodule:: {name}
   :members:
{options}```
"""
INDEX = """# API reference

Every module and what it offers, from the docstrings. The map is in [CONTRIBUTING](../../CONTRIBUTING.md).

```{{toctree}}
:maxdepth: 1

{names}
```
"""


def write_pages() -> None:
    """Writes docs/api, anew where something has changed."""
    FOLDER.mkdir(exist_ok=True)
    found = list(pkgutil.walk_packages(iagraph.__path__, "iagraph."))
    modules = [module.name for module in found if module.name != "iagraph.__main__"]
    packages = {module.name for module in found if module.ispkg}
    pages: dict[str, list[str]] = {"iagraph": ["iagraph"]}
    for name in modules:
        parent = name.rpartition(".")[0]
        pages.setdefault(name if name in packages or parent == "iagraph" else parent, []).append(name)
    texts = {page: _page(page, names) for page, names in pages.items()}
    texts["index"] = INDEX.format(names="\n".join(pages))
    for old in FOLDER.glob("*.md"):
        if old.stem not in texts:
            old.unlink()
    for page, text in texts.items():
        path = FOLDER / f"{page}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _page(page: str, names: list[str]) -> str:
    exported = getattr(import_module(page), "__all__", [])
    parts = [f"# {page}\n"]
    for name in names:
        parent, _, last = name.rpartition(".")
        module = import_module(name)
        if name == page:
            options = ["imported-members:"] if exported else []
            elsewhere = getattr(import_module(parent), "__all__", []) if parent else []
        else:
            parts.append(f"## {name}\n")
            options, elsewhere = [], exported
        hidden = [item for item in elsewhere if item in vars(module)]
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
    """Finds what is described under its public name by the name of where it is defined."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    package = module.rpartition(".")[0]
    if not package.startswith("iagraph") or name not in getattr(sys.modules.get(package), "__all__", []):
        return None
    role, domain = node["reftype"], env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, role, f"{package}.{name}", node, contnode)


def _skip(app, what, name, obj, skip, options):
    """True for the fields of named tuples, which the docstrings of these describe."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda app: write_pages())
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _resolve)
