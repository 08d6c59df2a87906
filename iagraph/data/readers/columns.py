"""Tables of jets, one row each: columns of a number per jet or of a list per jet, whatever file they are in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from iagraph.data.jets import StoreError
from iagraph.data.readers.base import refuse


class Ragged(NamedTuple):
    """A list of numbers per jet: `counts` [jets], and all numbers one after another, `values` [sum(counts)]."""

    counts: np.ndarray
    values: np.ndarray


class ColumnPart(NamedTuple):
    """Some jets of a table: the columns of one number per jet, and those of a list per jet, by their names."""

    numbers: dict[str, np.ndarray]
    lists: dict[str, Ragged]


class Table(Protocol):
    """A file with a table of jets; it is open only while it is looked at.

    Attributes:
        path: The file.
        what: What messages call the table.
        column: What they call its columns: the word for one and for several.
        names: The names of the columns.
        rows: The number of jets.
    """

    path: Path
    what: str
    column: tuple[str, str]
    names: Sequence[str]
    rows: int

    def types(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Of each column "number", "list" or "other", and what its file calls the type."""

    def parts(self, numbers: Sequence[str], lists: Sequence[str], jets_per_part: int) -> Iterator[ColumnPart]:
        """These columns of all jets in order, so many jets at a time."""


def check_columns(table: Table, numbers: Sequence[str], lists: Sequence[str], cure: str) -> None:
    """StoreError unless the table has these columns, of a number and of a list of numbers per jet; `cure` ends it."""
    if missing := [name for name in (*lists, *numbers) if name not in table.names]:
        raise StoreError(f"{table.what} lacks the {table.column[1]} {', '.join(missing)}; {cure}")
    types = table.types([*numbers, *lists])
    for expected, text, names in (("number", "one number per jet", numbers), ("list", "a list per jet", lists)):
        for name in names:
            kind, type_name = types[name]
            if kind != expected:
                raise StoreError(f"{table.column[0]} {name} is {type_name}, expected {text}; {cure}")


def same_counts(lists: dict[str, Ragged], begin: int) -> np.ndarray:
    """The number of particles of each jet, which all columns have to agree on; `begin` is the number of the first."""
    (first, ragged), *others = lists.items()
    for name, other in others:
        found, expected = other.counts, ragged.counts
        refuse(
            found != expected,
            lambda i, name=name, found=found, expected=expected: (  # type: ignore[misc]
                f"jet {begin + i}: {name} has {found[i]} values, expected {expected[i]} as {first} has"
            ),
        )
    return ragged.counts


def label_of_flags(flags: Sequence[np.ndarray], classes: Sequence[str], what: str, begin: int) -> np.ndarray:
    """The class of each jet from one flag per class, 1 for its own and 0 for the others; `what` names the flags."""
    stacked = np.stack(flags, axis=1).astype(np.float64)
    is_one = stacked == 1
    refuse(
        (is_one.sum(axis=1) != 1) | ((stacked != 0) & ~is_one).any(axis=1),
        lambda i: (
            f"jet {begin + i}: {what} are {stacked[i].tolist()}, expected 1 for one of {', '.join(classes)} and 0 for "
            "the others"
        ),
    )
    return stacked.argmax(axis=1)
