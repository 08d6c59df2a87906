"""Selection and merging of jet classes: for example, some of ten, or several merged into one background."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from iagraph.data.jets import Jets, StoreError

Classes = Mapping[str, Sequence[str]]
"""New classes in label order, each with the stored classes it merges."""


def parse_classes(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Parse new classes from command-line arguments: ``QCD,Tbqq``, or ``background=QCD,Zqq`` and ``top=Tbqq,Tbl``.

    Raises:
        StoreError: a name is empty or given twice.
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, merges, listed = text.rpartition("=")
        parts = tuple(part.strip() for part in listed.split(","))
        new = {name.strip(): parts} if merges else {part: (part,) for part in parts}
        if twice := [key for key in new if key in chosen]:
            raise StoreError(f"--classes {text}: names the class {twice[0]} twice; name it once")
        if not all(new) or not all(parts) or len(set(parts)) < len(parts):
            raise StoreError(f"--classes {text}: should be names such as QCD,Tbqq or top=Tbqq,Tbl, each once")
        chosen |= new
    return chosen


class ChosenClasses:
    """A selection of a file's classes.

    Args:
        chosen: the new classes.
        of: the classes of the file; kept unchanged if they already equal the new ones and lack a class to be merged.
        where: the file, for error messages.

    Attributes:
        names: names of the new classes.

    Raises:
        StoreError: the file lacks a class, or a class is part of two new ones.
    """

    def __init__(self, chosen: Classes, of: Sequence[str], where: object) -> None:
        self.names = tuple(chosen)
        parts = [part for listed in chosen.values() for part in listed]
        if tuple(of) == self.names and not set(parts) <= set(of):
            chosen, parts = {name: (name,) for name in of}, list(of)
        if unknown := [part for part in parts if part not in of]:
            raise StoreError(f"{where}: no class {', '.join(unknown)}; available: {', '.join(of)}")
        if twice := [part for part in parts if parts.count(part) > 1]:
            raise StoreError(f"{where}: class {twice[0]} is part of two classes; leave it in one")
        self._label = np.full(len(of), -1, np.int64)
        for label, listed in enumerate(chosen.values()):
            self._label[[list(of).index(part) for part in listed]] = label

    def label(self, label: np.ndarray) -> np.ndarray:
        """New labels for stored ones, int64 [jets]; -1 for jets in no new class."""
        return self._label[label]

    def __call__(self, jets: Jets) -> Jets:
        """The jets of the new classes, relabelled."""
        label = self.label(jets.label)
        kept = jets if (label >= 0).all() else jets.take(label >= 0)
        return replace(kept, label=label[label >= 0], classes=self.names)
