"""Tables with one row per jet: columns of numbers or lists, independent of the file format."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from iagraph.data.jets import StoreError
from iagraph.data.readers.base import refuse


class Ragged(NamedTuple):
    """A list of numbers per jet: ``counts`` [jets] and the concatenated ``values`` [sum(counts)]."""

    counts: np.ndarray
    values: np.ndarray


class ColumnPart(NamedTuple):
    """Some rows of a table: columns with one number per jet, and columns with one list per jet, by name."""

    numbers: dict[str, np.ndarray]
    lists: dict[str, Ragged]


class Table(Protocol):
    """A file with a table of jets, opened only while it is read.

    Attributes:
        path: the file.
        what: description of the table for messages.
        column: the word for its columns in messages, singular and plural.
        names: column names.
        rows: number of jets.
    """

    path: Path
    what: str
    column: tuple[str, str]
    names: Sequence[str]
    rows: int

    def types(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Kind of each column ("number", "list" or "other") and its type in the file, by name."""

    def parts(self, numbers: Sequence[str], lists: Sequence[str], jets_per_part: int) -> Iterator[ColumnPart]:
        """The columns ``numbers`` and ``lists`` for all jets in order, ``jets_per_part`` at a time."""


def check_columns(table: Table, numbers: Sequence[str], lists: Sequence[str], cure: str) -> None:
    """Raise StoreError, its message ending in ``cure``, unless the table has the columns ``numbers``, with one number
    per jet, and ``lists``, with one list of numbers per jet.
    """
    if missing := [name for name in (*lists, *numbers) if name not in table.names]:
        raise StoreError(f"{table.what} lacks the {table.column[1]} {', '.join(missing)}; {cure}")
    types = table.types([*numbers, *lists])
    for expected, text, names in (("number", "one number per jet", numbers), ("list", "a list per jet", lists)):
        for name in names:
            kind, type_name = types[name]
            if kind != expected:
                raise StoreError(f"{table.column[0]} {name} is {type_name}, expected {text}; {cure}")


def same_counts(lists: dict[str, Ragged], begin: int) -> np.ndarray:
    """The number of particles per jet, on which all columns must agree; ``begin`` is the number of the first jet."""
    (first, ragged), *others = lists.items()
    for name, other in others:
        found, expected = other.counts, ragged.counts
        refuse(
            found != expected,
            lambda i, name=name, found=found, expected=expected: (  # type: ignore[misc]
                f"jet {begin + i}: {name} has {found[i]} values, expected {expected[i]} as in {first}"
            ),
        )
    return ragged.counts


def particle_names(offsets: np.ndarray, begin: int) -> Callable[[int], str]:
    """A function that names a particle in messages, given its index; ``begin`` is the number of the first jet."""

    def name(i: int) -> str:
        jet = int(np.searchsorted(offsets, i, side="right")) - 1
        return f"jet {begin + jet}, particle {i - offsets[jet]}"

    return name


def label_of_flags(flags: Sequence[np.ndarray], classes: Sequence[str], what: str, begin: int) -> np.ndarray:
    """The class of each jet from one-hot flags; messages call the flags ``what`` and count jets from ``begin``."""
    stacked = np.stack(flags, axis=1).astype(np.float64)
    is_one = stacked == 1
    refuse(
        (is_one.sum(axis=1) != 1) | ((stacked != 0) & ~is_one).any(axis=1),
        lambda i: (
            f"jet {begin + i}: {what} are {stacked[i].tolist()}, expected 1 for one of {', '.join(classes)} and 0 "
            "for the others"
        ),
    )
    return stacked.argmax(axis=1)
