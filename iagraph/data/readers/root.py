"""Trees in ROOT files, one entry per jet: classic ones (TTree) and those of ROOT 7 (RNTuple)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iagraph.data.jets import StoreError
from iagraph.data.readers.base import reading
from iagraph.data.readers.columns import ColumnPart, Ragged

try:
    import awkward as ak
    import uproot
except ImportError as error:
    raise ImportError(f"reading ROOT files needs {error.name}: pip install 'iagraph[data]'") from error

TREES = ("TTree", "ROOT::RNTuple")


class RootTable:
    """A tree in a ROOT file, by name; implements ``Table``.

    Raises:
        StoreError: the tree is missing or empty.
    """

    column = ("branch", "branches")

    def __init__(self, path: Path, tree: str) -> None:
        self.path, self.tree, self.what = path, tree, f"tree '{tree}'"
        with reading(path), self._open() as opened:
            self.names, self.rows = opened.keys(recursive=True, full_paths=False), opened.num_entries
            if not self.rows:  # ROOT first writes an empty tree, which a damaged file may fall back to
                raise StoreError(f"{self.what} has no entries; download or copy it again")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        # uproot would interpret colons, asterisks and protocols in a path. No cache: each part is read once.
        with self.path.open("rb") as binary, uproot.open(binary, array_cache=None) as file:
            found = file.classnames(recursive=True, cycle=False)
            if found.get(self.tree) not in TREES:
                held = ", ".join(f"{name} ({kind})" for name, kind in found.items()) or "nothing"
                raise StoreError(
                    f"holds {held}, expected a tree '{self.tree}' (TTree or RNTuple); for a tree of another name, "
                    "name the branches with --map"
                )
            yield file[self.tree]

    def types(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Kind of each branch ("number", "list" or "other") and its ROOT type, by name."""
        with self._open() as tree:
            return {name: (_kind(tree.arrays([name], entry_stop=0)[name]), tree[name].typename) for name in names}

    def parts(self, numbers: Sequence[str], lists: Sequence[str], jets_per_part: int) -> Iterator[ColumnPart]:
        """The branches ``numbers`` and ``lists`` for all jets in order, ``jets_per_part`` at a time."""
        with self._open() as tree:
            for entries in tree.iterate([*numbers, *lists], step_size=jets_per_part):
                yield ColumnPart(
                    {name: ak.to_numpy(entries[name]) for name in numbers},
                    {
                        name: Ragged(ak.to_numpy(ak.num(entries[name])), ak.to_numpy(ak.flatten(entries[name])))
                        for name in lists
                    },
                )


def _kind(array: Any) -> str:
    """Kind of the branch, from an array without entries."""
    form = array.layout.form
    if form.is_numpy and not form.inner_shape:
        return "number"
    is_list = form.is_list and not form.is_regular and form.content.is_numpy and not form.content.inner_shape
    return "list" if is_list else "other"
