"""Choosing and merging the classes of jets: some of ten, or several as one background."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from iagraph.data.jets import Jets, StoreError

Classes = Mapping[str, Sequence[str]]
"""New classes, in the order of their labels, each with the classes that it is made of."""


def parse_classes(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """New classes by texts of a command line: `QCD,Tbqq`, or `background=QCD,Zqq` and `top=Tbqq,Tbl`.

    Raises:
        StoreError: If a name is empty.
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
    """A choice of the classes of a file.

    Args:
        chosen: The new classes.
        of: The classes of the file. Where they are the new ones already, they stay as they are.
        where: The file, for messages.

    Attributes:
        names: The names of the new classes.

    Raises:
        StoreError: If the file has no class of a name, or a class is in two of the new ones.
    """

    def __init__(self, chosen: Classes, of: Sequence[str], where: object) -> None:
        self.names = tuple(chosen)
        parts = [part for listed in chosen.values() for part in listed]
        if tuple(of) == self.names and not set(parts) <= set(of):
            chosen, parts = {name: (name,) for name in of}, list(of)
        if unknown := [part for part in parts if part not in of]:
            raise StoreError(f"{where}: no class {', '.join(unknown)}; there are {', '.join(of)}")
        if twice := [part for part in parts if parts.count(part) > 1]:
            raise StoreError(f"{where}: class {twice[0]} is part of two classes; leave it in one")
        self._label = np.full(len(of), -1, np.int64)
        for label, listed in enumerate(chosen.values()):
            self._label[[list(of).index(part) for part in listed]] = label

    def label(self, label: np.ndarray) -> np.ndarray:
        """The new labels of jets, int64 [jets]; -1 for those of no new class."""
        return self._label[label]

    def __call__(self, jets: Jets) -> Jets:
        """The jets of the new classes, with their new labels."""
        label = self.label(jets.label)
        kept = jets if (label >= 0).all() else jets.take(label >= 0)
        return replace(kept, label=label[label >= 0], classes=self.names)
